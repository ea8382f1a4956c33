//! The tree over the entries: roots and proofs as RFC 6962, section 2.1, defines them, from the hashes of perfect
//! subtrees, wherever these are kept; and the checking of proofs as RFC 9162, sections 2.1.3.2 and 2.1.4.2, describes it.

use crate::hash::TreeHash;

/// Hashes in a tile.
pub const TILE_WIDTH: u64 = 256;
/// Levels of the tree in a tile.
pub const TILE_HEIGHT: u32 = 8;

/// Where hashes of perfect subtrees come from.
pub trait Nodes {
    /// Why one cannot be had.
    type Error;

    /// Gives the hash over the entries `index * 2^level .. (index + 1) * 2^level`, all of which are in the tree.
    ///
    /// # Errors
    /// When it cannot be read.
    fn node(&mut self, level: u32, index: u64) -> Result<TreeHash, Self::Error>;
}

/// Gives the hash over the first `size` entries.
///
/// # Errors
/// When a hash cannot be read.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<TreeHash, N::Error> {
    if size == 0 { Ok(TreeHash::empty()) } else { subtree(nodes, 0, size) }
}

/// Gives the proof that the tree of `size` entries holds the entry at `index`; none when it does not.
///
/// # Errors
/// When a hash cannot be read.
pub fn inclusion_proof<N: Nodes>(
    nodes: &mut N,
    index: u64,
    size: u64,
) -> Result<Option<Vec<TreeHash>>, N::Error> {
    if index >= size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    let (mut low, mut high) = (0, size);
    // From the root down: at each step the sibling of the way taken.
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(subtree(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(subtree(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Gives the proof that the tree of `old` entries is a beginning of the one of `size`; none when it cannot be.
///
/// # Errors
/// When a hash cannot be read.
pub fn consistency_proof<N: Nodes>(
    nodes: &mut N,
    old: u64,
    size: u64,
) -> Result<Option<Vec<TreeHash>>, N::Error> {
    if old > size {
        return Ok(None);
    }
    let mut proof = Vec::new();
    if old == 0 || old == size {
        return Ok(Some(proof));
    }
    let (mut low, mut high) = (0, size);
    // SUBPROOF of RFC 6962: down to the subtree that ends where the old tree ends.
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(subtree(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(subtree(nodes, low, middle)?);
            low = middle;
        }
    }
    // The verifier knows the old root: it needs the last subtree only when that is not the whole old tree.
    if low > 0 {
        proof.push(subtree(nodes, low, high)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Whether a proof shows that the tree of `size` entries with this root holds the leaf at `index`.
#[must_use]
pub fn proves_inclusion(
    leaf: TreeHash,
    index: u64,
    size: u64,
    proof: &[TreeHash],
    root_hash: TreeHash,
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = TreeHash::node(*sibling, hash);
            skip_right_edge(&mut node, &mut last);
        } else {
            hash = TreeHash::node(hash, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root_hash
}

/// Whether a proof shows that the tree of `old` entries with `old_root` is a beginning of the one of `size` with
/// `new_root`.
#[must_use]
pub fn proves_consistency(
    old: u64,
    old_root: TreeHash,
    size: u64,
    new_root: TreeHash,
    proof: &[TreeHash],
) -> bool {
    if old > size {
        return false;
    }
    if old == 0 {
        return proof.is_empty() && old_root == TreeHash::empty();
    }
    if old == size {
        return proof.is_empty() && old_root == new_root;
    }
    let start = if old.is_power_of_two() { Some((old_root, proof)) } else { split_first(proof) };
    let Some((first, rest)) = start else { return false };
    let (mut node, mut last) = (old - 1, size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = TreeHash::node(*sibling, from_old);
            from_new = TreeHash::node(*sibling, from_new);
            skip_right_edge(&mut node, &mut last);
        } else {
            from_new = TreeHash::node(from_new, *sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == old_root && from_new == new_root
}

/// The hash over the entries `low..high`, where `low` is aligned as RFC 6962 splits trees.
fn subtree<N: Nodes>(nodes: &mut N, low: u64, high: u64) -> Result<TreeHash, N::Error> {
    let mut perfect = Vec::new();
    let mut at = low;
    // Largest perfect subtree first.
    while at < high {
        let level = (high - at).ilog2();
        perfect.push(nodes.node(level, at >> level)?);
        at += 1 << level;
    }
    Ok(fold(&perfect))
}

/// The hash over neighbouring perfect subtrees of falling size.
pub(crate) fn fold(perfect: &[TreeHash]) -> TreeHash {
    let mut from_right = perfect.iter().rev().copied();
    let Some(last) = from_right.next() else { return TreeHash::empty() };
    from_right.fold(last, |right, left| TreeHash::node(left, right))
}

/// The largest power of two below `size`, which is above 1.
const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

fn split_first(proof: &[TreeHash]) -> Option<(TreeHash, &[TreeHash])> {
    proof.split_first().map(|(first, rest)| (*first, rest))
}

/// A node at the right edge has no sibling for some levels; steps over these.
fn skip_right_edge(node: &mut u64, last: &mut u64) {
    if *node & 1 == 0 {
        while *node & 1 == 0 && *node != 0 {
            *node >>= 1;
            *last >>= 1;
        }
    }
}
