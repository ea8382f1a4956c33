//! Proofs as people carry them: text that anybody can check with the log's public key and nothing else.
//! Inclusion is C2SP tlog-proof; consistency has no such format yet and uses the same shape.

use std::fmt;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash::TreeHash;
use crate::note::VerifierKey;
use crate::tree::{proves_consistency, proves_inclusion};

/// First line of a proof of inclusion.
pub const INCLUSION_HEAD: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof that is read.
pub const PROOF_BYTES_MAX: usize = 64 << 10;
/// Hashes of the longest proof, for a tree of 2^64 entries.
const HASHES_MAX: usize = 64;

/// That a log holds an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Number of the entry.
    pub index: u64,
    /// From the leaf's sibling up.
    pub hashes: Vec<TreeHash>,
    /// The checkpoint that it holds under, signed.
    pub checkpoint: String,
}

/// That a log had its first entries when it was shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// How many entries it had.
    pub old: u64,
    /// As RFC 6962 orders them.
    pub hashes: Vec<TreeHash>,
    /// The checkpoint of the longer log, signed.
    pub checkpoint: String,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// It is not written as a proof.
    #[error("it is not a proof: the first line is not `{INCLUSION_HEAD}`, or a line is not understood")]
    Malformed,
    /// Its checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The entry is not in the log that the checkpoint shows.
    #[error("the entry is not entry {index} of the log under the proof's checkpoint")]
    NotIncluded {
        /// Its number in the proof.
        index: u64,
    },
    /// The logs have not the same beginning.
    #[error("the log of {old} entries is not a beginning of the one under the proof's checkpoint")]
    NotConsistent {
        /// Entries of the shorter log.
        old: u64,
    },
}

impl InclusionProof {
    /// Checks that the log with this key holds the entry; gives the checkpoint under which it does.
    ///
    /// # Errors
    /// When the checkpoint is not the log's or the entry is another.
    pub fn check(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), key)?;
        let leaf = TreeHash::leaf(entry);
        if proves_inclusion(leaf, self.index, checkpoint.size, &self.hashes, checkpoint.root) {
            Ok(checkpoint)
        } else {
            Err(ProofError::NotIncluded { index: self.index })
        }
    }

    /// Reads a proof's text.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let rest = text
            .strip_prefix(INCLUSION_HEAD)
            .and_then(|rest| rest.strip_prefix('\n'))
            .filter(|_| text.len() <= PROOF_BYTES_MAX)
            .ok_or(ProofError::Malformed)?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(ProofError::Malformed)?;
        let mut lines = head.split('\n').peekable();
        let _extra = lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(number);
        let hashes: Option<Vec<_>> = lines.map(TreeHash::from_base64).collect();
        match (index, hashes) {
            (Some(index), Some(hashes)) if hashes.len() <= HASHES_MAX => {
                Ok(InclusionProof { index, hashes, checkpoint: checkpoint.to_owned() })
            }
            _ => Err(ProofError::Malformed),
        }
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{INCLUSION_HEAD}\nindex {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl ConsistencyProof {
    /// Checks that the log of an earlier checkpoint is a beginning of the one under this proof's; gives the latter.
    ///
    /// # Errors
    /// When the checkpoint is not the log's or the beginning is another.
    pub fn check(&self, earlier: &Checkpoint, key: &VerifierKey) -> Result<Checkpoint, ProofError> {
        let later = Checkpoint::open(self.checkpoint.as_bytes(), key)?;
        let is_proved = self.old == earlier.size
            && proves_consistency(self.old, earlier.root, later.size, later.root, &self.hashes);
        if is_proved { Ok(later) } else { Err(ProofError::NotConsistent { old: self.old }) }
    }
}

/// A plain decimal number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}
