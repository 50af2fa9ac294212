//! A folder of tiles, held against the tree they should be of.

use thiserror::Error;

use super::{
    Hash,
    chain::{Chain, Row as RecordRow, RowFault},
    checkpoint::Checkpoint,
    tile::{FULL, MAX_ENTRY_BYTES, Row, Tile, TileError, push_entry},
    tree::Tree,
};
use crate::event::leaf_hash;

/// What is wrong with a folder.
#[derive(Debug, Error)]
pub enum FolderFault<E> {
    /// An event in a bundle is another one than in the tree.
    #[error("{tile}: event {number} is another one there")]
    Entry {
        /// Its number.
        number: u64,
        /// The bundle.
        tile: Tile,
    },
    /// A hash in a tile is another one than in the tree.
    #[error("{tile}: its hash of {} is another one", shown(*.from, *.to))]
    Hash {
        /// The first event below it.
        from: u64,
        /// The last one.
        to: u64,
        /// The tile.
        tile: Tile,
    },
    /// The tiles agree with each other, and not with the checkpoint.
    #[error("the tiles are not of the tree in the checkpoint: {size} events have another root")]
    Root {
        /// Events.
        size: u64,
    },
    /// An event in the folder is not what a server writes.
    #[error("event {number} is {fault}")]
    Row {
        /// Its number.
        number: u64,
        /// What is wrong.
        fault: RowFault,
    },
    /// A tile could not be read.
    #[error("{tile}: {source}")]
    Read {
        /// The tile.
        tile: Tile,
        /// Why.
        source: E,
    },
    /// A tile is not one.
    #[error(transparent)]
    Tile(#[from] TileError),
}

fn shown(from: u64, to: u64) -> String {
    if from == to { format!("event {from}") } else { format!("events {from} to {to}") }
}

/// Longest file of a tile.
pub fn max_bytes(tile: Tile) -> usize {
    match tile.row {
        Row::Entries => usize::from(tile.width) * (2 + MAX_ENTRY_BYTES),
        Row::Hashes(_) => usize::from(tile.width) * 32,
    }
}

/// Holds a tile of the tree against the folder, whose checkpoint is of `size` events: fine where it has none of it.
///
/// # Errors
/// [`FolderFault`].
pub fn compare<E>(
    tile: Tile,
    hashes: &[Hash],
    size: u64,
    mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
) -> Result<(), FolderFault<E>> {
    let (Some(there), Row::Hashes(level)) = (Tile::of_tree(tile.row, tile.index, size), tile.row) else {
        return Ok(());
    };
    let found = there.hashes(&read(there).map_err(|source| FolderFault::Read { tile: there, source })?)?;
    match (0u64..).zip(found.iter().zip(hashes)).find(|(_, (found, wanted))| found != wanted) {
        None => Ok(()),
        Some((offset, _)) => {
            let place = tile.index * u64::from(FULL) + offset;
            let scale = 8 * u32::from(level);
            Err(FolderFault::Hash { from: place << scale, to: ((place + 1) << scale) - 1, tile: there })
        }
    }
}

/// Holds the events of a bundle against the folder, as [`compare`] does hashes.
///
/// # Errors
/// [`FolderFault`].
pub fn compare_entries<E>(
    index: u64,
    events: &[Vec<u8>],
    size: u64,
    mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
) -> Result<(), FolderFault<E>> {
    let Some(there) = Tile::of_tree(Row::Entries, index, size) else { return Ok(()) };
    let bytes = read(there).map_err(|source| FolderFault::Read { tile: there, source })?;
    let mut wanted = Vec::with_capacity(bytes.len());
    let fits = events.iter().take(usize::from(there.width)).all(|event| push_entry(&mut wanted, event));
    if fits && wanted == bytes {
        return Ok(());
    }
    let found = there.entries(&bytes)?;
    let other = (0u64..).zip(found.iter().zip(events)).find(|(_, (found, wanted))| *found != wanted);
    // The record may be longer than the folder, and the folder than what was read of the record so far.
    let number = |offset| index * u64::from(FULL) + offset;
    other.map_or(Ok(()), |(offset, _)| Err(FolderFault::Entry { number: number(offset), tile: there }))
}

/// Verifies a whole folder: events against leaves, each level against the one below, the root against the checkpoint.
/// `seen` is told how many events are done, tile by tile.
///
/// # Errors
/// [`FolderFault`], the first one.
pub fn verify<E>(
    checkpoint: &Checkpoint,
    epoch: i64,
    mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
    mut seen: impl FnMut(u64),
) -> Result<(), FolderFault<E>> {
    let size = checkpoint.head.size;
    let (mut tree, mut chain, mut index) = (Tree::default(), Chain::new(epoch), 0);
    while let Some(bundle) = Tile::of_tree(Row::Entries, index, size) {
        let bytes = read(bundle).map_err(|source| FolderFault::Read { tile: bundle, source })?;
        let mut fault = None;
        for event in bundle.entries(&bytes)? {
            let number = tree.size();
            let leaf = own_row(&mut chain, event).map_err(|fault| FolderFault::Row { number, fault })?;
            tree.append(leaf, |tile, hashes| {
                fault = fault.take().or_else(|| compare(tile, hashes, size, &mut read).err());
            });
        }
        fault.map_or(Ok(()), Err)?;
        index += 1;
        seen(tree.size());
    }
    for (tile, hashes) in tree.partial() {
        compare(tile, hashes, size, &mut read)?;
    }
    if tree.root() == checkpoint.head.root { Ok(()) } else { Err(FolderFault::Root { size }) }
}

/// Judges an event that has no columns beside it: those it says itself.
fn own_row(chain: &mut Chain, bytes: &[u8]) -> Result<Hash, RowFault> {
    let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| RowFault::NotCanonical)?;
    let number = |name: &str| json.get(name).and_then(serde_json::Value::as_i64).ok_or(RowFault::NotCanonical);
    let text = |name: &str| json.get(name).and_then(serde_json::Value::as_str).ok_or(RowFault::NotCanonical);
    let hash = leaf_hash(bytes);
    chain.follow(RecordRow {
        epoch: number("epoch")?,
        number: number("number")?,
        at: number("at")?,
        server: text("server")?,
        kind: text("kind")?,
        subject: text("subject")?,
        bytes,
        hash: &hash,
    })
}

#[cfg(test)]
mod tests;
