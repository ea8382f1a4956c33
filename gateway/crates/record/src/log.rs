//! The log: entries appended in groups, durable when acknowledged, sealed by signed checkpoints.
//!
//! Order of durability: a group is one frame of the journal, synced, then acknowledged. A seal writes tiles and bundles,
//! then the checkpoint, each by rename, and only then are the journal's frames stale. So whatever is cut off where, the
//! checkpoint and the frames after it hold everything acknowledged, and what was not acknowledged harms nothing.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk::{Batch, Disk, DiskError, failed};
use crate::edge::Edge;
use crate::hash::TreeHash;
use crate::journal::{JOURNAL_BYTES, Journal};
use crate::key::KeyError;
use crate::note::{NoteSigner, VerifierKey};
use crate::tile::{ENTRY_BYTES_MAX, Kind, Tile, encode_hashes, push_entry};
use crate::tree::TILE_WIDTH;

mod find;
mod open;

pub use open::Recovery;

/// File of the checkpoint.
pub const CHECKPOINT_FILE: &str = "checkpoint";
/// File whose lock says that the log is in use.
const LOCK_FILE: &str = "lock";
/// Bytes of entries in one write of the journal.
const GROUP_BYTES_MAX: usize = 512 << 10;

/// How much room the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the log may take on disk, its reserve included.
    pub bytes_max: u64,
    /// Bytes kept for critical entries: so much of the budget, and of the journal, which is on disk from the start.
    pub reserve_bytes: u64,
}

impl Budget {
    /// Smallest log: the journal four times.
    pub const BYTES_MIN: u64 = 4 * JOURNAL_BYTES;
    /// Largest reserve: half of the journal.
    pub const RESERVE_BYTES_MAX: u64 = JOURNAL_BYTES / 2;

    /// Gives a budget with the usual reserve; what is too small becomes the smallest.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Budget { bytes_max: bytes_max.max(Self::BYTES_MIN), reserve_bytes: JOURNAL_BYTES / 4 }
    }

    fn is_sound(self) -> bool {
        self.bytes_max >= Self::BYTES_MIN && self.reserve_bytes <= Self::RESERVE_BYTES_MAX
    }
}

/// How much an entry matters when room runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Refused when there is no room but the reserve.
    Ordinary,
    /// Likewise; who asked must not go on without it.
    Gate,
    /// Recorded out of the reserve.
    Critical,
}

/// An entry to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How much it matters.
    pub class: Class,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// The budget is used up.
    #[error("the log has used up its budget on disk")]
    Budget,
    /// The disk has no room.
    #[error("the disk is full")]
    Disk,
}

/// Why an entry is not in the log.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// It is longer than an entry can be.
    #[error("an entry of {0} bytes is above the limit of {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// No room for entries of its class.
    #[error("not recorded: {0}; make room, or raise `log_budget` in the policy")]
    Full(Full),
    /// The disk failed before; what it holds is known again when the log is opened again.
    #[error("not recorded: the log's disk failed ({0}); the log must be opened again")]
    Broken(String),
    /// Too many entries wait.
    #[error("not recorded: too many entries wait for the disk; try again")]
    Busy,
    /// The log is closed.
    #[error("not recorded: the log is closed")]
    Closed,
}

/// Why a log does not open.
#[derive(Clone, Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses the log in `{}`", .0.display())]
    Locked(PathBuf),
    /// The budget makes no sense.
    #[error(
        "a log needs at least {} bytes and a reserve of at most {}",
        Budget::BYTES_MIN,
        Budget::RESERVE_BYTES_MAX
    )]
    Budget,
    /// No key to sign with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A log whose checkpoint is gone.
    #[error("there is a log but no checkpoint in `{}`: put it back from a backup", .0.display())]
    CheckpointMissing(PathBuf),
    /// A checkpoint that this log did not sign.
    #[error("`{}` is not this log's checkpoint: {source}; put both back from one backup", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// Files that do not add up to the checkpoint.
    #[error("the log in `{}` is damaged: {why}; `sekisho audit verify` says where", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// An open log. One process has it; readers need only its files.
#[derive(Debug)]
pub struct Log {
    disk: Disk,
    signer: NoteSigner,
    budget: Budget,
    /// What critical entries may fill. A budget that is set below what the log holds keeps its reserve above that: else the
    /// change that gives more room again could not be recorded.
    critical_bytes_max: u64,
    edge: Edge,
    /// The entries of the incomplete bundle, framed.
    bundle: Vec<u8>,
    /// Full tiles and bundles that are not in place yet.
    pending: Vec<(Tile, Vec<u8>)>,
    journal: Journal,
    sealed: Checkpoint,
    /// What tiles and bundles take.
    tile_bytes: u64,
    /// What the incomplete bundle on disk takes of it; the next checkpoint replaces it.
    sealed_bundle_bytes: u64,
    full: Option<Full>,
    broken: Option<String>,
    /// Held while the log is open.
    _lock: File,
}

impl Log {
    /// Opens the log in a directory, or makes one where nothing is; puts an interrupted write in order.
    ///
    /// # Errors
    /// When another process has it, its key or checkpoint is missing or another's, or its right edge is damaged.
    pub fn open(directory: &Path, budget: Budget) -> Result<(Self, Recovery), OpenError> {
        open::open(directory, budget)
    }

    /// Appends entries in order; those that there is no room for are refused, each by itself. When this returns, the
    /// entries that have a number are durable.
    pub fn append(&mut self, items: &[Item<'_>]) -> Vec<Result<u64, AppendError>> {
        let mut results = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (group, after) = rest.split_at(group_length(rest));
            results.extend(self.append_group(group));
            rest = after;
        }
        results
    }

    /// Puts everything appended under a signed checkpoint.
    ///
    /// # Errors
    /// When the disk has no room or fails. Without room everything stays as it was.
    pub fn seal(&mut self) -> Result<&Checkpoint, AppendError> {
        self.check_sound()?;
        if self.edge.size() == self.sealed.size {
            return Ok(&self.sealed);
        }
        match self.write_checkpoint() {
            Ok(()) => {
                self.full = None;
                Ok(&self.sealed)
            }
            Err(error) if error.is_full() => {
                self.full = Some(Full::Disk);
                // What was written so far takes room that is needed; it is written again with the next try.
                let _ = self.disk.clear_unfinished();
                Err(AppendError::Full(Full::Disk))
            }
            Err(error) => Err(self.break_down(&error)),
        }
    }

    /// Gives the last checkpoint.
    #[must_use]
    pub const fn sealed(&self) -> &Checkpoint {
        &self.sealed
    }

    /// Gives the number of entries, those that no checkpoint covers yet included.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Gives the public half of the key.
    #[must_use]
    pub fn key(&self) -> VerifierKey {
        self.signer.verifier()
    }

    /// Gives the bytes taken on disk, the journal included.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.tile_bytes + JOURNAL_BYTES
    }

    /// Gives why ordinary entries are refused, if those of any length are not taken.
    #[must_use]
    pub fn full(&self) -> Option<Full> {
        let largest = ENTRY_BYTES_MAX as u64;
        self.full.or_else(|| self.over_budget(Class::Ordinary, largest).then_some(Full::Budget))
    }

    /// Gives why nothing can be appended until the log is opened again, if so.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Gives the room it has.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Changes the room it has; a budget that makes no sense changes nothing.
    pub fn set_budget(&mut self, budget: Budget) {
        if budget.is_sound() {
            self.budget = budget;
            self.critical_bytes_max = budget.bytes_max.max(self.held_bytes() + budget.reserve_bytes);
        }
    }

    fn append_group(&mut self, items: &[Item<'_>]) -> Vec<Result<u64, AppendError>> {
        if let Err(error) = self.check_sound() {
            return items.iter().map(|_| Err(error.clone())).collect();
        }
        let all: u64 = items.iter().map(|item| item.bytes.len() as u64 + 2).sum();
        if self.journal.used_bytes() + Journal::frame_bytes(all) > JOURNAL_BYTES - self.budget.reserve_bytes {
            // Makes room in the journal. When it cannot, the admission below says so.
            let _ = self.seal();
        }
        let (mut framed, mut count) = (Vec::new(), 0_u32);
        let first = self.edge.size();
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let admitted = self.admit(item, framed.len()).map(|()| {
                // Its length was looked at by the admission.
                let _ = push_entry(&mut framed, item.bytes);
                count += 1;
                first + u64::from(count) - 1
            });
            results.push(admitted);
        }
        if count == 0 {
            return results;
        }
        if let Err(error) = self.journal.write(&self.disk, first, count, &framed) {
            let error = self.break_down(&error);
            return results.into_iter().map(|result| result.and(Err(error.clone()))).collect();
        }
        for (item, _) in items.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
            self.grow(item.bytes);
        }
        results
    }

    /// Whether there is room for an entry after so many bytes of its group.
    fn admit(&self, item: &Item<'_>, group_bytes: usize) -> Result<(), AppendError> {
        let length = item.bytes.len();
        if length > ENTRY_BYTES_MAX {
            return Err(AppendError::TooLong(length));
        }
        let bytes = group_bytes as u64 + length as u64 + 2;
        let kept = if item.class == Class::Critical { 0 } else { self.budget.reserve_bytes };
        let fits = self.journal.used_bytes() + Journal::frame_bytes(bytes) <= JOURNAL_BYTES - kept;
        match self.full {
            Some(full) if item.class != Class::Critical => Err(AppendError::Full(full)),
            _ if self.over_budget(item.class, bytes) => Err(AppendError::Full(Full::Budget)),
            // The journal runs over only when seals fail.
            _ if !fits => Err(AppendError::Full(Full::Disk)),
            _ => Ok(()),
        }
    }

    fn over_budget(&self, class: Class, bytes: u64) -> bool {
        let most = match class {
            Class::Critical => self.critical_bytes_max,
            Class::Gate | Class::Ordinary => self.budget.bytes_max - self.budget.reserve_bytes,
        };
        self.held_bytes() + bytes > most
    }

    /// What it will take on disk once it is sealed: a checkpoint must not use up what is reserved.
    fn held_bytes(&self) -> u64 {
        let waiting: u64 = self.pending.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.used_bytes().saturating_sub(self.sealed_bundle_bytes) + waiting + self.bundle.len() as u64
    }

    /// Adds an entry that is in the journal to the tree.
    fn grow(&mut self, entry: &[u8]) {
        let _ = push_entry(&mut self.bundle, entry);
        let pending = &mut self.pending;
        self.edge.push(TreeHash::leaf(entry), |tile| {
            let name = Tile { kind: Kind::Hashes(tile.level), index: tile.index, width: TILE_WIDTH };
            pending.push((name, encode_hashes(&tile.hashes)));
        });
        if self.edge.size().is_multiple_of(TILE_WIDTH) {
            let index = self.edge.size() / TILE_WIDTH - 1;
            let name = Tile { kind: Kind::Entries, index, width: TILE_WIDTH };
            self.pending.push((name, std::mem::take(&mut self.bundle)));
        }
    }

    fn write_checkpoint(&mut self) -> Result<(), DiskError> {
        let stale: Vec<Tile> = edge_tiles(self.sealed.size).map(|(tile, _)| tile).collect();
        let mut batch = self.disk.batch();
        for (tile, bytes) in &self.pending {
            batch.add(&tile.path(), bytes)?;
        }
        let size = self.edge.size();
        for (tile, level) in edge_tiles(size) {
            self.add_edge_tile(&mut batch, tile, level)?;
        }
        let written = batch.finish()?;
        let checkpoint = Checkpoint { origin: self.sealed.origin.clone(), size, root: self.edge.root() };
        self.disk.write(CHECKPOINT_FILE, checkpoint.sign(&self.signer).as_bytes())?;
        // From here on the new checkpoint holds: what follows only tidies up.
        self.sealed = checkpoint;
        self.pending.clear();
        self.tile_bytes += written;
        self.sealed_bundle_bytes = self.bundle.len() as u64;
        self.journal.reset(self.sealed.root)?;
        let kept: Vec<Tile> = edge_tiles(size).map(|(tile, _)| tile).collect();
        for tile in stale.into_iter().filter(|tile| !kept.contains(tile)) {
            self.tile_bytes = self.tile_bytes.saturating_sub(self.disk.remove(&tile.path()));
        }
        Ok(())
    }

    fn add_edge_tile(&self, batch: &mut Batch<'_>, tile: Tile, level: usize) -> Result<(), DiskError> {
        match tile.kind {
            Kind::Entries => batch.add(&tile.path(), &self.bundle),
            Kind::Hashes(_) => {
                let hashes = self.edge.levels().get(level).map(Vec::as_slice).unwrap_or_default();
                batch.add(&tile.path(), &encode_hashes(hashes))
            }
        }
    }

    fn check_sound(&self) -> Result<(), AppendError> {
        self.broken.as_ref().map_or(Ok(()), |why| Err(AppendError::Broken(why.clone())))
    }

    /// After a failed write or sync nobody knows what is on disk: nothing more is acknowledged.
    fn break_down(&mut self, error: &DiskError) -> AppendError {
        let why = error.to_string();
        self.broken = Some(why.clone());
        AppendError::Broken(why)
    }
}

/// How many of these entries one write takes: at least one.
fn group_length(items: &[Item<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = items.iter().take_while(|item| {
        bytes += item.bytes.len() + 2;
        bytes <= GROUP_BYTES_MAX
    });
    fitting.count().max(1)
}

/// The partial tiles and the partial bundle of a log of `size` entries, with the level of each.
pub(crate) fn edge_tiles(size: u64) -> impl Iterator<Item = (Tile, usize)> {
    let levels: Range<u32> = 0..u32::try_from(crate::edge::level_count(size)).unwrap_or(0);
    let kinds = std::iter::once((Kind::Entries, 0)).chain(levels.map(|level| (Kind::Hashes(level), level)));
    kinds.filter_map(move |(kind, level)| {
        let hashes = size >> (crate::tree::TILE_HEIGHT * level);
        let (index, width) = (hashes / TILE_WIDTH, hashes % TILE_WIDTH);
        (width > 0).then(|| (Tile { kind, index, width }, usize::try_from(level).unwrap_or_default()))
    })
}

/// Opens the lock file and takes the lock.
fn lock(disk: &Disk) -> Result<File, OpenError> {
    let path = disk.path(LOCK_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(disk.path(""))),
        Err(error) => Err(DiskError::new("lock", &path, error.into()).into()),
    }
}

#[cfg(test)]
mod crash_tests;
