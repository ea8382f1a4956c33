//! Whether the log has an entry already: somebody who did not hear that it is durable brings it again.

use super::Log;
use crate::disk::read;
use crate::hash::TreeHash;
use crate::tile::{Kind, Tile, decode_hashes};
use crate::tree::TILE_WIDTH;

/// Full tiles of leaves that are looked through besides the incomplete one: some four thousand entries, far more than are
/// written while somebody waits for an answer.
const TILES_MAX: u64 = 16;

impl Log {
    /// Gives the number of the newest entry with these bytes among the last few thousand. What cannot be read holds nothing:
    /// an entry twice is better than one that is lost.
    #[must_use]
    pub fn find(&self, entry: &[u8]) -> Option<u64> {
        let leaf = TreeHash::leaf(entry);
        let full_tiles = self.size() / TILE_WIDTH;
        let newest = self.edge.levels().first().map(Vec::as_slice).unwrap_or_default();
        position(newest, leaf, full_tiles).or_else(|| {
            let tiles = (full_tiles.saturating_sub(TILES_MAX)..full_tiles).rev();
            tiles.into_iter().find_map(|index| position(&self.leaves(index)?, leaf, index))
        })
    }

    /// The hashes of a full tile of leaves.
    fn leaves(&self, index: u64) -> Option<Vec<TreeHash>> {
        let tile = Tile { kind: Kind::Hashes(0), index, width: TILE_WIDTH };
        match self.pending.iter().find(|(name, _)| *name == tile) {
            Some((_, bytes)) => decode_hashes(bytes, TILE_WIDTH).ok(),
            None => decode_hashes(&read(&self.disk.path(tile.path())).ok()?, TILE_WIDTH).ok(),
        }
    }
}

/// The number of the last entry with a hash in the tile of leaves with this index.
fn position(leaves: &[TreeHash], leaf: TreeHash, index: u64) -> Option<u64> {
    let within = leaves.iter().rposition(|hash| *hash == leaf)?;
    Some(index * TILE_WIDTH + u64::try_from(within).ok()?)
}
