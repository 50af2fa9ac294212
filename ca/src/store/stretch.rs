//! A stretch of the log, made searchable: which names its events can be found by, and how they lie in a row.

use std::{borrow::Cow, collections::BTreeMap};

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{IndexLog, IndexRow, StoreError, StoredEvent};

/// Events in a stretch; their places above the first are 2 bytes.
pub(super) const EVENTS: i64 = 4096;
/// Bytes of a hash that are kept. Two names with the same ones are told apart by the events themselves.
pub(super) const HASH: usize = 8;
/// A hash and a place.
const PLACE: usize = HASH + 2;

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(borrow, default)]
    serial: Option<Cow<'a, str>>,
}

/// What an event can be found by.
pub(super) struct Names<'a> {
    subject: Cow<'a, str>,
    serial: Option<Cow<'a, str>>,
    /// When what it issued ends; 0 = nothing.
    ends_at: i64,
}

impl<'a> Names<'a> {
    /// `key` tells which event it is, where it cannot be read.
    pub(super) fn of(bytes: &'a [u8], key: impl FnOnce() -> String) -> Result<Self, StoreError> {
        let Told { subject, fields: Fields { expires_at, serial } } = serde_json::from_slice(bytes)
            .map_err(|e| StoreError::Corrupt { table: "events", key: key(), fault: e.to_string() })?;
        Ok(Self { subject, serial, ends_at: expires_at.unwrap_or(0) })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &str> {
        let subject = Some(&*self.subject).filter(|subject| !subject.is_empty());
        subject.into_iter().chain(self.serial.as_deref())
    }
}

pub(super) fn hash(name: &str) -> [u8; HASH] {
    let whole = digest(&SHA256, name.as_bytes());
    std::array::from_fn(|i| whole.as_ref()[i])
}

pub(super) fn shard(hash: [u8; HASH]) -> i64 {
    i64::from(hash[0] >> 2)
}

/// Hashes of a row with the places of their events above the first.
pub(super) fn places(row: &[u8]) -> impl Iterator<Item = (&[u8], i64)> {
    row.chunks_exact(PLACE).map(|place| {
        let (hash, above) = place.split_at(HASH);
        (hash, above.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte)))
    })
}

/// The stretch of these events, which follow each other and `after`.
pub(super) fn of(after: (i64, i64), events: &[StoredEvent]) -> Result<Option<IndexLog>, StoreError> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(None) };
    let mut rows: BTreeMap<i64, IndexRow> = BTreeMap::new();
    for event in events {
        let key = || format!("{}:{}", event.epoch, event.number);
        let above = u16::try_from(event.number - first.number).map_err(|_| StoreError::Corrupt {
            table: "events",
            key: key(),
            fault: format!("numbers before it are missing, from {} on", first.number),
        })?;
        let names = Names::of(&event.bytes, key)?;
        for name in names.each() {
            let hash = hash(name);
            let empty = IndexRow { shard: shard(hash), ends_at: 0, places: Vec::new() };
            let row = rows.entry(shard(hash)).or_insert(empty);
            row.ends_at = row.ends_at.max(names.ends_at);
            row.places.extend(hash.into_iter().chain(above.to_be_bytes()));
        }
    }
    let until = (last.epoch, last.number + 1);
    Ok(Some(IndexLog { after, until, first: first.number, rows: rows.into_values().collect() }))
}
