//! The transparency log as a whole: formats, trees, its life on disk, tampering, kills.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;
mod formats;
mod full_disk;
mod life;
mod sigkill;
mod tamper;
mod tree;
