//! The clinic's policy: what may pass, said by people and meant by machines. Pure: no IO, no clock, no randomness.
//!
//! The pipeline, in the order the modules are read:
//! [`raw`] the file as written -> [`resolve`] names to ids, networks to sets -> [`model::Policy`] -> [`check`] findings
//! -> [`compile`] -> [`ruleset::Ruleset`] (target-neutral) -> [`render`] nft text for review.
//! [`eval`] is the reference meaning: `(&Policy, packet, now) -> Verdict`, and shares nothing with [`compile`].

pub mod check;
pub mod compile;
pub mod diagnostic;
pub mod eval;
pub mod guideline;
pub mod ledger;
pub mod model;
pub mod raw;
pub mod render;
pub mod resolve;
pub mod ruleset;
pub mod services;
pub mod space;
pub mod time;

pub use resolve::{Resolved, load};
