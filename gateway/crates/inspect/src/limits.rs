//! How much one inspection may spend.

use serde::{Deserialize, Serialize};

/// What one inspection may spend; the defaults fit a clinic's documents and studies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Largest file that is looked at.
    pub size_bytes: u64,
    /// Most bytes that may come out of all compressed parts together.
    pub inflated_bytes: u64,
    /// Most bytes out per byte in, for any compressed part of more than a megabyte.
    pub ratio: u64,
    /// Most entries of all containers together.
    pub entries: u32,
    /// How deep containers may lie in one another.
    pub depth: u8,
    /// Most elements, records and objects looked at.
    pub steps: u64,
    /// Most pixels of one image.
    pub pixels: u64,
    /// Most findings that are kept; the verdict counts all.
    pub findings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size_bytes: 160 << 20,
            inflated_bytes: 192 << 20,
            ratio: 200,
            entries: 10_000,
            depth: 5,
            steps: 5_000_000,
            pixels: 100_000_000,
            findings: 100,
        }
    }
}
