//! The data path between real namespaces: with wireguard-go at the other end, and with a client that does what no honest
//! one would. Needs root, and the packages wireguard-go and wireguard-tools.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

mod client;
mod ends;
mod hostile;
mod interop;
mod keys;
mod owner;
mod place;
