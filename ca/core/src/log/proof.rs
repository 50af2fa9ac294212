//! Proofs: that a leaf is in a tree, and that one tree begins with another. Made from tiles, verified from nothing.
//!
//! Sources: RFC 6962, 2.1.1 and 2.1.2 (what a proof is); RFC 9162, 2.1.3.2 and 2.1.4.2 (how it is verified).

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    Hash, MAX_SIZE, node_hash,
    tile::{FULL, HEIGHT, Row, Tile, TileError},
    tree,
};
use crate::crypto::sha256;

/// Why a proof cannot be made.
#[derive(Debug, Error)]
pub enum ProofError<E> {
    /// No such leaf or size in the tree.
    #[error("no such leaf or size in the tree")]
    OutOfRange,
    /// A tile could not be read.
    #[error("{0}")]
    Read(E),
    /// A tile is not one.
    #[error(transparent)]
    Tile(#[from] TileError),
}

/// Hashes of the nodes beside the way from the leaf at `index` up to the root of `size` leaves, from below.
///
/// At most three tiles of each level are read, each once.
///
/// # Errors
/// [`ProofError`].
pub fn inclusion<E>(
    index: u64,
    size: u64,
    read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
) -> Result<Vec<Hash>, ProofError<E>> {
    if index >= size || size > MAX_SIZE {
        return Err(ProofError::OutOfRange);
    }
    let mut nodes = Nodes { size, read, tiles: BTreeMap::new() };
    let (mut low, mut high, mut proof) = (0, size, Vec::new());
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(nodes.range(middle, high)?);
            high = middle;
        } else {
            proof.push(nodes.range(low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Hashes that show that the tree of `new` leaves begins with the tree of `old` ones; empty where `old` is 0 or `new`.
///
/// # Errors
/// [`ProofError`].
pub fn consistency<E>(
    old: u64,
    new: u64,
    read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
) -> Result<Vec<Hash>, ProofError<E>> {
    if old > new || new > MAX_SIZE {
        return Err(ProofError::OutOfRange);
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut nodes = Nodes { size: new, read, tiles: BTreeMap::new() };
    let (mut low, mut high, mut proof) = (0, new, Vec::new());
    // The old tree ends at `old`: go down to the subtree that ends there too.
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(nodes.range(middle, high)?);
            high = middle;
        } else {
            proof.push(nodes.range(low, middle)?);
            low = middle;
        }
    }
    // Where it is the whole old tree, whoever verifies has its hash.
    if low > 0 {
        proof.push(nodes.range(low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Root of the first `size` leaves, from the tiles of a tree of that size.
///
/// # Errors
/// [`ProofError`].
pub fn root<E>(size: u64, read: impl FnMut(Tile) -> Result<Vec<u8>, E>) -> Result<Hash, ProofError<E>> {
    if size > MAX_SIZE {
        return Err(ProofError::OutOfRange);
    }
    if size == 0 {
        return Ok(sha256(&[]));
    }
    Nodes { size, read, tiles: BTreeMap::new() }.range(0, size)
}

/// Whether `proof` shows that `leaf` is at `index` in the tree of `size` leaves with this root.
#[must_use]
pub fn is_included(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for beside in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(beside, &hash);
            // A node without a right neighbour is its own parent: go up to where it has a left one.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// A tree: how many leaves, and its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Leaves.
    pub size: u64,
    /// Hash of the tree.
    pub root: Hash,
}

/// Whether `proof` shows that the tree `new` begins with the tree `old`.
#[must_use]
pub fn is_consistent(old: Head, new: Head, proof: &[Hash]) -> bool {
    if old.size == 0 {
        return proof.is_empty() && old.root == sha256(&[]);
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    if old.size > new.size {
        return false;
    }
    let whole = old.size.is_power_of_two();
    let mut hashes = whole.then_some(&old.root).into_iter().chain(proof);
    let Some(first) = hashes.next() else { return false };
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut before, mut after) = (*first, *first);
    for beside in hashes {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (before, after) = (node_hash(beside, &before), node_hash(beside, &after));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node_hash(&after, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && before == old.root && after == new.root
}

/// Leaves of the left subtree of `size` > 1: the largest power of two below it.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Hashes of nodes, out of tiles that are read once each.
struct Nodes<R> {
    size: u64,
    read: R,
    tiles: BTreeMap<Tile, Vec<Hash>>,
}

impl<E, R: FnMut(Tile) -> Result<Vec<u8>, E>> Nodes<R> {
    /// Hash of the tree of the leaves `low` to `high`, which is a subtree of the whole.
    fn range(&mut self, low: u64, high: u64) -> Result<Hash, ProofError<E>> {
        let size = high - low;
        if size.is_power_of_two() && low.is_multiple_of(size) {
            return self.complete(size.trailing_zeros(), low);
        }
        let middle = low + split(size);
        let left = self.range(low, middle)?;
        Ok(node_hash(&left, &self.range(middle, high)?))
    }

    /// Hash of the complete subtree of that height that begins at the leaf `low`.
    fn complete(&mut self, height: u32, low: u64) -> Result<Hash, ProofError<E>> {
        let level = height / HEIGHT;
        let width = 1 << (height % HEIGHT);
        let first = low >> (level * HEIGHT);
        let row = Row::Hashes(u8::try_from(level).map_err(|_| ProofError::OutOfRange)?);
        let tile = Tile::of_tree(row, first / u64::from(FULL), self.size).ok_or(ProofError::OutOfRange)?;
        if !self.tiles.contains_key(&tile) {
            let hashes = tile.hashes(&(self.read)(tile).map_err(ProofError::Read)?)?;
            self.tiles.insert(tile, hashes);
        }
        let offset = usize::try_from(first % u64::from(FULL)).map_err(|_| ProofError::OutOfRange)?;
        let hashes = self.tiles.get(&tile).and_then(|hashes| hashes.get(offset..offset + width));
        hashes.map(tree::subtree).ok_or(ProofError::OutOfRange)
    }
}

#[cfg(test)]
mod tests;
