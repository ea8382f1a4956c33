//! Opening a log: key, checkpoint, right edge, journal, in this order; each must fit the one before.

use std::fs;
use std::path::Path;

use super::{Budget, CHECKPOINT_FILE, Log, OpenError, edge_tiles, lock};
use crate::checkpoint::Checkpoint;
use crate::disk::{self, Disk, DiskError, failed, taken};
use crate::edge::{Edge, level_count};
use crate::hash::{HASH_BYTES, TreeHash};
use crate::journal::{self, Journal};
use crate::key::{self, KEY_FILE, KeyError};
use crate::note::NoteSigner;
use crate::tile::{Kind, Tile, TileError, decode_entries, decode_hashes};

/// Directories of tiles are no deeper.
const DEPTH_MAX: u32 = 12;

/// What opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The log is new.
    pub created: bool,
    /// Entries that were durable and under no checkpoint yet.
    pub replayed: u64,
    /// Bytes of a write that did not finish; nobody was told that it was durable.
    pub torn_bytes: u64,
    /// There was no journal, as in a log put back from an export: what it may have held is not known.
    pub journal_missing: bool,
}

pub(super) fn open(directory: &Path, budget: Budget) -> Result<(Log, Recovery), OpenError> {
    if !budget.is_sound() {
        return Err(OpenError::Budget);
    }
    let disk = Disk::new(directory)?;
    let lock = lock(&disk)?;
    disk.clear_unfinished()?;
    let is_new = !holds_log(&disk)?;
    let signer = signer(&disk, is_new)?;
    let created = is_new && !disk.exists(CHECKPOINT_FILE)?;
    if created {
        let empty =
            Checkpoint { origin: signer.verifier().name().to_owned(), size: 0, root: TreeHash::empty() };
        disk.write(CHECKPOINT_FILE, empty.sign(&signer).as_bytes())?;
    }
    let sealed = checkpoint(&disk, &signer)?;
    let (edge, bundle) = edge(&disk, &sealed)?;
    let tile_bytes = tidy(&disk, &disk.path("tile"), &sealed, DEPTH_MAX)?;
    let journal_missing = !disk.exists(journal::NAME)?;
    let mut log = Log {
        journal: Journal::open(&disk)?,
        disk,
        signer,
        budget,
        critical_bytes_max: budget.bytes_max,
        edge,
        sealed_bundle_bytes: bundle.len() as u64,
        bundle,
        pending: Vec::new(),
        sealed,
        tile_bytes,
        full: None,
        broken: None,
        _lock: lock,
    };
    let mut recovery = replay(&mut log)?;
    log.set_budget(budget);
    recovery.created = created;
    recovery.journal_missing = journal_missing && !created;
    Ok((log, recovery))
}

/// Whether the directory holds more than the beginnings of a log.
fn holds_log(disk: &Disk) -> Result<bool, DiskError> {
    Ok(disk.exists("tile")? || disk.exists(journal::NAME)? || disk.exists(CHECKPOINT_FILE)?)
}

fn signer(disk: &Disk, is_new: bool) -> Result<NoteSigner, OpenError> {
    match (disk.exists(KEY_FILE)?, is_new) {
        (true, _) => Ok(key::load(disk)?),
        (false, true) => Ok(key::create(disk)?),
        (false, false) => Err(KeyError::Missing(disk.path("").display().to_string()).into()),
    }
}

fn checkpoint(disk: &Disk, signer: &NoteSigner) -> Result<Checkpoint, OpenError> {
    let path = disk.path(CHECKPOINT_FILE);
    let note = match disk::read(&path) {
        Err(error) if error.is_missing() => return Err(OpenError::CheckpointMissing(disk.path(""))),
        other => other?,
    };
    Checkpoint::open(&note, &signer.verifier()).map_err(|source| OpenError::Checkpoint { path, source })
}

/// The right edge of the checkpoint's tree, and the entries of its incomplete bundle, as the files hold them.
fn edge(disk: &Disk, sealed: &Checkpoint) -> Result<(Edge, Vec<u8>), OpenError> {
    let damaged = |why: String| OpenError::Damaged { path: disk.path(""), why };
    let mut levels = vec![Vec::new(); level_count(sealed.size)];
    let mut bundle = Vec::new();
    for (tile, level) in edge_tiles(sealed.size) {
        let bytes = read_tile(disk, tile)?;
        let unfit = |error: TileError| damaged(format!("`{}`: {error}", tile.path().display()));
        match (tile.kind, levels.get_mut(level)) {
            (Kind::Hashes(_), Some(hashes)) => *hashes = decode_hashes(&bytes, tile.width).map_err(unfit)?,
            (Kind::Hashes(_), None) => {}
            (Kind::Entries, _) => {
                decode_entries(&bytes, tile.width).map_err(unfit)?;
                bundle = bytes;
            }
        }
    }
    let edge = Edge::new(sealed.size, levels).filter(|edge| edge.root() == sealed.root);
    let edge = edge.ok_or_else(|| damaged("its last tiles do not add up to its checkpoint".to_owned()))?;
    let width = edge.levels().first().map_or(0, Vec::len) as u64;
    let entries = decode_entries(&bundle, width).unwrap_or_default();
    let is_same = entries.iter().map(|entry| TreeHash::leaf(entry)).eq(edge
        .levels()
        .first()
        .into_iter()
        .flatten()
        .copied());
    if is_same {
        Ok((edge, bundle))
    } else {
        Err(damaged("its last entries are not those of its tree".to_owned()))
    }
}

/// A partial tile, or as much of the full one where that has taken its place already.
fn read_tile(disk: &Disk, tile: Tile) -> Result<Vec<u8>, DiskError> {
    match disk::read(&disk.path(tile.path())) {
        Err(error) if error.is_missing() => {
            let bytes = disk::read(&disk.path(tile.full().path()))?;
            Ok(crate::reader::beginning(tile, bytes))
        }
        other => other,
    }
}

/// Adds up what tiles take, and removes partial ones that this checkpoint does not need.
fn tidy(disk: &Disk, directory: &Path, sealed: &Checkpoint, depth: u32) -> Result<u64, DiskError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed("list", directory))?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry.map_err(failed("list", directory))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(failed("look at", &path))?;
        if metadata.is_dir() {
            if depth > 0 {
                bytes += tidy(disk, &path, sealed, depth - 1)?;
            }
            continue;
        }
        let name = path.strip_prefix(disk.path("")).ok().and_then(Path::to_str);
        match name.and_then(Tile::from_path) {
            Some(tile) if tile != tile.full() && !is_needed(tile, sealed.size) => {
                disk.remove(&tile.path());
            }
            _ => bytes += taken(metadata.len()),
        }
    }
    Ok(bytes)
}

fn is_needed(tile: Tile, size: u64) -> bool {
    edge_tiles(size).any(|(needed, _)| needed == tile)
}

/// Takes up what the journal holds after the checkpoint.
fn replay(log: &mut Log) -> Result<Recovery, OpenError> {
    let bytes = journal::read(&log.disk.path(""))?.unwrap_or_default();
    let found = journal::replay(&bytes, log.sealed.size, log.sealed.root)
        .map_err(|error| OpenError::Damaged { path: log.disk.path(""), why: error.to_string() })?;
    log.journal.resume(&found)?;
    for entry in &found.entries {
        log.grow(entry);
    }
    Ok(Recovery { replayed: found.entries.len() as u64, torn_bytes: found.torn_bytes, ..Recovery::default() })
}

const _: () = assert!(HASH_BYTES == 32, "paths, proofs and frames assume SHA-256");
