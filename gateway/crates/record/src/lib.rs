//! The transparency log on disk: an append-only Merkle tree over opaque entries, in files that any tool for C2SP
//! tlog-tiles reads, durable before an entry is acknowledged, verified by anybody with the files and the public key.
//!
//! - [`log`]: appending, sealing, opening after a crash. [`committer`]: many appenders, one write for all that wait.
//! - [`reader`]: entries and [`proof`]s by the files alone. [`mod@verify`]: everything computed again.
//! - [`hash`], [`tree`], [`edge`]: RFC 6962. [`tile`]: C2SP tlog-tiles. [`note`], [`checkpoint`]: C2SP signed-note and
//!   tlog-checkpoint. [`key`]: the log's key.

pub mod checkpoint;
pub mod committer;
mod disk;
pub mod edge;
pub mod hash;
mod journal;
pub mod key;
pub mod log;
pub mod note;
pub mod proof;
pub mod reader;
pub mod tile;
pub mod tree;
pub mod verify;

/// A verifier in Python, with nothing but its standard library, that knows only what the formats' specifications say: goes
/// with each export, so that nobody has to trust this program.
pub const PYTHON_VERIFIER: &str = include_str!("../verify_tlog.py");

pub use checkpoint::Checkpoint;
pub use committer::Committer;
pub use disk::DiskError;
pub use hash::TreeHash;
pub use journal::JOURNAL_BYTES;
pub use log::{AppendError, Budget, Class, Full, Log, OpenError, Recovery};
pub use note::VerifierKey;
pub use proof::{ConsistencyProof, InclusionProof};
pub use reader::View;
pub use verify::{Report, verify};
