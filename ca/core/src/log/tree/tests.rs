use super::*;
use crate::{event::leaf_hash, log::sample::Log};

/// Source: the leaves and roots of the test vectors of Certificate Transparency (RFC 6962 reference implementation).
const ROOTS: [&str; 9] = [
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
pub(in crate::log) const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

#[test]
fn roots_are_those_of_the_published_vectors() {
    let mut tree = Tree::default();
    assert_eq!(hex::encode(tree.root()), ROOTS[0]);
    for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
        tree.append(leaf_hash(&hex::decode(leaf).unwrap()), |_, _| {});
        assert_eq!(hex::encode(tree.root()), *root);
    }
}

/// RFC 6962, 2.1, as it is written there.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        more => {
            let (left, right) = more.split_at(1 << (more.len() - 1).ilog2());
            node_hash(&by_definition(left), &by_definition(right))
        }
    }
}

#[test]
fn the_root_is_that_of_the_definition_at_every_size() {
    let log = Log::of(1400);
    let mut tree = Tree::default();
    for (size, leaf) in (1..).zip(&log.leaves) {
        tree.append(*leaf, |_, _| {});
        if size < 600 || size % 97 == 0 || (1020..1030).contains(&size) {
            assert_eq!(tree.root(), by_definition(&log.leaves[..size]), "{size}");
        }
    }
}

#[test]
fn a_tree_goes_on_from_its_tiles() {
    for size in [0, 1, 255, 256, 257, 511, 512, 66_000] {
        let log = Log::of(size);
        let mut resumed = Tree::resume(log.size(), |tile| log.read(tile)).unwrap();
        assert_eq!(resumed.root(), log.root, "{size}");
        let longer = Log::of(size + 3);
        for leaf in &longer.leaves[size as usize..] {
            resumed.append(*leaf, |_, _| {});
        }
        assert_eq!(resumed.root(), longer.root, "{size}");
    }
}

#[test]
fn a_tree_that_lacks_a_tile_does_not_go_on() {
    let log = Log::of(300);
    let missing = |tile: Tile| if tile.row == Row::Hashes(1) { Err("gone") } else { log.read(tile).map_err(|_| "?") };
    assert!(matches!(Tree::resume(300, missing), Err(ProofError::Read("gone"))));
    assert!(matches!(Tree::resume(300, |_| Ok::<_, ()>(vec![0; 31])), Err(ProofError::Tile(_))));
    assert!(matches!(Tree::resume(MAX_SIZE + 1, |_| Err(())), Err(ProofError::OutOfRange)));
}
