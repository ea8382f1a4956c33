//! Tests of this crate on the running kernel, each in a network namespace of its own. They need root and skip nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper of a test fails the test"
)]

mod conntrack;
mod deltas;
mod flood;
mod grants;
mod load;
mod log;
mod namespace;
mod roundtrip;
mod sample;
mod tamper;
mod transaction;
