//! What all transfers of the role share: directories, settings, what was spent, the way to the log.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use events::{Event, Family, Role, Sample, Tally};
use gateway::recorder::Recorder;
use gateway::store::StoreError;
use gateway::wire::Measured;
use jiff::Timestamp;
use policy::services::{FilesSettings, FilesVendor, SETTINGS_BYTES_MAX};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Semaphore, mpsc};
use transfer::Rules;
use transfer::attestation::Spent;

use super::Places;
use super::journal::{Entry, Journal, remove};
use super::keep::{BUDGET_BYTES, FILE_BYTES_MAX, Keep, directory};
use super::trial::{self, Tried};
use crate::memory;
use crate::server::CLIENTS_OF_A_USER_MAX;

/// Transfers at once; a sender beyond is told to come again.
const TRANSFERS_MAX: usize = 4;
// Edge is one user: with every transfer on its way it must still get a place, if only to hear that it should come again.
const _: () =
    assert!(TRANSFERS_MAX < CLIENTS_OF_A_USER_MAX, "edge may bring every transfer, and ask for one more");
/// After so many told outcomes the journal is tidied, hour or not: it is this much beyond its size at most.
pub(super) const TOLD_MARGIN: usize = 250;
/// Outcomes that wait for the record role.
pub(super) const UNTOLD_MAX: usize = 1024;
/// The settings' file in core's directory of services.
const SETTINGS: &str = "files.json";
/// Nonces of attestations that were used.
const SPENT: &str = "spent.json";
/// Longest file of them.
const SPENT_BYTES_MAX: u64 = 4 << 20;

/// The role's own.
#[derive(Debug)]
pub(super) struct House {
    pub(super) keep: Keep,
    pub(super) journal: Journal,
    pub(super) inspect: PathBuf,
    pub(super) drop: PathBuf,
    pub(super) recorder: Recorder,
    pub(super) places: Arc<Semaphore>,
    /// Sealing takes a file's bytes into memory twice: one at a time.
    pub(super) sealing: Semaphore,
    /// Outcomes on their way to the log.
    pub(super) untold: mpsc::Sender<Entry>,
    /// Outcomes told since the journal was last tidied.
    pub(super) told_since: Cell<usize>,
    pub(super) spent: RefCell<Spent>,
    spent_path: PathBuf,
    settings_path: PathBuf,
    tally: RefCell<Tally>,
    /// How inspection was found when it was last tried.
    pub(super) trial: Cell<Option<Tried>>,
    started_at: Timestamp,
    /// Held for as long as the role runs.
    _lock: File,
}

/// What a former run left for the log.
pub(super) struct Left {
    pub(super) untold: Vec<Entry>,
    pub(super) coming: mpsc::Receiver<Entry>,
}

impl House {
    /// Takes possession of the state directory, and brings every transfer of a former run to its outcome.
    pub(super) fn open(places: &Places<'_>, recorder: Recorder) -> Result<(Self, Left)> {
        let state = places.state;
        let lock = lock(state)?;
        let journal_path = state.join("journal");
        directory(&journal_path, 0o700).context("cannot make the journal")?;
        let journal = Journal::of(journal_path);
        let untold = journal.settle().context("the journal of the transfers cannot be read")?;
        sweep(places.drop).context("the drops cannot be swept")?;
        let keep = Keep::open(state, places.seal_to).context("cannot open what is kept")?;
        let spent_path = state.join(SPENT);
        let spent = spent(&spent_path).context("what was spent cannot be read")?;
        let (sender, coming) = mpsc::channel(UNTOLD_MAX);
        let house = House {
            keep,
            journal,
            inspect: places.inspect.to_owned(),
            drop: places.drop.to_owned(),
            recorder,
            places: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            sealing: Semaphore::new(1),
            untold: sender,
            told_since: Cell::default(),
            spent: RefCell::new(spent),
            spent_path,
            settings_path: places.services.join(SETTINGS),
            tally: RefCell::default(),
            trial: Cell::default(),
            started_at: Timestamp::now(),
            _lock: lock,
        };
        Ok((house, Left { untold, coming }))
    }

    /// What core wrote of the policy in force; read for each transfer anew. No file, or none that can be read, accepts
    /// nothing.
    pub(super) fn settings(&self) -> FilesSettings {
        read_settings(&self.settings_path).unwrap_or_else(|error| {
            tracing::warn!(%error, "there are no settings of core's: no file is accepted");
            FilesSettings { site: String::new(), vendors: Vec::new() }
        })
    }

    /// Vendors that may send files, where core wrote of any.
    pub(super) fn vendors(&self) -> Option<Vec<FilesVendor>> {
        read_settings(&self.settings_path).ok().map(|settings| settings.vendors)
    }

    /// Makes durable which nonces were used: before what they were used for goes on.
    pub(super) fn keep_spent(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&*self.spent.borrow())?;
        let beside = self.spent_path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.spent_path)
    }

    /// Counts an event, and has it recorded as soon as that can be.
    pub(super) fn tell(&self, event: Event) {
        self.count(&event);
        self.recorder.note(event);
    }

    /// Counts an event that was recorded already.
    pub(super) fn count(&self, event: &Event) {
        self.tally.borrow_mut().observe(event);
    }

    /// What the role counted and measured.
    pub(super) fn measured(&self) -> Measured {
        let mut samples = self.tally.borrow().samples();
        samples.extend(self.recorder.samples());
        samples.extend(memory::sample(Role::Files));
        samples.extend(self.gauges());
        samples.extend(trial::sample(self.trial.get()));
        let observations = vec![trial::observed(self.trial.get(), &self.vendors().unwrap_or_default())];
        Measured { role: Role::Files, started_at: self.started_at, samples, observations }
    }

    /// What is held, and the room that it takes.
    fn gauges(&self) -> Vec<Sample> {
        let held = TRANSFERS_MAX.saturating_sub(self.places.available_permits());
        let mut samples =
            vec![gauge(Family::FilesHeld, held as u64), gauge(Family::FilesBudget, BUDGET_BYTES)];
        match self.keep.bytes() {
            Ok(bytes) => samples.push(gauge(Family::FilesBytes, bytes)),
            Err(error) => tracing::warn!(%error, "the room that files take cannot be read"),
        }
        samples
    }

    /// The log has this outcome.
    pub(super) fn told(&self, entry: &Entry) -> io::Result<()> {
        self.journal.told(entry)?;
        self.told_since.set(self.told_since.get().saturating_add(1));
        if self.told_since.get() >= TOLD_MARGIN {
            self.tidy();
        }
        Ok(())
    }

    /// Lets go of what was kept long enough.
    pub(super) fn tidy(&self) {
        // Also when it fails: it is tried again with the next so many, not with each.
        self.told_since.set(0);
        for tidied in [self.keep.prune(SystemTime::now()), self.journal.prune()] {
            if let Err(error) = tidied {
                tracing::warn!(%error, "what was kept long enough cannot be removed");
            }
        }
    }
}

/// What the policy in force accepts of a vendor.
pub(super) fn rules(of: Option<&FilesVendor>) -> Rules {
    let Some(FilesVendor { name: _, accept, attestation_required, max_size_bytes, drop: _ }) = of else {
        return Rules::default();
    };
    let mut accept: std::collections::BTreeSet<String> = accept.iter().cloned().collect();
    // Whoever accepts text accepts plain text.
    if accept.contains("text") {
        accept.insert("log-text".to_owned());
    }
    let max_size_bytes = max_size_bytes.unwrap_or(FILE_BYTES_MAX).min(FILE_BYTES_MAX);
    Rules { accept, attestation_required: *attestation_required, max_size_bytes }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 bytes the last digit is lost anyway")]
fn gauge(family: Family, value: u64) -> Sample {
    Sample::new(family, &[], value as f64)
}

fn lock(state: &Path) -> Result<File> {
    let path = state.join("lock");
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open `{}`", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(StoreError::Locked(state.to_owned()).into()),
    }
}

/// Removes what a former run was killed over while it copied: never what has a name of its own.
fn sweep(root: &Path) -> io::Result<()> {
    let vendors = directories(root)?;
    let below: Vec<PathBuf> =
        vendors.iter().map(|path| directories(path)).collect::<io::Result<Vec<_>>>()?.concat();
    for directory in vendors.into_iter().chain(below) {
        for found in fs::read_dir(&directory)? {
            let path = found?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(".f-") && name.ends_with(".part") {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

fn directories(of: &Path) -> io::Result<Vec<PathBuf>> {
    let found = match fs::read_dir(of) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut directories = Vec::new();
    for entry in found {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}

fn spent(path: &Path) -> io::Result<Spent> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Spent::default()),
        other => other?,
    };
    let mut bytes = Vec::new();
    file.take(SPENT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn read_settings(path: &Path) -> io::Result<FilesSettings> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(SETTINGS_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transfer_and_the_trial_find_an_inspection_with_one_to_spare() {
        let unit = include_str!("../../../../../firmware/units/sekisho-inspect.socket");
        let most = unit.lines().find_map(|line| line.strip_prefix("MaxConnections=")).unwrap();
        assert!(most.parse::<usize>().unwrap() > TRANSFERS_MAX + 1, "{most}");
    }
}
