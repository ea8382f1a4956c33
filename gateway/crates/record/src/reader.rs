//! Reading a log by its files alone, while another process may append to it: entries and proofs under a checkpoint.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::disk::{self, DiskError};
use crate::hash::{HASH_BYTES, TreeHash};
use crate::log::CHECKPOINT_FILE;
use crate::note::VerifierKey;
use crate::proof::{ConsistencyProof, InclusionProof};
use crate::tile::{
    Kind, Tile, TileError, bundle_with, decode_entries, decode_hashes, entries_in, files_of, tile_with,
};
use crate::tree::{self, Nodes, TILE_HEIGHT, TILE_WIDTH};

/// Tiles kept while one question is answered: more than any proof touches.
const TILES_MAX: usize = 64;

/// How often a question is asked again because the log grew under it.
const TRIES_MAX: u32 = 5;

/// Why a question about a log has no answer.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// The log does not have so many entries.
    #[error("there is no entry {index}: the log's checkpoint covers {size}")]
    Beyond {
        /// What was asked for.
        index: u64,
        /// Entries there are.
        size: u64,
    },
    /// The checkpoint is not the log's.
    #[error("`{}`: {source}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// A file is not what its name says.
    #[error("`{}`: {source}", path.display())]
    Tile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TileError,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Asks a log something at its present checkpoint; again, when the log grew and partial files went while it was read.
///
/// # Errors
/// Those of the question.
pub fn ask<T>(
    directory: &Path,
    key: &VerifierKey,
    mut question: impl FnMut(&mut View) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut tries = 0;
    loop {
        let answer = question(&mut View::open(directory, key)?);
        tries += 1;
        match answer {
            Err(ReadError::Disk(error)) if error.is_missing() && tries < TRIES_MAX => {}
            other => return other,
        }
    }
}

/// A log as one checkpoint shows it.
#[derive(Debug)]
pub struct View {
    directory: PathBuf,
    checkpoint: Checkpoint,
    note: String,
    tiles: BTreeMap<Tile, Vec<TreeHash>>,
}

impl View {
    /// Opens a log at its present checkpoint.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or is not signed by this key.
    pub fn open(directory: &Path, key: &VerifierKey) -> Result<Self, ReadError> {
        let path = directory.join(CHECKPOINT_FILE);
        let note = disk::read(&path)?;
        let checkpoint =
            Checkpoint::open(&note, key).map_err(|source| ReadError::Checkpoint { path, source })?;
        let note = String::from_utf8_lossy(&note).into_owned();
        Ok(View { directory: directory.to_owned(), checkpoint, note, tiles: BTreeMap::new() })
    }

    /// Gives the checkpoint.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Gives the checkpoint as it is signed.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Gives entries, at most as many bytes of them as said but at least one, by their numbers.
    ///
    /// # Errors
    /// When there are not so many, or a bundle cannot be read.
    pub fn entries(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = range.start;
        while next < range.end {
            let tile = bundle_with(self.checkpoint.size, next).ok_or_else(|| self.beyond(next))?;
            let raw = self.read(tile)?;
            let entries = decode_entries(&raw, tile.width).map_err(|source| self.unfit(tile, source))?;
            let skipped = usize::try_from(next % TILE_WIDTH).unwrap_or(usize::MAX);
            for entry in entries.iter().skip(skipped) {
                bytes += entry.len();
                if next >= range.end || (bytes > bytes_max && !found.is_empty()) {
                    return Ok(found);
                }
                found.push((next, entry.to_vec()));
                next += 1;
            }
        }
        Ok(found)
    }

    /// Proves that the log holds an entry.
    ///
    /// # Errors
    /// When there is no such entry, or a tile cannot be read.
    pub fn prove_inclusion(&mut self, index: u64) -> Result<InclusionProof, ReadError> {
        let size = self.checkpoint.size;
        let hashes = tree::inclusion_proof(self, index, size)?.ok_or_else(|| self.beyond(index))?;
        Ok(InclusionProof { index, hashes, checkpoint: self.note.clone() })
    }

    /// Proves that the log of `old` entries was a beginning of this one.
    ///
    /// # Errors
    /// When the log is shorter, or a tile cannot be read.
    pub fn prove_consistency(&mut self, old: u64) -> Result<ConsistencyProof, ReadError> {
        let size = self.checkpoint.size;
        let hashes = tree::consistency_proof(self, old, size)?.ok_or_else(|| self.beyond(old))?;
        Ok(ConsistencyProof { old, hashes, checkpoint: self.note.clone() })
    }

    /// Gives the root over the first `size` entries.
    ///
    /// # Errors
    /// When the log is shorter, or a tile cannot be read.
    pub fn root_at(&mut self, size: u64) -> Result<TreeHash, ReadError> {
        if size > self.checkpoint.size { Err(self.beyond(size)) } else { tree::root(self, size) }
    }

    /// Gives the bytes of a tile or bundle that a log of the checkpoint's size has.
    ///
    /// # Errors
    /// When the log has no such file or it cannot be read.
    pub fn file(&self, tile: Tile) -> Result<Vec<u8>, ReadError> {
        let size = self.checkpoint.size;
        if files_of(size).any(|file| file == tile) {
            return Ok(self.read(tile)?);
        }
        Err(self.beyond(tile.index.saturating_mul(TILE_WIDTH)))
    }

    /// Reads a file, or the beginning of the full one that has taken its place.
    fn read(&self, tile: Tile) -> Result<Vec<u8>, DiskError> {
        match disk::read(&self.directory.join(tile.path())) {
            Err(error) if error.is_missing() && tile != tile.full() => {
                disk::read(&self.directory.join(tile.full().path())).map(|bytes| beginning(tile, bytes))
            }
            other => other,
        }
    }

    fn hashes(&mut self, tile: Tile) -> Result<&[TreeHash], ReadError> {
        if self.tiles.len() >= TILES_MAX {
            self.tiles.clear();
        }
        if !self.tiles.contains_key(&tile) {
            let bytes = self.read(tile)?;
            let hashes = decode_hashes(&bytes, tile.width).map_err(|source| self.unfit(tile, source))?;
            self.tiles.insert(tile, hashes);
        }
        Ok(self.tiles.get(&tile).map(Vec::as_slice).unwrap_or_default())
    }

    fn beyond(&self, index: u64) -> ReadError {
        ReadError::Beyond { index, size: self.checkpoint.size }
    }

    fn unfit(&self, tile: Tile, source: TileError) -> ReadError {
        ReadError::Tile { path: self.directory.join(tile.path()), source }
    }
}

impl Nodes for View {
    type Error = ReadError;

    fn node(&mut self, level: u32, index: u64) -> Result<TreeHash, ReadError> {
        let inner = level % TILE_HEIGHT;
        let first = index << inner;
        let last = first + (1 << inner) - 1;
        let tile =
            tile_with(self.checkpoint.size, level / TILE_HEIGHT, last).ok_or_else(|| self.beyond(last))?;
        let at = usize::try_from(first % TILE_WIDTH).unwrap_or(usize::MAX);
        let hashes = self.hashes(tile)?;
        // The tile was read with its whole width.
        let perfect = hashes.get(at..at + (1 << inner)).unwrap_or_default();
        Ok(TreeHash::perfect(perfect))
    }
}

/// Gives as much of the bytes of a longer file of the same place as this one has.
#[must_use]
pub fn beginning(tile: Tile, mut full: Vec<u8>) -> Vec<u8> {
    let width = usize::try_from(tile.width).unwrap_or(usize::MAX);
    let bytes = match tile.kind {
        Kind::Hashes(_) => width.saturating_mul(HASH_BYTES),
        Kind::Entries => entries_in(&full).take(width).map(|entry| entry.len() + 2).sum(),
    };
    full.truncate(bytes);
    full
}
