//! Entries for the record role, and questions about its log.

use events::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most entries of one answer.
pub const ENTRIES_MAX: u32 = 1000;
/// Most bytes of entries in one answer.
pub const ENTRIES_BYTES_MAX: usize = 4 << 20;
/// Longest name of a file of the log in a question, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What the record role is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RecordAsk {
    /// Make an event durable, then answer.
    Append {
        /// When it happened.
        at: Timestamp,
        /// What happened. Who says so comes from the kernel.
        event: Event,
        /// It was brought before, and nobody heard what became of it: an entry of the same time and words is this one.
        #[serde(default, skip_serializing_if = "is_first")]
        again: bool,
    },
    /// The last entries before a number; all that is durable is put under a checkpoint first.
    Entries {
        /// Entries before this number; from the end, when it is not given.
        before: Option<u64>,
        /// Most entries wanted; at most [`ENTRIES_MAX`].
        limit: u32,
    },
    /// The proof that the log holds an entry.
    Prove {
        /// Its number.
        index: u64,
    },
    /// The checkpoint and the public key; all that is durable is put under the checkpoint first.
    Checkpoint {},
    /// Read and check the whole log.
    Verify {},
    /// A file of the log, for an export: a tile or a bundle, as C2SP tlog-tiles names it.
    File {
        /// Its path.
        name: String,
    },
}

impl RecordAsk {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            RecordAsk::Append { .. } => true,
            RecordAsk::Entries { .. }
            | RecordAsk::Prove { .. }
            | RecordAsk::Checkpoint {}
            | RecordAsk::Verify {}
            | RecordAsk::File { .. } => false,
        }
    }
}

/// What the record role answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordAnswer {
    /// The entry is durable.
    Appended {
        /// Its number in the log.
        index: u64,
    },
    /// Entries.
    Entries(EntriesPage),
    /// A proof.
    Proof(Proof),
    /// The checkpoint.
    Checkpoint(Sealed),
    /// What reading the whole log found.
    Verified(Verified),
    /// A file.
    File {
        /// Its bytes, in base64.
        base64: String,
    },
}

/// Entries, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntriesPage {
    /// The entries, the latest last.
    pub rows: Vec<EntryRow>,
    /// How many entries the log has.
    pub size: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryRow {
    /// Its number.
    pub index: u64,
    /// Its bytes, which are JSON: exactly what is in the tree.
    pub text: String,
}

/// That the log holds an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Number of the entry.
    pub index: u64,
    /// The entry's bytes.
    pub entry: String,
    /// The proof as C2SP tlog-proof writes it.
    pub proof: String,
    /// The log's public key.
    pub key: String,
}

/// What the log commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Entries that it covers.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// The log's public key.
    pub key: String,
}

/// What reading the whole log found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// Entries read.
    pub entries: u64,
    /// Files compared.
    pub files: u64,
    /// What is wrong, one line each; empty means nothing.
    pub faults: Vec<String>,
    /// Faults that are not listed.
    pub more_faults: u64,
}

/// Said only where it is so: a record role of an earlier version takes all else.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_first(again: &bool) -> bool {
    !*again
}
