//! The right edge of the tree: what must be kept in memory to append, at most one incomplete tile a level.

use crate::hash::TreeHash;
use crate::tree::{TILE_HEIGHT, TILE_WIDTH, fold};

/// The incomplete tiles at the right of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// By level of tiles, each shorter than a tile.
    levels: Vec<Vec<TreeHash>>,
}

/// A tile that has just become full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// Its level.
    pub level: u32,
    /// Its index in the level.
    pub index: u64,
    /// Its hashes.
    pub hashes: Vec<TreeHash>,
}

impl Edge {
    /// Gives the edge of the tree without entries.
    #[must_use]
    pub const fn empty() -> Self {
        Edge { size: 0, levels: Vec::new() }
    }

    /// Takes the incomplete tiles of a tree of `size` entries, lowest level first; none when their widths are not those
    /// of such a tree.
    #[must_use]
    pub fn new(size: u64, levels: Vec<Vec<TreeHash>>) -> Option<Self> {
        let fits = levels.len() == level_count(size)
            && levels.iter().zip(0..).all(|(tile, level)| tile.len() == edge_width(size, level));
        fits.then_some(Edge { size, levels })
    }

    /// Gives the number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Gives the incomplete tiles, lowest level first; some are empty.
    #[must_use]
    pub fn levels(&self) -> &[Vec<TreeHash>] {
        &self.levels
    }

    /// Adds a leaf; tells each tile that became full.
    pub fn push(&mut self, leaf: TreeHash, mut told: impl FnMut(FullTile)) {
        self.size += 1;
        let mut hash = leaf;
        let mut level = 0;
        loop {
            let position = usize::try_from(level).unwrap_or(usize::MAX);
            if self.levels.len() <= position {
                self.levels.push(Vec::new());
            }
            let Some(tile) = self.levels.get_mut(position) else { return };
            tile.push(hash);
            if u64::try_from(tile.len()) != Ok(TILE_WIDTH) {
                return;
            }
            let hashes = std::mem::take(tile);
            hash = TreeHash::perfect(&hashes);
            let index = (self.size >> (TILE_HEIGHT * (level + 1))) - 1;
            told(FullTile { level, index, hashes });
            level += 1;
        }
    }

    /// Gives the hash over all entries.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        let mut perfect = Vec::new();
        for tile in self.levels.iter().rev() {
            let mut rest = tile.as_slice();
            while !rest.is_empty() {
                let (subtree, after) = rest.split_at(1 << rest.len().ilog2());
                perfect.push(TreeHash::perfect(subtree));
                rest = after;
            }
        }
        fold(&perfect)
    }
}

/// Levels of tiles that a tree of this size has.
pub(crate) fn level_count(size: u64) -> usize {
    let mut count = 0;
    let mut rest = size;
    while rest > 0 {
        count += 1;
        rest >>= TILE_HEIGHT;
    }
    count
}

/// Width of the incomplete tile of a level, which may be 0.
pub(crate) fn edge_width(size: u64, level: u32) -> usize {
    let hashes = size.checked_shr(TILE_HEIGHT * level).unwrap_or(0);
    usize::try_from(hashes % TILE_WIDTH).unwrap_or(0)
}
