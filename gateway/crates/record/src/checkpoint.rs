//! Checkpoints (C2SP tlog-checkpoint): the size and the root of a log, signed by its key.

use thiserror::Error;

use crate::hash::TreeHash;
use crate::note::{NoteError, NoteSigner, VerifierKey};

/// What a log commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is its key's.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The hash over them.
    pub root: TreeHash,
}

/// Why a checkpoint is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is not signed as it should be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What is signed is no checkpoint.
    #[error("what is signed is not a checkpoint")]
    Malformed,
    /// It is of another log.
    #[error("it is a checkpoint of the log `{0}`")]
    Origin(String),
}

impl Checkpoint {
    /// Gives the signed note.
    #[must_use]
    pub fn sign(&self, signer: &NoteSigner) -> String {
        let Checkpoint { origin, size, root } = self;
        signer.sign(&format!("{origin}\n{size}\n{root}\n"))
    }

    /// Opens a signed note of the log whose key this is. Extension lines are allowed and ignored.
    ///
    /// # Errors
    /// When it is not signed by the key or is not a checkpoint of its log.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Self, CheckpointError> {
        let text = key.open(note)?;
        let checkpoint = parse(text).ok_or(CheckpointError::Malformed)?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Origin(checkpoint.origin))
        }
    }
}

fn parse(text: &str) -> Option<Checkpoint> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    if origin.is_empty() || lines.any(str::is_empty) {
        return None;
    }
    let number: u64 = size.parse().ok()?;
    if number.to_string() != size {
        return None;
    }
    Some(Checkpoint { origin: origin.to_owned(), size: number, root: TreeHash::from_base64(root)? })
}
