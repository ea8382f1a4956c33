//! What became of each transfer, on disk: a file has exactly one outcome, whatever is killed and whenever.
//!
//! An entry is written whole beside its place, made durable, and renamed into it. It goes from `begun` to `over`, by way
//! of `delivering`, which is durable before the delivered file takes its name: so a restart knows what the clinic has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use transfer::{Announcement, Hash, Outcome, TransferId, machine};

/// The format of an entry.
const FORMAT: u32 = 1;
/// Longest entry in bytes.
const ENTRY_BYTES_MAX: u64 = 64 << 10;
/// Entries that are kept after they were told; the log has them all.
const TOLD_MAX: usize = 1000;
/// How the name of an entry ends.
const ENDING: &str = "json";
/// How the name of one that is being written ends.
const UNFINISHED: &str = "new";

/// An entry that could not be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an entry of {0} bytes is above {ENTRY_BYTES_MAX}: not written, report it as a fault of Sekisho")]
struct TooLong(usize);

/// One transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    format: u32,
    /// Its name.
    pub(super) transfer: TransferId,
    /// The session in which it came.
    pub(super) session: String,
    /// The vendor.
    pub(super) vendor: String,
    /// The file's name.
    pub(super) name: String,
    /// The announced hash.
    pub(super) sha256: Hash,
    /// When it began.
    pub(super) began_at: Timestamp,
    /// How far it is.
    pub(super) stage: Stage,
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Stage {
    /// It is held.
    Begun {},
    /// The released file lies, whole and durable, beside its place in the drop.
    Delivering {
        /// There.
        beside: PathBuf,
    },
    /// It has its outcome.
    Over {
        /// Which.
        outcome: Outcome,
        /// Since when. A former version did not write it down.
        #[serde(default = "Timestamp::now")]
        at: Timestamp,
        /// What must be gone from the drop.
        leavings: Vec<PathBuf>,
        /// The log has it.
        told: bool,
    },
}

impl Entry {
    /// The beginning of a transfer.
    pub(super) fn begun(of: &Announcement, began_at: Timestamp) -> Self {
        let Announcement { transfer, session, vendor, name, size_bytes: _, sha256 } = of;
        Entry {
            format: FORMAT,
            transfer: transfer.clone(),
            session: session.clone(),
            vendor: vendor.clone(),
            name: name.to_string(),
            sha256: *sha256,
            began_at,
            stage: Stage::Begun {},
        }
    }

    /// The outcome and since when it is that, if it has one.
    pub(super) fn outcome(&self) -> Option<(Timestamp, &Outcome)> {
        match &self.stage {
            Stage::Over { outcome, at, .. } => Some((*at, outcome)),
            Stage::Begun {} | Stage::Delivering { .. } => None,
        }
    }

    /// The same transfer at another stage.
    pub(super) fn at(&self, stage: Stage) -> Self {
        Entry { stage, ..self.clone() }
    }

    /// The same transfer with its outcome, not told yet.
    pub(super) fn over(&self, outcome: Outcome, leavings: Vec<PathBuf>) -> Self {
        self.at(Stage::Over { outcome, at: Timestamp::now(), leavings, told: false })
    }

    /// The same transfer after a restart: what was unfinished has an outcome now, what had one keeps it.
    fn after_restart(&self) -> Self {
        match &self.stage {
            Stage::Begun {} => self.over(machine::after_restart(None, false), Vec::new()),
            Stage::Delivering { beside } => {
                // Not even knowing is being there: a file that cannot be looked for was not delivered for sure.
                let is_beside = !matches!(beside.try_exists(), Ok(false));
                let outcome = machine::after_restart(Some(self.sha256), is_beside);
                self.over(outcome, vec![beside.clone()])
            }
            Stage::Over { .. } => self.clone(),
        }
    }

    fn is_told(&self) -> bool {
        matches!(self.stage, Stage::Over { told: true, .. })
    }
}

/// The directory of entries.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// In this directory, which is there.
    pub(super) fn of(directory: PathBuf) -> Self {
        Journal { directory }
    }

    /// Makes an entry durable in place of the one before, which stays if that fails.
    pub(super) fn write(&self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.transfer);
        let beside = path.with_extension(UNFINISHED);
        let written = write_beside(&beside, entry).and_then(|()| fs::rename(&beside, &path));
        if written.is_err() {
            // What was written of it would only take the space that is missing; it being gone already is as good.
            let _ = fs::remove_file(&beside);
        }
        written?;
        File::open(&self.directory)?.sync_all()
    }

    /// The log has this outcome.
    pub(super) fn told(&self, entry: &Entry) -> io::Result<()> {
        let mut entry = entry.clone();
        if let Stage::Over { told, .. } = &mut entry.stage {
            *told = true;
        }
        self.write(&entry)
    }

    /// Brings every transfer of a former run to its outcome; gives those whose outcome the log may not have.
    pub(super) fn settle(&self) -> io::Result<Vec<Entry>> {
        self.sweep()?;
        // However many were told, few of them are read into memory.
        self.prune()?;
        let mut untold = Vec::new();
        for entry in self.entries()?.into_iter().filter(|entry| !entry.is_told()) {
            let settled = entry.after_restart();
            if settled != entry {
                self.write(&settled)?;
            }
            if let Stage::Over { leavings, .. } = &settled.stage {
                leavings.iter().try_for_each(|path| remove(path))?;
            }
            untold.push(settled);
        }
        Ok(untold)
    }

    /// Removes what a former run was killed over while it wrote: what stands under its name is whole.
    fn sweep(&self) -> io::Result<()> {
        for found in fs::read_dir(&self.directory)? {
            let path = found?.path();
            if path.extension().is_some_and(|ending| ending == UNFINISHED) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Lets go of the oldest entries that were told, however many there are.
    pub(super) fn prune(&self) -> io::Result<()> {
        let mut told = Vec::new();
        for path in self.paths()? {
            let entry = read(&path)?;
            if entry.is_told() {
                told.push((entry.began_at, path));
            }
        }
        told.sort_unstable();
        let surplus = told.len().saturating_sub(TOLD_MAX);
        told.iter().take(surplus).try_for_each(|(_, path)| remove(path))
    }

    /// All entries, in no order. A damaged one stops the role: nobody may guess an outcome.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        self.paths()?.iter().map(|path| read(path)).collect()
    }

    /// Where the entries are.
    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for found in fs::read_dir(&self.directory)? {
            let path = found?.path();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                paths.push(path);
            }
        }
        Ok(paths)
    }

    fn path(&self, transfer: &TransferId) -> PathBuf {
        self.directory.join(transfer.as_str()).with_extension(ENDING)
    }
}

/// Removes a file; one that is gone is gone.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read(path: &Path) -> io::Result<Entry> {
    let mut bytes = Vec::new();
    File::open(path)?.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes)?;
    let damaged = |why: String| io::Error::other(format!("`{}` is damaged ({why})", path.display()));
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if entry.format != FORMAT {
        return Err(damaged(format!("format {}", entry.format)));
    }
    Ok(entry)
}

fn write_beside(beside: &Path, entry: &Entry) -> io::Result<()> {
    let bytes = serde_json::to_vec(entry)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ENTRY_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong(bytes.len())));
    }
    let mut options = OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(beside)?;
    file.write_all(&bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use gateway::wire::files::VENDOR_BYTES_MAX;
    use transfer::name::NAME_BYTES_MAX;
    use transfer::outcome::{TEXT_MAX, WORD_MAX, WORDS_MAX};
    use transfer::{FileName, Refusal, Unsure};

    use super::*;

    /// Longest path in bytes (PATH_MAX of Linux).
    const PATH_BYTES_MAX: usize = 4096;

    #[test]
    fn the_longest_entry_is_read_back_and_a_longer_one_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::of(directory.path().to_owned());
        let begun = Entry::begun(
            &Announcement {
                transfer: TransferId::from_random([9; 8]),
                session: "s-abcdefghijkl".to_owned(),
                vendor: "\"".repeat(VENDOR_BYTES_MAX),
                name: FileName::parse(&"a".repeat(NAME_BYTES_MAX)).unwrap(),
                size_bytes: u64::MAX,
                sha256: Hash::of(b"x"),
            },
            Timestamp::now(),
        );
        // Four bytes each; and of each byte of a path the longest escape.
        let long = |characters: usize| "\u{1f5c4}".repeat(characters);
        let path = PathBuf::from("\u{1}".repeat(PATH_BYTES_MAX));
        for outcome in [
            Outcome::Quarantined { why: Unsure::Delivery { what: long(TEXT_MAX) } },
            Outcome::Refused { why: Refusal::Kind { kinds: vec![long(WORD_MAX); WORDS_MAX] } },
        ] {
            let entry = begun.over(outcome, vec![path.clone(); 2]);
            journal.write(&entry).unwrap();
            assert_eq!(journal.entries().unwrap(), [entry]);
        }
        let before = journal.entries().unwrap();
        let what = "x".repeat(usize::try_from(ENTRY_BYTES_MAX).unwrap());
        let longer = begun.over(Outcome::Quarantined { why: Unsure::Delivery { what } }, Vec::new());
        let error = journal.write(&longer).unwrap_err();
        assert!(error.get_ref().is_some_and(|why| why.is::<TooLong>()), "{error}");
        assert_eq!(journal.entries().unwrap(), before, "the last one stands");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half-written is left");
    }
}
