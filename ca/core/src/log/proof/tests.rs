use super::*;
use crate::log::sample::{Dice, Log};

fn head(size: u64) -> Head {
    Head { size, root: Log::of(size as i64).root }
}

#[test]
fn proofs_are_those_of_the_published_vectors() {
    let mut tree = super::super::tree::Tree::default();
    let mut roots = vec![tree.root()];
    for leaf in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"] {
        tree.append(crate::event::leaf_hash(&hex::decode(leaf).unwrap()), |_, _| {});
        roots.push(tree.root());
    }
    let tiles: Vec<_> = tree.partial().map(|(tile, hashes)| (tile, hashes.concat())).collect();
    let of_size = |size: u64| {
        let tiles = tiles.clone();
        move |tile: Tile| {
            assert_eq!(tile, Tile::of_tree(Row::Hashes(0), 0, size).unwrap());
            Ok::<_, ()>(tiles[0].1[..usize::from(tile.width) * 32].to_vec())
        }
    };
    let hex = |proof: Vec<Hash>| proof.iter().map(hex::encode).collect::<Vec<_>>();
    // Source: test vectors of Certificate Transparency: (leaf, size), (old, new).
    assert_eq!(
        hex(inclusion(0, 8, of_size(8)).unwrap()),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        hex(consistency(2, 5, of_size(5)).unwrap()),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
    assert_eq!(
        hex(consistency(6, 8, of_size(8)).unwrap()),
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ]
    );
    for old in 0..=8 {
        for new in old..=8 {
            let proof = consistency(old, new, of_size(new)).unwrap();
            let of = |size: u64| Head { size, root: roots[size as usize] };
            assert!(is_consistent(of(old), of(new), &proof), "{old} {new}");
        }
    }
}

#[test]
fn every_leaf_of_every_small_tree_is_proved_and_at_no_other_place() {
    for size in 1..70 {
        let log = Log::of(size);
        for index in 0..log.size() {
            let proof = inclusion(index, log.size(), |tile| log.read(tile)).unwrap();
            let leaf = &log.leaves[index as usize];
            for other in 0..log.size() + 2 {
                let is = is_included(leaf, other, log.size(), &log.root, &proof);
                assert_eq!(is, other == index, "{index} of {size} at {other}");
            }
        }
    }
}

#[test]
fn proofs_of_random_sizes_verify_and_altered_ones_do_not() {
    let mut dice = Dice(0x5eed);
    for _ in 0..40 {
        let log = Log::of(1 + dice.below(3000) as i64);
        for _ in 0..20 {
            let (size, index) = (log.size(), dice.below(log.size()));
            let proof = inclusion(index, size, |tile| log.read(tile)).unwrap();
            let leaf = log.leaves[index as usize];
            assert!(is_included(&leaf, index, size, &log.root, &proof));
            altered(&mut dice, &leaf, index, &log, &proof);
        }
    }
}

/// Flips one bit of each thing that a proof is about, and its length and sizes.
fn altered(dice: &mut Dice, leaf: &Hash, index: u64, log: &Log, proof: &[Hash]) {
    let size = log.size();
    let mut flip = |hash: &Hash| {
        let mut other = *hash;
        other[dice.below(32) as usize] ^= 1 << dice.below(8);
        other
    };
    assert!(!is_included(&flip(leaf), index, size, &log.root, proof));
    assert!(!is_included(leaf, index, size, &flip(&log.root), proof));
    assert!(!is_included(leaf, index, 0, &log.root, proof));
    assert!(!is_included(leaf, size, size, &log.root, proof));
    for at in 0..proof.len() {
        let mut other = proof.to_vec();
        other[at] = flip(&other[at]);
        assert!(!is_included(leaf, index, size, &log.root, &other));
        other.remove(at);
        assert!(!is_included(leaf, index, size, &log.root, &other));
    }
    assert!(!is_included(leaf, index, size, &log.root, &[proof, &[[0; 32]]].concat()));
}

#[test]
fn trees_that_grew_are_consistent_and_altered_ones_are_not() {
    let mut dice = Dice(0xface);
    for _ in 0..60 {
        let log = Log::of(2 + dice.below(1500) as i64);
        let (new, old) = (Head { size: log.size(), root: log.root }, head(1 + dice.below(log.size())));
        let proof = consistency(old.size, new.size, |tile| log.read(tile)).unwrap();
        assert!(is_consistent(old, new, &proof));
        let mut flip = |head: Head| {
            let mut other = head;
            other.root[dice.below(32) as usize] ^= 1 << dice.below(8);
            other
        };
        assert!(!is_consistent(flip(old), new, &proof));
        assert!(!is_consistent(old, flip(new), &proof));
        assert!(!is_consistent(Head { size: 0, ..old }, new, &proof));
        assert!(!is_consistent(Head { size: new.size + 1, ..old }, new, &proof));
        for at in 0..proof.len() {
            let mut other = proof.clone();
            other[at] = flip(Head { size: 0, root: other[at] }).root;
            assert!(!is_consistent(old, new, &other), "{} {} {at}", old.size, new.size);
            other.remove(at);
            assert!(!is_consistent(old, new, &other));
        }
        assert!(!is_consistent(old, new, &[&proof[..], &[[0; 32]]].concat()));
    }
}

#[test]
fn an_old_tree_of_another_size_is_not_the_one_proved() {
    let log = Log::of(40);
    let new = Head { size: 40, root: log.root };
    for old in 1..40 {
        let proof = consistency(old, 40, |tile| log.read(tile)).unwrap();
        for claimed in 1..40 {
            let is = is_consistent(Head { size: claimed, root: head(old).root }, new, &proof);
            assert_eq!(is, claimed == old, "{claimed} for {old}");
        }
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    let log = Log::of(5);
    let none = |tile: Tile| log.read(tile);
    assert!(matches!(inclusion(5, 5, none), Err(ProofError::OutOfRange)));
    assert!(matches!(inclusion(0, MAX_SIZE + 1, none), Err(ProofError::OutOfRange)));
    assert!(matches!(consistency(6, 5, none), Err(ProofError::OutOfRange)));
    assert!(matches!(consistency(1, MAX_SIZE + 1, none), Err(ProofError::OutOfRange)));
    assert!(matches!(root(MAX_SIZE + 1, none), Err(ProofError::OutOfRange)));
    assert_eq!(root(0, none).unwrap(), sha256(&[]));
    assert_eq!(root(5, none).unwrap(), log.root);
}

/// The tiles of a tree of a billion leaves: what is in them does not matter here.
#[test]
fn a_proof_reads_as_many_tiles_as_the_tree_has_levels_of_them() {
    for (size, most) in [(256u64, 1), (70_000, 5), (1_000_000, 5), (1_000_000_007, 7), (MAX_SIZE, 13)] {
        for index in [0, 1, size / 3, size / 2, size - 1] {
            let mut reads = Vec::new();
            let proof = inclusion(index, size, |tile| {
                reads.push(tile);
                Ok::<_, ()>(vec![0; usize::from(tile.width) * 32])
            });
            assert!(proof.unwrap().len() <= size.ilog2() as usize + 1);
            assert!(reads.len() <= most, "{index} of {size}: {} tiles", reads.len());
            let once: std::collections::BTreeSet<_> = reads.iter().collect();
            assert_eq!(once.len(), reads.len(), "each once");
        }
    }
}
