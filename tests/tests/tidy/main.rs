//! The house rules that neither rustc nor clippy holds: which crate may know which, how long a function
//! and a file may be, where `unsafe` may stand, and what may not stand anywhere.
//!
//! Each rule is a function from values to complaints, one test that holds it over this repository, and one
//! test that plants a bad sample and expects the complaint. A complaint says where, what, and what to do.

mod bans;
mod engines;
mod graph;
mod manifests;
mod sizes;
mod text;
mod tokens;
mod tree;
