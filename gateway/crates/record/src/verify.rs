//! Verifying a log from its files and its public key alone. Everything is computed again from the entries: every tile,
//! the root of the checkpoint, the roots of earlier checkpoints kept elsewhere; and no file may be there that is not the
//! log's. Memory is bounded; a log that another process appends to may be verified too.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk;
use crate::edge::{Edge, FullTile};
use crate::hash::TreeHash;
use crate::journal::{self, JournalError};
use crate::log::{CHECKPOINT_FILE, edge_tiles};
use crate::note::VerifierKey;
use crate::tile::{Kind, Tile, bundle_with, decode_entries, encode_hashes};
use crate::tree::TILE_WIDTH;

/// Faults told; more are only counted.
pub const FAULTS_MAX: usize = 100;
/// How often verification begins again because the log grew under it.
const TRIES_MAX: u32 = 10;
/// Directories of tiles are no deeper.
const DEPTH_MAX: u32 = 12;

/// What verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint, when its signature is the log's.
    pub checkpoint: Option<Checkpoint>,
    /// Entries read.
    pub entries: u64,
    /// Tiles and bundles compared.
    pub files: u64,
    /// Entries in the journal, which no checkpoint covers yet.
    pub unsealed: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Faults that are not listed.
    pub more_faults: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The checkpoint is missing, unsigned, or another log's.
    #[error("`{CHECKPOINT_FILE}`: {0}")]
    Checkpoint(String),
    /// The tree over the entries is not the one that was signed.
    #[error("the entries do not add up to the checkpoint of {size} entries")]
    Root {
        /// Size in the checkpoint.
        size: u64,
    },
    /// A file cannot be read or is not what its name says.
    #[error("`{}`: {why}", path.display())]
    File {
        /// Its path in the log.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A tile is not what its entries give.
    #[error("`{}` is not what the entries give", .0.display())]
    Tile(PathBuf),
    /// A file that no log has.
    #[error("`{}` does not belong to the log", .0.display())]
    Foreign(PathBuf),
    /// The log is shorter than it was.
    #[error("rolled back: the log had {earlier} entries, now its checkpoint covers {now}")]
    RolledBack {
        /// Size in an earlier checkpoint.
        earlier: u64,
        /// Size now.
        now: u64,
    },
    /// The log has not the beginning that it had.
    #[error("rewritten: the first {earlier} entries are not those of an earlier checkpoint")]
    Rewritten {
        /// Size in the earlier checkpoint.
        earlier: u64,
    },
    /// An earlier checkpoint is not the log's.
    #[error("earlier checkpoint {number}: {source}")]
    Earlier {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The journal is damaged.
    #[error("{0}")]
    Journal(String),
    /// The journal ends in an unfinished write.
    #[error(
        "the journal ends in {0} bytes of an unfinished write: after a power cut this is put in order when the log is opened; else it was edited"
    )]
    Torn(u64),
}

/// Verifies a log. `earlier` are signed checkpoints of it that were kept elsewhere.
#[must_use]
pub fn verify(directory: &Path, key: &VerifierKey, earlier: &[Vec<u8>]) -> Report {
    settle(directory, key, Earlier { notes: earlier, met: None }, Edge::empty(), true).0
}

/// Checkpoints that the log must still hold.
#[derive(Clone, Copy, Debug)]
struct Earlier<'a> {
    /// As they were kept elsewhere.
    notes: &'a [Vec<u8>],
    /// The last one that this process found good.
    met: Option<&'a Checkpoint>,
}

/// Verifies a log again and again; entries under full bundles that were found good are not read a second time.
#[derive(Clone, Debug)]
pub struct Watchdog {
    directory: PathBuf,
    key: VerifierKey,
    /// The tree up to the last full bundle that was good.
    good: Edge,
    /// The last checkpoint that was good: no later one may forget it, also when everything is read again.
    met: Option<Checkpoint>,
}

impl Watchdog {
    /// Begins.
    #[must_use]
    pub fn new(directory: &Path, key: VerifierKey) -> Self {
        Watchdog { directory: directory.to_owned(), key, good: Edge::empty(), met: None }
    }

    /// Verifies everything.
    pub fn check_all(&mut self) -> Report {
        self.check(true)
    }

    /// Verifies what is new since the last time, and that it follows what was good then.
    pub fn check_new(&mut self) -> Report {
        self.check(false)
    }

    fn check(&mut self, is_whole: bool) -> Report {
        let from = if is_whole { Edge::empty() } else { self.good.clone() };
        let earlier = Earlier { notes: &[], met: self.met.as_ref() };
        let (report, good) = settle(&self.directory, &self.key, earlier, from, is_whole);
        // Behind a fault nothing is good: each later run meets it again.
        if report.is_good() {
            self.good = good;
            self.met.clone_from(&report.checkpoint);
        }
        report
    }
}

/// Verifies until the log did not grow meanwhile: partial files go when it grows. Each try goes on behind the last full
/// bundle that was good, so that the tries become short.
fn settle(
    directory: &Path,
    key: &VerifierKey,
    earlier: Earlier<'_>,
    from: Edge,
    is_whole: bool,
) -> (Report, Edge) {
    let (mut from, mut entries, mut tries) = (from, 0, 0);
    loop {
        let start = from.size();
        let (mut report, good) = run(directory, key, earlier, from, is_whole);
        tries += 1;
        if report.is_good() || tries >= TRIES_MAX || !has_grown(directory, &report) {
            report.entries += entries;
            return (report, good);
        }
        entries += good.size() - start;
        from = good;
    }
}

/// Whether the checkpoint is another by now: then partial files may have gone while they were read.
fn has_grown(directory: &Path, report: &Report) -> bool {
    let Some(before) = &report.checkpoint else { return false };
    let note = disk::read(&directory.join(CHECKPOINT_FILE)).unwrap_or_default();
    let text = String::from_utf8_lossy(&note);
    text.lines().nth(1).is_some_and(|size| size != before.size.to_string())
}

fn run(
    directory: &Path,
    key: &VerifierKey,
    earlier: Earlier<'_>,
    from: Edge,
    is_whole: bool,
) -> (Report, Edge) {
    let mut run = Run {
        directory,
        report: Report {
            checkpoint: None,
            entries: 0,
            files: 0,
            unsealed: 0,
            faults: Vec::new(),
            more_faults: 0,
        },
        edge: from.clone(),
        good: from,
        expected: Vec::new(),
    };
    run.read_earlier(key, earlier);
    if let Some(checkpoint) = run.read_checkpoint(key) {
        run.walk(&checkpoint);
        run.check_journal(&checkpoint);
        if is_whole {
            run.look_for_strangers(&directory.join("tile"), &checkpoint, DEPTH_MAX);
        }
        run.report.checkpoint = Some(checkpoint);
    }
    (run.report, run.good)
}

struct Run<'a> {
    directory: &'a Path,
    report: Report,
    edge: Edge,
    /// The edge at the last full bundle.
    good: Edge,
    /// Earlier checkpoints not reached yet, the smallest last.
    expected: Vec<Checkpoint>,
}

impl Run<'_> {
    fn read_earlier(&mut self, key: &VerifierKey, earlier: Earlier<'_>) {
        self.expected.extend(earlier.met.cloned());
        for (number, note) in (1..).zip(earlier.notes) {
            match Checkpoint::open(note, key) {
                Ok(checkpoint) => self.expected.push(checkpoint),
                Err(source) => self.fault(Fault::Earlier { number, source }),
            }
        }
        // Those that an earlier try has met are good.
        let met = self.edge.size();
        self.expected.retain(|checkpoint| met == 0 || checkpoint.size > met);
        self.expected.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.size));
    }

    fn read_checkpoint(&mut self, key: &VerifierKey) -> Option<Checkpoint> {
        let opened = disk::read(&self.directory.join(CHECKPOINT_FILE))
            .map_err(|error| error.to_string())
            .and_then(|note| Checkpoint::open(&note, key).map_err(|error| error.to_string()));
        match opened {
            Ok(checkpoint) => Some(checkpoint),
            Err(why) => {
                self.fault(Fault::Checkpoint(why));
                None
            }
        }
    }

    /// Reads every entry, and compares every tile with what they give.
    fn walk(&mut self, checkpoint: &Checkpoint) {
        let size = checkpoint.size;
        if self.edge.size() > size {
            let earlier = self.edge.size();
            return self.fault(Fault::RolledBack { earlier, now: size });
        }
        self.meet_earlier();
        while let Some(bundle) = bundle_with(size, self.edge.size()) {
            if !self.read_bundle(bundle) {
                return;
            }
        }
        for (tile, level) in edge_tiles(size).filter(|(tile, _)| tile.kind != Kind::Entries) {
            let hashes = self.edge.levels().get(level).cloned().unwrap_or_default();
            self.compare(tile, &encode_hashes(&hashes));
        }
        if self.edge.root() != checkpoint.root {
            self.fault(Fault::Root { size });
        }
        while let Some(Checkpoint { size: earlier, .. }) = self.expected.pop() {
            self.fault(Fault::RolledBack { earlier, now: size });
        }
    }

    /// Takes up a bundle; false when it cannot be read, and nothing after it can be compared.
    fn read_bundle(&mut self, bundle: Tile) -> bool {
        let Some(bytes) = self.read(bundle) else { return false };
        let entries = match decode_entries(&bytes, bundle.width) {
            Ok(entries) => entries,
            Err(error) => {
                self.fault(Fault::File { path: bundle.path(), why: error.to_string() });
                return false;
            }
        };
        self.report.files += 1;
        let mut full = Vec::new();
        for entry in entries {
            self.edge.push(TreeHash::leaf(entry), |tile| full.push(tile));
            self.report.entries += 1;
            self.meet_earlier();
        }
        for FullTile { level, index, hashes } in full {
            let tile = Tile { kind: Kind::Hashes(level), index, width: TILE_WIDTH };
            self.compare(tile, &encode_hashes(&hashes));
        }
        if bundle.width == TILE_WIDTH && self.report.is_good() {
            self.good = self.edge.clone();
        }
        true
    }

    /// Compares the tree so far with earlier checkpoints of this size.
    fn meet_earlier(&mut self) {
        let size = self.edge.size();
        while let Some(earlier) = self.expected.pop_if(|earlier| earlier.size == size) {
            if earlier.root != self.edge.root() {
                self.fault(Fault::Rewritten { earlier: size });
            }
        }
    }

    fn compare(&mut self, tile: Tile, expected: &[u8]) {
        let Some(bytes) = self.read(tile) else { return };
        self.report.files += 1;
        if bytes != expected {
            self.fault(Fault::Tile(tile.path()));
        }
    }

    /// A file's bytes, or the beginning of the full file that has taken its place.
    fn read(&mut self, tile: Tile) -> Option<Vec<u8>> {
        let read = |tile: Tile| disk::read(&self.directory.join(tile.path()));
        let bytes = match read(tile) {
            Err(error) if error.is_missing() && tile != tile.full() => {
                read(tile.full()).map(|bytes| crate::reader::beginning(tile, bytes)).map_err(|_| error)
            }
            other => other,
        };
        bytes.map_err(|error| self.fault(Fault::File { path: tile.path(), why: error.to_string() })).ok()
    }

    fn check_journal(&mut self, checkpoint: &Checkpoint) {
        let mut before = None;
        loop {
            let bytes = match journal::read(self.directory) {
                Ok(Some(bytes)) => bytes,
                // An exported log has none.
                Ok(None) => return,
                Err(error) => return self.fault(Fault::Journal(error.to_string())),
            };
            let fault = match journal::replay(&bytes, checkpoint.size, checkpoint.root) {
                Ok(replay) => {
                    self.report.unsealed = replay.entries.len() as u64;
                    (replay.torn_bytes > 0).then_some(Fault::Torn(replay.torn_bytes))
                }
                Err(error @ (JournalError::Length(_) | JournalError::Head | JournalError::Damaged(_))) => {
                    Some(Fault::Journal(error.to_string()))
                }
            };
            let Some(fault) = fault else { return };
            // A write that was on its way while it was read is there the next time; damage stays as it is.
            if before.as_ref() == Some(&bytes) {
                return self.fault(fault);
            }
            before = Some(bytes);
        }
    }

    /// Finds files that a log of this size does not have. What an interrupted seal left at the right edge is no fault.
    fn look_for_strangers(&mut self, directory: &Path, checkpoint: &Checkpoint, depth: u32) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && depth > 0 {
                self.look_for_strangers(&path, checkpoint, depth - 1);
                continue;
            }
            let name = path.strip_prefix(self.directory).unwrap_or(&path);
            let tile = name.to_str().and_then(Tile::from_path);
            if !tile.is_some_and(|tile| belongs(tile, checkpoint.size)) {
                let name = name.to_owned();
                self.fault(Fault::Foreign(name));
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.report.faults.len() < FAULTS_MAX {
            self.report.faults.push(fault);
        } else {
            self.report.more_faults += 1;
        }
    }
}

/// Whether a log that has, had, or was about to have this many entries has this file.
fn belongs(tile: Tile, size: u64) -> bool {
    let level = match tile.kind {
        Kind::Entries => 0,
        Kind::Hashes(level) => level,
    };
    let hashes = size.checked_shr(crate::tree::TILE_HEIGHT * level).unwrap_or(0);
    let full = hashes / TILE_WIDTH;
    // Left of the edge only full tiles; at the edge and, for a seal that was cut off, right of it, any.
    if tile.index < full {
        tile == tile.full() || tile.index + 1 == full
    } else {
        tile.index <= full + UNFINISHED_TILES
    }
}

/// Tiles that a seal may have put in place before it was cut off: those of a whole journal of empty entries.
const UNFINISHED_TILES: u64 = journal::JOURNAL_BYTES / (2 * TILE_WIDTH);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "{fault}")?;
        }
        if self.more_faults > 0 {
            writeln!(f, "and {} more", self.more_faults)?;
        }
        Ok(())
    }
}
