//! Hashes of the Merkle tree: SHA-256 with the domain separation of RFC 6962, section 2.1.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// The hash of a leaf, of a node or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; HASH_BYTES]);

impl TreeHash {
    /// Takes bytes for a hash.
    #[must_use]
    pub const fn new(bytes: [u8; HASH_BYTES]) -> Self {
        TreeHash(bytes)
    }

    /// Gives the hash of the tree without entries.
    #[must_use]
    pub fn empty() -> Self {
        TreeHash(Sha256::digest([]).into())
    }

    /// Gives the hash of an entry.
    #[must_use]
    pub fn leaf(entry: &[u8]) -> Self {
        TreeHash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
    }

    /// Gives the hash over two subtrees.
    #[must_use]
    pub fn node(left: TreeHash, right: TreeHash) -> Self {
        TreeHash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// Gives the hash over a perfect subtree, whose leaves are a power of two; of none, the empty tree's.
    #[must_use]
    pub fn perfect(leaves: &[TreeHash]) -> Self {
        let mut level = leaves.to_vec();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => TreeHash::node(*left, *right),
                    [single] => *single,
                    _ => TreeHash::empty(),
                })
                .collect();
        }
        level.first().copied().unwrap_or_else(TreeHash::empty)
    }

    /// Gives the bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; HASH_BYTES] {
        &self.0
    }

    /// Reads the standard base64 of a hash.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(TreeHash)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
