//! The state directory: what must survive a power cut. Every file is written whole beside its place, made durable, and
//! renamed into it; a file that cannot be read is kept aside and never guessed at.
//!
//! - `applied`: the last policy that was read back from the kernel and acknowledged.
//! - `candidate`: the policy on its way; renamed to `applied` by [`Store::commit`], which needs no more space.
//! - `ledger-floor`: marks below were used; durable before the kernel sees a mark.
//! - `time`: up to when the clock was known to be good.
//! - `persons`, `engineers`, `sessions`, `grant-marks`: what the doors keep; see [`DoorFile`].
//! - `lock`: held by the one daemon that may write here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use policy::ledger::Ledger;
use policy::ruleset::RulesetId;
use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wire::SourceTexts;

/// The format of `applied` and `candidate`.
const FORMAT: u32 = 1;
/// Longest file read back.
const FILE_BYTES_MAX: u64 = 512 << 20;
const APPLIED: &str = "applied";
const CANDIDATE: &str = "candidate";
const LEDGER_FLOOR: &str = "ledger-floor";
const TIME: &str = "time";
/// Between the name of a file that was kept aside and its number.
const ASIDE: &str = ".damaged-";

/// A policy at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Version of this format.
    format: u32,
    /// The policy's text.
    pub sources: SourceTexts,
    /// The ledger after its compilation.
    pub ledger: Ledger,
    /// The rule set it compiled to.
    pub ruleset: RulesetId,
    /// When it was asked for: the policy is read as of this time, so that what was valid then still loads.
    pub applied_at: Timestamp,
    /// User id of whoever asked.
    pub applied_by: u32,
}

impl Stored {
    /// A policy to be written.
    #[must_use]
    pub fn new(
        sources: SourceTexts,
        ledger: Ledger,
        ruleset: RulesetId,
        applied_at: Timestamp,
        applied_by: u32,
    ) -> Self {
        Stored { format: FORMAT, sources, ledger, ruleset, applied_at, applied_by }
    }
}

/// Up to when the clock was known to be good, and on which boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRecord {
    /// The time then.
    pub floor: Timestamp,
    /// The kernel's identity of the boot.
    pub boot: String,
    /// Seconds since boot then.
    pub uptime_s: u64,
}

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another daemon holds the lock.
    #[error("another sekishod uses `{}`: stop it first (systemctl stop sekisho-core)", .0.display())]
    Locked(PathBuf),
    /// The disk is full.
    #[error("no space left on the disk that holds `{}`: free some, then try again", .0.display())]
    Full(PathBuf),
    /// Any other failure.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what it should; it was kept aside.
    #[error("`{}` is damaged ({why}); it is kept as `{}`", path.display(), kept.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file was damaged and kept aside at some time before, and nothing has taken its place.
    #[error("`{}` is missing: it was damaged, and is kept as `{}`", path.display(), kept.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept: PathBuf,
    },
}

impl StoreError {
    /// What somebody can do about a file of the doors that cannot be read.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            StoreError::Damaged { .. } | StoreError::Lost { .. } => {
                "restore a backup that holds it (sekisho restore), put the file that was kept aside back if another version \
                 wrote it, or remove it to begin without what it held"
            }
            StoreError::Locked(_) | StoreError::Full(_) | StoreError::Io { .. } => {
                "mend what keeps it from being read"
            }
        }
    }
}

/// What core keeps of the doors, a file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorFile {
    /// Second factors of persons.
    Persons,
    /// The maintenance authority, with its key.
    Authority,
    /// Engineers and invitations.
    Engineers,
    /// Ids of sessions that are not over.
    Sessions,
    /// The first mark that no grant ever had.
    GrantMarks,
}

impl DoorFile {
    /// Those without which the doors stay shut: nothing counts by the ids of sessions that are over.
    const NEEDED: [DoorFile; 4] =
        [DoorFile::Persons, DoorFile::Authority, DoorFile::Engineers, DoorFile::GrantMarks];

    const fn name(self) -> &'static str {
        match self {
            DoorFile::Persons => "persons",
            DoorFile::Authority => "authority",
            DoorFile::Engineers => "engineers",
            DoorFile::Sessions => "sessions",
            DoorFile::GrantMarks => "grant-marks",
        }
    }
}

/// The state directory, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the directory (making it, mode 0700) and locks it.
    ///
    /// # Errors
    /// When another daemon holds it or it cannot be written.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |doing| move |source| io_error(doing, directory, source);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create"))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io_error("open", &path, source))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Store { directory: directory.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(directory.to_owned())),
            Err(errno) => Err(io_error("lock", &path, errno.into())),
        }
    }

    /// The last applied policy, if there is one.
    ///
    /// # Errors
    /// When the file is damaged (it is then kept aside) or cannot be read.
    pub fn applied(&self) -> Result<Option<Stored>, StoreError> {
        let stored: Option<Stored> = self.read_json(APPLIED)?;
        match stored {
            Some(stored) if stored.format != FORMAT => {
                let why = format!("its format is {}, this version reads {FORMAT}", stored.format);
                Err(self.set_aside(APPLIED, why))
            }
            other => Ok(other),
        }
    }

    /// Keeps `applied` aside because its policy cannot be used.
    pub fn reject_applied(&self, why: String) -> StoreError {
        self.set_aside(APPLIED, why)
    }

    /// Makes a candidate durable, and before it the floor of its ledger.
    ///
    /// # Errors
    /// When anything could not be made durable; `applied` is untouched.
    pub fn persist(&self, candidate: &Stored) -> Result<(), StoreError> {
        self.raise_floor(candidate.ledger.next())?;
        self.write_json(CANDIDATE, candidate)
    }

    /// Makes the durable candidate the applied policy.
    ///
    /// # Errors
    /// When the rename could not be made durable.
    pub fn commit(&self) -> Result<(), StoreError> {
        let to = self.path(APPLIED);
        fs::rename(self.path(CANDIDATE), &to).map_err(|source| io_error("replace", &to, source))?;
        self.sync_directory()
    }

    /// Writes the applied policy as a whole.
    ///
    /// # Errors
    /// When it could not be made durable; the old one is then still there.
    pub fn write_applied(&self, applied: &Stored) -> Result<(), StoreError> {
        self.write_json(APPLIED, applied)
    }

    /// Removes the applied policy.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub fn forget_applied(&self) -> Result<(), StoreError> {
        let path = self.path(APPLIED);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path, source)),
            _ => self.sync_directory(),
        }
    }

    /// The lowest mark that was never used.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn floor(&self) -> Result<u32, StoreError> {
        Ok(self.read_json(LEDGER_FLOOR)?.unwrap_or(0))
    }

    /// The last record of a good clock.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn time(&self) -> Result<Option<TimeRecord>, StoreError> {
        self.read_json(TIME)
    }

    /// Records that the clock is good.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub fn record_time(&self, record: &TimeRecord) -> Result<(), StoreError> {
        self.write_json(TIME, record)
    }

    /// What was kept of the doors; `None` on a box that never kept it. A file kept aside is missed until another takes its
    /// place or somebody removes it: else a revoked key would be forgotten by starting twice.
    ///
    /// # Errors
    /// When the file is damaged (it is then kept aside), was so at some time before, or cannot be read.
    pub fn door<T: DeserializeOwned>(&self, file: DoorFile) -> Result<Option<T>, StoreError> {
        let name = file.name();
        match self.read_json(name)? {
            Some(value) => Ok(Some(value)),
            None => match kept_aside(&self.directory, name)? {
                Some(kept) => Err(StoreError::Lost { path: self.path(name), kept }),
                None => Ok(None),
            },
        }
    }

    /// Keeps something of the doors.
    ///
    /// # Errors
    /// When it could not be made durable; what was kept before is then still there.
    pub fn keep_door(&self, file: DoorFile, value: &impl Serialize) -> Result<(), StoreError> {
        self.write_json(file.name(), value)
    }

    fn raise_floor(&self, next: u32) -> Result<(), StoreError> {
        if self.floor()? < next { self.write_json(LEDGER_FLOOR, &next) } else { Ok(()) }
    }

    fn read_json<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, StoreError> {
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("open", &path, source)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|source| io_error("read", &path, source))?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.set_aside(name, error.to_string())),
        }
    }

    fn write_json(&self, name: &'static str, value: &impl Serialize) -> Result<(), StoreError> {
        let beside = self.path(&format!(".{name}.new"));
        let result = self.write_beside(&beside, value).and_then(|()| {
            let to = self.path(name);
            fs::rename(&beside, &to).map_err(|source| io_error("replace", &to, source))?;
            self.sync_directory()
        });
        if result.is_err() {
            // What was written of it would only take the space that is missing; it being gone already is as good.
            let _ = fs::remove_file(&beside);
        }
        result
    }

    fn write_beside(&self, beside: &Path, value: &impl Serialize) -> Result<(), StoreError> {
        let failed = |source| io_error("write", beside, source);
        let bytes = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(true).write(true).mode(0o600).open(beside).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)
    }

    fn set_aside(&self, name: &'static str, why: String) -> StoreError {
        let path = self.path(name);
        let kept = self.free_name(name);
        match fs::rename(&path, &kept).map_err(|source| io_error("keep aside", &path, source)) {
            Ok(()) => StoreError::Damaged { path, kept, why },
            Err(error) => error,
        }
    }

    fn free_name(&self, name: &str) -> PathBuf {
        let numbered = |number: u32| self.path(&format!("{name}{ASIDE}{number}"));
        (1..1000).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(0))
    }

    fn sync_directory(&self) -> Result<(), StoreError> {
        let failed = |source| io_error("make durable", &self.directory, source);
        File::open(&self.directory).map_err(failed)?.sync_all().map_err(failed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Makes sure that no file without which the doors stay shut is missed in a state directory, as [`Store::door`] finds it.
///
/// # Errors
/// [`StoreError::Lost`] for the first that is, or when the directory cannot be read.
pub(crate) fn misses_no_door(directory: &Path) -> Result<(), StoreError> {
    for file in DoorFile::NEEDED {
        let path = directory.join(file.name());
        match kept_aside(directory, file.name())? {
            Some(kept) if !path.exists() => return Err(StoreError::Lost { path, kept }),
            _ => (),
        }
    }
    Ok(())
}

/// A file that was kept aside under this name: the last one, where there are several.
fn kept_aside(directory: &Path, name: &str) -> Result<Option<PathBuf>, StoreError> {
    let failed = |source| io_error("list", directory, source);
    let prefix = format!("{name}{ASIDE}");
    let mut last = None;
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let file_name = entry.file_name();
        let number = file_name.to_str().and_then(|file_name| file_name.strip_prefix(&prefix));
        if let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) {
            last = last.max(Some((number, entry.path())));
        }
    }
    Ok(last.map(|(_, path)| path))
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(path.to_owned()),
        _ => StoreError::Io { doing, path: path.to_owned(), source },
    }
}
