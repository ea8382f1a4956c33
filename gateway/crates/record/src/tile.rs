//! Files of a log as C2SP tlog-tiles names and fills them: tiles of hashes, bundles of entries, whole or partial.

use std::path::PathBuf;

use thiserror::Error;

use crate::hash::{HASH_BYTES, TreeHash};
use crate::tree::{TILE_HEIGHT, TILE_WIDTH};

/// Longest entry: a bundle tells lengths in two bytes.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// Longest file of a log that is read: a full bundle of longest entries.
pub const FILE_BYTES_MAX: u64 = TILE_WIDTH * (ENTRY_BYTES_MAX as u64 + 2);
/// Highest level of tiles that a log of 2^63 entries needs.
const LEVEL_MAX: u32 = 7;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Entries.
    Entries,
    /// Hashes of a level.
    Hashes(u32),
}

/// The name of a tile or bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place in its level.
    pub index: u64,
    /// How many hashes or entries it holds, from 1 to 256.
    pub width: u64,
}

impl Tile {
    /// Gives the path below the log's directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("tile");
        match self.kind {
            Kind::Entries => path.push("entries"),
            Kind::Hashes(level) => path.push(level.to_string()),
        }
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        if self.width < TILE_WIDTH
            && let Some(last) = groups.first_mut()
        {
            last.push_str(".p");
        }
        path.extend(groups.iter().rev());
        if self.width < TILE_WIDTH {
            path.push(self.width.to_string());
        }
        path
    }

    /// Reads a path below the log's directory; none for any that [`Tile::path`] would not give.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        if parts.next()? != "tile" {
            return None;
        }
        let kind = match parts.next()? {
            "entries" => Kind::Entries,
            level => {
                Kind::Hashes(number(level).filter(|level| *level <= u64::from(LEVEL_MAX))?.try_into().ok()?)
            }
        };
        let (mut index, mut width, mut is_done) = (0_u64, TILE_WIDTH, false);
        for part in parts {
            if is_done {
                width = number(part).filter(|width| *width > 0)?;
                continue;
            }
            let group = part.strip_prefix('x').map_or((part, true), |group| (group, false));
            let (digits, is_last) = group;
            let digits = if is_last { digits.strip_suffix(".p").unwrap_or(digits) } else { digits };
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
            is_done = is_last;
        }
        let tile = Tile { kind, index, width };
        // Whatever is not written exactly as we write it is not ours.
        (tile.path().to_str() == Some(path)).then_some(tile)
    }

    /// Gives the tile of the same place with all its hashes or entries.
    #[must_use]
    pub const fn full(self) -> Self {
        Tile { width: TILE_WIDTH, ..self }
    }
}

/// Gives the tile of hashes in a tree of `size` entries that has the hash at `index` of a level of tiles; none when the
/// tree has no such hash.
#[must_use]
pub fn tile_with(size: u64, level: u32, index: u64) -> Option<Tile> {
    let hashes = size.checked_shr(TILE_HEIGHT * level).unwrap_or(0);
    bundle_or_tile(Kind::Hashes(level), hashes, index)
}

/// Gives the bundle that has the entry at `index` in a log of `size` entries; none when there is no such entry.
#[must_use]
pub fn bundle_with(size: u64, index: u64) -> Option<Tile> {
    bundle_or_tile(Kind::Entries, size, index)
}

/// Gives every tile and bundle of a log of `size` entries.
pub fn files_of(size: u64) -> impl Iterator<Item = Tile> {
    let levels = 0..=LEVEL_MAX;
    let kinds = std::iter::once((Kind::Entries, size))
        .chain(levels.map(move |level| (Kind::Hashes(level), size >> (TILE_HEIGHT * level))));
    kinds.flat_map(|(kind, count)| {
        let tiles = 0..count.div_ceil(TILE_WIDTH);
        tiles.filter_map(move |tile| bundle_or_tile(kind, count, tile * TILE_WIDTH))
    })
}

fn bundle_or_tile(kind: Kind, count: u64, index: u64) -> Option<Tile> {
    if index >= count {
        return None;
    }
    let tile = index / TILE_WIDTH;
    let width = (count - tile * TILE_WIDTH).min(TILE_WIDTH);
    Some(Tile { kind, index: tile, width })
}

/// Why the bytes of a file are not what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TileError {
    /// It does not hold as many hashes.
    #[error("it has {bytes} bytes where {width} hashes have {}", width * HASH_BYTES as u64)]
    Width {
        /// Bytes found.
        bytes: usize,
        /// Hashes expected.
        width: u64,
    },
    /// It does not hold as many whole entries.
    #[error("its entries do not end where it ends, or are not {0}")]
    Framing(u64),
}

/// Gives the bytes of a tile.
#[must_use]
pub fn encode_hashes(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.bytes()).collect()
}

/// Reads a tile of exactly so many hashes.
///
/// # Errors
/// When there are more, fewer, or a piece of one.
pub fn decode_hashes(bytes: &[u8], width: u64) -> Result<Vec<TreeHash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if !rest.is_empty() || u64::try_from(hashes.len()) != Ok(width) {
        return Err(TileError::Width { bytes: bytes.len(), width });
    }
    Ok(hashes.iter().copied().map(TreeHash::new).collect())
}

/// Adds an entry to a bundle; false, and nothing is added, when it is longer than [`ENTRY_BYTES_MAX`].
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else { return false };
    bundle.extend(length.to_be_bytes());
    bundle.extend(entry);
    true
}

/// Reads a bundle of exactly so many entries.
///
/// # Errors
/// When there are more, fewer, or a piece of one.
pub fn decode_entries(bytes: &[u8], width: u64) -> Result<Vec<&[u8]>, TileError> {
    let entries: Vec<&[u8]> = entries_in(bytes).collect();
    let read: usize = entries.iter().map(|entry| entry.len() + 2).sum();
    let is_whole = read == bytes.len() && u64::try_from(entries.len()) == Ok(width);
    if is_whole { Ok(entries) } else { Err(TileError::Framing(width)) }
}

/// The whole entries at the beginning of a bundle.
pub(crate) fn entries_in(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<2>()?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
        rest = after;
        Some(entry)
    })
}

/// A plain decimal number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}
