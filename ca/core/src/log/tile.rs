//! Tiles: up to 256 hashes, or events, beside each other, each tile a file of its own.
//!
//! Source: C2SP tlog-tiles.

use std::fmt;

use thiserror::Error;

use super::{Hash, MAX_SIZE};

/// Hashes of a full tile.
pub const FULL: u16 = 256;
/// Height of a tile in the tree.
pub(super) const HEIGHT: u32 = 8;
/// Highest level that a tree of [`MAX_SIZE`] leaves has tiles of: 256^6 < 2^53 < 256^7.
pub const MAX_LEVEL: u8 = 6;
/// Most bytes of an event in an entry bundle: its length is a u16.
pub const MAX_ENTRY_BYTES: usize = u16::MAX as usize;
/// Longest path of a tile: three digits for each factor of a thousand, and a width.
const MAX_PATH_BYTES: usize = 64;

/// What a tile holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Row {
    /// The events themselves, each with its length.
    Entries,
    /// Hashes of this level: of leaves at 0, of full tiles of the level below above that.
    Hashes(u8),
}

/// Names a tile.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tile {
    /// What it holds.
    pub row: Row,
    /// Its place in the row.
    pub index: u64,
    /// How many hashes or events it holds: 1 to 256.
    pub width: u16,
}

/// Why bytes are not the tile they are read as.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TileError {
    /// A bundle ends within an entry, goes on after its last one, or a hash is cut.
    #[error("{tile} has {found} bytes, which are not {width} {what}", width = tile.width, what = match tile.row {
        Row::Entries => "entries with their lengths",
        Row::Hashes(_) => "hashes of 32 bytes",
    })]
    Length {
        /// The tile.
        tile: Tile,
        /// Bytes there are.
        found: usize,
    },
}

impl Tile {
    /// The tile at `index` of a row as a tree of `size` leaves has it; `None` where it has none.
    pub fn of_tree(row: Row, index: u64, size: u64) -> Option<Self> {
        let total = row_width(row, size);
        let first = index.checked_mul(u64::from(FULL))?;
        let width = u16::try_from(total.checked_sub(first)?.min(u64::from(FULL))).ok()?;
        (width > 0 && size <= MAX_SIZE).then_some(Self { row, index, width })
    }

    /// The last tiles of each row that are not full, in a tree of `size` leaves.
    pub fn partial_of_tree(size: u64) -> impl Iterator<Item = Self> {
        let rows = (0..=MAX_LEVEL).map(Row::Hashes).chain([Row::Entries]);
        rows.filter_map(move |row| Self::of_tree(row, row_width(row, size) / u64::from(FULL), size))
    }

    /// Whether nothing is ever added to it.
    pub fn is_full(self) -> bool {
        self.width == FULL
    }

    /// The same tile once it is full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: FULL, ..self }
    }

    /// What this tile has of the full one that replaced it; `None` where that is not one.
    pub fn part_of(self, full: &[u8]) -> Option<Vec<u8>> {
        let width = usize::from(self.width);
        match self.row {
            Row::Hashes(_) => self.full().hashes(full).ok()?.get(..width).map(<[Hash]>::concat),
            Row::Entries => {
                let mut part = Vec::new();
                let entries = self.full().entries(full).ok()?;
                entries.iter().take(width).all(|entry| push_entry(&mut part, entry)).then_some(part)
            }
        }
    }

    /// Its path below the log's prefix, for example `tile/0/x001/067.p/12`.
    pub fn path(self) -> String {
        self.to_string()
    }

    /// Reads a path; only the one form that [`Tile::path`] writes is one.
    pub fn parse(path: &str) -> Option<Self> {
        if path.len() > MAX_PATH_BYTES {
            return None;
        }
        let rest = path.strip_prefix("tile/")?;
        let (level, rest) = rest.split_once('/')?;
        let row = match level {
            "entries" => Row::Entries,
            level => Row::Hashes(level.parse().ok().filter(|level| *level <= MAX_LEVEL)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().ok().filter(|width| (1..FULL).contains(width))?),
            None => (rest, FULL),
        };
        let mut number = 0u64;
        for part in index.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            number = number.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { row, index: number, width };
        // Leading zeroes, signs, a missing x: nothing else is written this way.
        (tile.path() == path).then_some(tile)
    }

    /// The tile's hashes.
    ///
    /// # Errors
    /// [`TileError::Length`].
    pub fn hashes(self, bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
        let (hashes, []) = bytes.as_chunks::<32>() else { return Err(self.wrong(bytes)) };
        if hashes.len() == usize::from(self.width) { Ok(hashes.to_vec()) } else { Err(self.wrong(bytes)) }
    }

    /// The bundle's events, in order.
    ///
    /// # Errors
    /// [`TileError::Length`].
    pub fn entries(self, bytes: &[u8]) -> Result<Vec<&[u8]>, TileError> {
        let mut entries = Vec::with_capacity(usize::from(self.width));
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((entry, after)) = after.split_at_checked(length) else { return Err(self.wrong(bytes)) };
            entries.push(entry);
            rest = after;
        }
        if rest.is_empty() && entries.len() == usize::from(self.width) { Ok(entries) } else { Err(self.wrong(bytes)) }
    }

    fn wrong(self, bytes: &[u8]) -> TileError {
        TileError::Length { tile: self, found: bytes.len() }
    }
}

/// Adds an event to a bundle; `false` where it is longer than [`MAX_ENTRY_BYTES`], and nothing was added.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, event: &[u8]) -> bool {
    let Ok(length) = u16::try_from(event.len()) else { return false };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(event);
    true
}

/// How many hashes or events a row has in all.
fn row_width(row: Row, size: u64) -> u64 {
    match row {
        Row::Entries => size,
        Row::Hashes(level) => size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0),
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row {
            Row::Entries => f.write_str("tile/entries")?,
            Row::Hashes(level) => write!(f, "tile/{level}")?,
        }
        let mut scale = 1;
        while self.index / scale >= 1000 {
            scale *= 1000;
        }
        while scale > 1 {
            write!(f, "/x{:03}", self.index / scale % 1000)?;
            scale /= 1000;
        }
        write!(f, "/{:03}", self.index % 1000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

#[cfg(test)]
mod tests;
