//! Answers to questions about the log, from its files; these block.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gateway::wire::record::{
    ENTRIES_BYTES_MAX, ENTRIES_MAX, EntriesPage, EntryRow, NAME_BYTES_MAX, Proof, RecordAnswer, Sealed,
    Verified,
};
use gateway::wire::{Answer, Fault, FaultKind};
use record::committer::Handle;
use record::reader::{ReadError, ask};
use record::tile::Tile;
use record::{VerifierKey, View};

use super::facts::Verification;

/// What answers need.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    pub(super) directory: PathBuf,
    pub(super) key: VerifierKey,
    pub(super) handle: Handle,
}

impl Desk {
    /// The last entries before a number.
    pub(super) fn entries(&self, before: Option<u64>, limit: u32) -> Answer {
        self.answer(|view| {
            let size = view.checkpoint().size;
            let end = before.unwrap_or(size).min(size);
            let mut count = u64::from(limit.min(ENTRIES_MAX));
            let mut found = view.entries(end.saturating_sub(count)..end, ENTRIES_BYTES_MAX)?;
            // Bytes run out at the end of a range, and the last entries are wanted: fewer, then.
            while count > 1 && found.last().is_some_and(|(index, _)| index.saturating_add(1) < end) {
                count /= 2;
                found = view.entries(end.saturating_sub(count)..end, ENTRIES_BYTES_MAX)?;
            }
            let row = |(index, bytes): (u64, Vec<u8>)| EntryRow { index, text: text(bytes) };
            Ok(RecordAnswer::Entries(EntriesPage { rows: found.into_iter().map(row).collect(), size }))
        })
    }

    /// The proof of an entry.
    pub(super) fn prove(&self, index: u64) -> Answer {
        self.answer(|view| {
            let proof = view.prove_inclusion(index)?.to_string();
            let entry = view.entries(index..index + 1, ENTRIES_BYTES_MAX)?.pop();
            let entry = text(entry.map(|(_, bytes)| bytes).unwrap_or_default());
            Ok(RecordAnswer::Proof(Proof { index, entry, proof, key: self.key.to_string() }))
        })
    }

    /// The checkpoint, which covers all that is durable now.
    pub(super) fn checkpoint(&self) -> Answer {
        self.answer(|view| {
            let (size, note) = (view.checkpoint().size, view.note().to_owned());
            Ok(RecordAnswer::Checkpoint(Sealed { size, note, key: self.key.to_string() }))
        })
    }

    /// A tile or bundle.
    pub(super) fn file(&self, name: &str) -> Answer {
        let Some(tile) = Tile::from_path(name).filter(|_| name.len() <= NAME_BYTES_MAX) else {
            return failed(FaultKind::BadRequest, format!("`{name}` is not the name of a tile"));
        };
        let file = ask(&self.directory, &self.key, |view| view.file(tile));
        file.map_or_else(
            |error| failed(FaultKind::Failed, error.to_string()),
            |bytes| Answer::Record(RecordAnswer::File { base64: BASE64_STANDARD.encode(bytes) }),
        )
    }

    /// Asks the log's files once everything durable is under a checkpoint.
    fn answer(&self, question: impl FnMut(&mut View) -> Result<RecordAnswer, ReadError>) -> Answer {
        if let Err(error) = self.handle.seal() {
            // The last checkpoint still answers for what it covers.
            tracing::warn!(%error, "the log could not be sealed");
        }
        match ask(&self.directory, &self.key, question) {
            Ok(answer) => Answer::Record(answer),
            Err(error @ ReadError::Beyond { .. }) => failed(FaultKind::BadRequest, error.to_string()),
            Err(error) => failed(FaultKind::Failed, error.to_string()),
        }
    }
}

/// The answer to a verification that somebody asked for.
pub(super) fn verified(verification: &Verification) -> Answer {
    let report = &verification.report;
    Answer::Record(RecordAnswer::Verified(Verified {
        entries: report.entries,
        files: report.files,
        faults: report.faults.iter().map(ToString::to_string).collect(),
        more_faults: report.more_faults,
    }))
}

/// An answer that there is none.
pub(super) fn failed(kind: FaultKind, message: impl Into<String>) -> Answer {
    Answer::Failed(Fault::new(kind, message))
}

/// Entries are JSON; what is not text was damaged, and then the verification says so.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
