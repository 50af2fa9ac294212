//! A tree that grows: of each level only the tile that is not full is in memory.

use super::{
    Hash, MAX_SIZE, node_hash,
    proof::ProofError,
    tile::{FULL, MAX_LEVEL, Row, Tile},
};
use crate::crypto::sha256;

/// The right edge of a tree, from which it grows and its root follows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree {
    /// Level by level, the hashes of the tile that is not full: at most 255 of each.
    rows: Vec<Vec<Hash>>,
    size: u64,
}

impl Tree {
    /// The tree of `size` leaves, of whose tiles those that are not full are read. Nothing is verified: compare the root.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn resume<E>(size: u64, mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>) -> Result<Self, ProofError<E>> {
        if size > MAX_SIZE {
            return Err(ProofError::OutOfRange);
        }
        let mut rows = Vec::new();
        for level in 0..=MAX_LEVEL {
            let total = size >> (8 * u32::from(level));
            if total == 0 {
                break;
            }
            rows.push(match Tile::of_tree(Row::Hashes(level), total / u64::from(FULL), size) {
                Some(tile) => tile.hashes(&read(tile).map_err(ProofError::Read)?)?,
                None => Vec::new(),
            });
        }
        Ok(Self { rows, size })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. `full` is told each tile of hashes that it fills, from the lowest level up.
    pub fn append(&mut self, leaf: Hash, mut full: impl FnMut(Tile, &[Hash])) {
        self.size += 1;
        let mut hash = leaf;
        for level in 0..=MAX_LEVEL {
            let at = usize::from(level);
            if self.rows.len() <= at {
                self.rows.push(Vec::with_capacity(usize::from(FULL)));
            }
            let Some(row) = self.rows.get_mut(at) else { return };
            row.push(hash);
            if row.len() < usize::from(FULL) {
                return;
            }
            let index = (self.size >> (8 * (u32::from(level) + 1))) - 1;
            full(Tile { row: Row::Hashes(level), index, width: FULL }, row);
            hash = subtree(row);
            row.clear();
        }
    }

    /// The tiles of hashes that are not full, from the lowest level up.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        let rows = (0..=MAX_LEVEL).zip(&self.rows).filter(|(_, row)| !row.is_empty());
        rows.filter_map(|(level, row)| {
            let index = (self.size >> (8 * u32::from(level))) / u64::from(FULL);
            let width = u16::try_from(row.len()).ok()?;
            Some((Tile { row: Row::Hashes(level), index, width }, row.as_slice()))
        })
    }

    /// Hash of the tree. Source: RFC 6962, 2.1.
    pub fn root(&self) -> Hash {
        let mut root = None;
        // From the smallest subtree at the right to the largest at the left.
        for row in &self.rows {
            let mut rest = row.as_slice();
            while !rest.is_empty() {
                let width = 1 << rest.len().trailing_zeros();
                let (before, last) = rest.split_at(rest.len() - width);
                let left = subtree(last);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                rest = before;
            }
        }
        root.unwrap_or_else(|| sha256(&[]))
    }
}

/// Hash above as many hashes as a power of two.
pub(super) fn subtree(hashes: &[Hash]) -> Hash {
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        let (pairs, _) = level.as_chunks::<2>();
        level = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    level.first().copied().unwrap_or_else(|| sha256(&[]))
}

/// A tile's bytes.
pub fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

#[cfg(test)]
mod tests;
