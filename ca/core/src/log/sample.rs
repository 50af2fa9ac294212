//! Logs of small events, with their tiles in memory, and numbers by a fixed rule.

use std::collections::BTreeMap;

use chancery_sdk::time::UnixTime;

use super::{
    Hash,
    tile::{Row, Tile, push_entry},
    tree::{Tree, bytes_of},
};
use crate::event::{Event, Place, leaf_hash};

/// Small numbers by a fixed rule, so that a failure comes again (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A log: its events, leaves, and every tile that its size has.
#[derive(Clone)]
pub struct Log {
    pub events: Vec<Vec<u8>>,
    pub leaves: Vec<Hash>,
    pub tiles: BTreeMap<Tile, Vec<u8>>,
    pub root: Hash,
}

pub fn event(number: i64) -> Vec<u8> {
    let place = Place { epoch: 0, number, at: UnixTime(1_700_000_000 + number), server: "s1" };
    Event::new("entry.created", format!("e{number}")).with("n", number).seal(place, || [0; 16]).bytes
}

impl Log {
    /// Of `size` events.
    pub fn of(size: i64) -> Self {
        let events: Vec<_> = (0..size).map(event).collect();
        let leaves: Vec<_> = events.iter().map(|e| leaf_hash(e)).collect();
        let (mut tree, mut tiles) = (Tree::default(), BTreeMap::new());
        for leaf in &leaves {
            tree.append(*leaf, |tile, hashes| drop(tiles.insert(tile, bytes_of(hashes))));
        }
        for (tile, hashes) in tree.partial() {
            tiles.insert(tile, bytes_of(hashes));
        }
        for (index, chunk) in events.chunks(256).enumerate() {
            let mut bundle = Vec::new();
            assert!(chunk.iter().all(|event| push_entry(&mut bundle, event)));
            tiles.insert(Tile { row: Row::Entries, index: index as u64, width: chunk.len() as u16 }, bundle);
        }
        Self { events, leaves, tiles, root: tree.root() }
    }

    pub fn size(&self) -> u64 {
        self.events.len() as u64
    }

    pub fn read(&self, tile: Tile) -> Result<Vec<u8>, String> {
        self.tiles.get(&tile).cloned().ok_or_else(|| format!("no {tile}"))
    }
}
