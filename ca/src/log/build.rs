//! The tree as it grows, and its tiles as they fill.

use std::io;

use chancery_core::{
    event::leaf_hash,
    log::{
        proof::{Head, ProofError},
        tile::{FULL, Row, Tile, push_entry},
        tree::{Tree, bytes_of},
    },
};

use super::files::Folder;
use crate::store::StoredEvent;

/// Follows the events of one epoch. After an error it is of no use: resume.
#[derive(Debug)]
pub struct Builder {
    folder: Folder,
    tree: Tree,
    /// The events of the bundle that is not full, as they will be in it.
    bundle: Vec<u8>,
    /// Trees whose root is known from elsewhere; each is compared when this one is as large.
    expected: Vec<Head>,
}

/// Why the tree does not grow.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder.
    #[error("{path}: {source}; make room, or give the CA's user access to it")]
    Folder {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The record is not what it was.
    #[error("{0}")]
    Tampered(String),
}

impl Builder {
    /// Goes on from the tiles below `at`, if they are those of that tree; else from the first event, on the way to
    /// `expected` by way of `at`.
    pub fn resume(folder: Folder, at: Option<Head>, expected: Option<Head>) -> Self {
        if let Some(at) = at {
            match resumed(&folder, at) {
                Ok((tree, bundle)) => return Self { folder, tree, bundle, expected: expected.into_iter().collect() },
                Err(why) => {
                    tracing::warn!(folder = %folder.path().display(), %why, "tiles are made again from the database");
                }
            }
        }
        let expected = at.into_iter().chain(expected).collect();
        Self { folder, tree: Tree::default(), bundle: Vec::new(), expected }
    }

    /// The tree so far.
    pub fn head(&self) -> Head {
        Head { size: self.tree.size(), root: self.tree.root() }
    }

    /// Events so far.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Another tree that this one must become.
    pub fn expect(&mut self, head: Head) {
        self.expected.push(head);
    }

    /// Number of the next event.
    pub fn next(&self) -> i64 {
        i64::try_from(self.tree.size()).unwrap_or(i64::MAX)
    }

    /// Takes the next events, verifies them, and writes the tiles that they fill.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn append(&mut self, events: &[StoredEvent]) -> Result<(), BuildError> {
        let mut full = Vec::new();
        for event in events {
            let number = self.next();
            if event.number != number {
                let found = event.number;
                return Err(BuildError::Tampered(format!("event {number} is missing: the next one is {found}")));
            }
            let leaf = leaf_hash(&event.bytes);
            if leaf != event.hash {
                return Err(BuildError::Tampered(format!(
                    "event {number} was edited: its hash is not that of its bytes"
                )));
            }
            if !push_entry(&mut self.bundle, &event.bytes) {
                return Err(BuildError::Tampered(format!("event {number} is longer than any server writes one")));
            }
            let before = full.len();
            self.tree.append(leaf, |tile, hashes| full.push((tile, bytes_of(hashes))));
            // The lowest of the tiles that an event fills is the one of its leaf.
            if let Some((lowest, _)) = full.get(before) {
                let entries = Tile { row: Row::Entries, ..*lowest };
                full.push((entries, std::mem::take(&mut self.bundle)));
            }
            self.compare()?;
        }
        self.write(&full)?;
        self.folder.forget_parts(full.iter().map(|(tile, _)| *tile));
        Ok(())
    }

    /// Writes the tiles that are not full, which a checkpoint of this tree needs.
    ///
    /// # Errors
    /// [`BuildError::Folder`].
    pub fn write_parts(&self) -> Result<(), BuildError> {
        let mut parts: Vec<_> = self.tree.partial().map(|(tile, hashes)| (tile, bytes_of(hashes))).collect();
        let index = self.tree.size() / u64::from(FULL);
        parts.extend(Tile::of_tree(Row::Entries, index, self.tree.size()).map(|tile| (tile, self.bundle.clone())));
        // A higher one changes with every 256th event only.
        parts.retain(|(tile, bytes)| self.folder.read(*tile).ok().as_ref() != Some(bytes));
        self.write(&parts)
    }

    fn write(&self, tiles: &[(Tile, Vec<u8>)]) -> Result<(), BuildError> {
        let path = || self.folder.path().display().to_string();
        self.folder.write(tiles).map_err(|source| BuildError::Folder { path: path(), source })
    }

    /// Once the tree is as large as one that is known, it must be that one.
    fn compare(&mut self) -> Result<(), BuildError> {
        let size = self.tree.size();
        if self.expected.iter().all(|expected| expected.size != size) {
            return Ok(());
        }
        let root = self.tree.root();
        if self.expected.iter().any(|expected| expected.size == size && expected.root != root) {
            return Err(BuildError::Tampered(format!(
                "one of the first {size} events is not what it was: their root is not that of the last checkpoint"
            )));
        }
        self.expected.retain(|expected| expected.size > size);
        Ok(())
    }
}

fn resumed(folder: &Folder, at: Head) -> Result<(Tree, Vec<u8>), String> {
    let told = |error: ProofError<io::Error>| error.to_string();
    let tree = Tree::resume(at.size, |tile| folder.read(tile)).map_err(told)?;
    if tree.root() != at.root {
        return Err("they are not of the checkpoint beside them".into());
    }
    let bundle = match Tile::of_tree(Row::Entries, at.size / u64::from(FULL), at.size) {
        Some(tile) => folder.read(tile).map_err(|e| e.to_string())?,
        None => return Ok((tree, Vec::new())),
    };
    // What comes next is put behind these events: they must be the tree's.
    let width = u16::try_from(at.size % u64::from(FULL)).unwrap_or(0);
    let tile = Tile { row: Row::Entries, index: at.size / u64::from(FULL), width };
    let leaves = tile.entries(&bundle).map_err(|e| e.to_string())?.into_iter().map(leaf_hash);
    let same = tree.partial().next().is_some_and(|(_, hashes)| leaves.eq(hashes.iter().copied()));
    if same { Ok((tree, bundle)) } else { Err(format!("{tile} is not of the checkpoint beside it")) }
}
