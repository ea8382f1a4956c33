//! Roots and proofs against the published vectors of RFC 6962 logs and against an independent implementation.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use record::TreeHash;
use record::edge::Edge;
use record::tree::{Nodes, consistency_proof, inclusion_proof, proves_consistency, proves_inclusion, root};
use sha2::Sha256;

/// Leaves in memory.
struct Leaves(Vec<TreeHash>);

impl Nodes for Leaves {
    type Error = std::convert::Infallible;

    fn node(&mut self, level: u32, index: u64) -> Result<TreeHash, Self::Error> {
        let first = usize::try_from(index << level).unwrap();
        Ok(TreeHash::perfect(&self.0[first..first + (1 << level)]))
    }
}

fn entries(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("entry {number}").into_bytes()).collect()
}

fn leaves(entries: &[Vec<u8>]) -> Leaves {
    Leaves(entries.iter().map(|entry| TreeHash::leaf(entry)).collect())
}

fn oracle(entries: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    entries.iter().cloned().for_each(|entry| tree.push(entry));
    tree
}

fn hex(hash: TreeHash) -> String {
    hash.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vectors of the reference implementation of Certificate Transparency (`merkletree/tree_test`).
#[test]
fn the_roots_of_the_reference_vectors() {
    let inputs: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut nodes = Leaves(inputs.iter().map(|input| TreeHash::leaf(input)).collect());
    for (size, expected) in (0..).zip(roots) {
        assert_eq!(hex(root(&mut nodes, size).unwrap()), expected, "{size}");
    }
}

#[test]
fn the_edge_has_the_same_root_at_every_size() {
    let entries = entries(700);
    let mut nodes = leaves(&entries);
    let mut edge = Edge::empty();
    let mut full = 0;
    assert_eq!(edge.root(), root(&mut nodes, 0).unwrap());
    for (size, entry) in (1..).zip(&entries) {
        edge.push(TreeHash::leaf(entry), |tile| {
            assert_eq!(tile.hashes.len(), 256);
            full += 1;
        });
        assert_eq!(edge.root(), root(&mut nodes, size).unwrap(), "{size}");
        assert_eq!(Edge::new(size, edge.levels().to_vec()), Some(edge.clone()));
    }
    assert_eq!(full, 2);
}

#[test]
fn every_small_tree_agrees_with_the_other_implementation() {
    for size in 1..40_u64 {
        let entries = entries(size);
        let (mut nodes, other) = (leaves(&entries), oracle(&entries));
        let whole = root(&mut nodes, size).unwrap();
        assert_eq!(whole.bytes()[..], other.root().as_bytes()[..], "{size}");
        for index in 0..size {
            let ours = inclusion_proof(&mut nodes, index, size).unwrap().unwrap();
            let theirs = other.prove_inclusion(usize::try_from(index).unwrap());
            assert_eq!(flat(&ours), theirs.as_bytes(), "{index} of {size}");
            let leaf = TreeHash::leaf(&entries[usize::try_from(index).unwrap()]);
            assert!(proves_inclusion(leaf, index, size, &ours, whole));
        }
        for old in 1..size {
            let ours = consistency_proof(&mut nodes, old, size).unwrap().unwrap();
            let theirs = other.prove_consistency(usize::try_from(size - old).unwrap());
            assert_eq!(flat(&ours), theirs.as_bytes(), "{old} of {size}");
            let before = root(&mut nodes, old).unwrap();
            assert!(proves_consistency(old, before, size, whole, &ours));
        }
        assert_eq!(inclusion_proof(&mut nodes, size, size).unwrap(), None);
        assert_eq!(consistency_proof(&mut nodes, size + 1, size).unwrap(), None);
    }
}

fn flat(proof: &[TreeHash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| *hash.bytes()).collect()
}

proptest! {
    #[test]
    fn a_proof_with_anything_changed_proves_nothing(
        size in 2_u64..600,
        at in any::<prop::sample::Index>(),
        old in any::<prop::sample::Index>(),
        change in 0_u8..5,
        place in any::<prop::sample::Index>(),
    ) {
        let entries = entries(size);
        let mut nodes = leaves(&entries);
        let whole = root(&mut nodes, size).unwrap();
        let (index, old) = (at.index(entries.len()) as u64, old.index(entries.len() - 1) as u64 + 1);
        let leaf = TreeHash::leaf(&entries[at.index(entries.len())]);
        let before = root(&mut nodes, old).unwrap();
        let mut inclusion = inclusion_proof(&mut nodes, index, size).unwrap().unwrap();
        let mut consistency = consistency_proof(&mut nodes, old, size).unwrap().unwrap();
        prop_assert!(proves_inclusion(leaf, index, size, &inclusion, whole));
        prop_assert!(proves_consistency(old, before, size, whole, &consistency));
        match change {
            0 => { let at = place.index(inclusion.len()); inclusion[at] = TreeHash::leaf(b"other"); }
            1 => inclusion.push(TreeHash::leaf(b"more")),
            2 => { inclusion.pop(); }
            3 => { prop_assert!(!proves_inclusion(leaf, index, size, &inclusion, before)); return Ok(()); }
            _ => { prop_assert!(!proves_inclusion(TreeHash::leaf(b"other"), index, size, &inclusion, whole)); return Ok(()); }
        }
        prop_assert!(!proves_inclusion(leaf, index, size, &inclusion, whole));
        consistency.push(TreeHash::leaf(b"more"));
        prop_assert!(!proves_consistency(old, before, size, whole, &consistency));
        prop_assert!(!proves_consistency(old, TreeHash::leaf(b"other"), size, whole, &consistency));
    }
}
