//! Where in the log a name occurs, so that a revocation finds what was issued in a log of any length.
//!
//! An index on the events would have each issuance write a page of its own somewhere in the middle of a tree. This one is written behind the
//! log, a stretch of numbers at a time and each stretch in one go (docs/decisions/0067); whoever searches reads the rest, at most a
//! stretch and what was committed since the last look, from the log's end.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use chancery_sdk::time::UnixTime;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use sqlx::QueryBuilder;

use super::{Context, Db, Events, Pool, Stop, Tx, many};
use crate::store::{IndexLog, IndexRow, Refusal, StoreError};

/// Events in a stretch; their places above the first are 2 bytes.
const STRETCH: usize = 4096;
/// Bytes of a hash that are kept. Two names with the same ones are told apart by the events themselves.
const HASH: usize = 8;
/// A hash and a place.
const PLACE: usize = HASH + 2;
/// Events of the log's end that are read at once.
const PAGE: i64 = 4096;
/// Events in one statement.
const SOME: usize = 256;

const ENDS: &str = "SELECT i.epoch, i.next, c.epoch, c.next FROM log_indexed i, counter c WHERE i.id = 0 AND c.id = 0";
const FROM: &str = "SELECT epoch, number, kind, subject, bytes FROM events WHERE (epoch, number) >= ($1, $2) \
    ORDER BY epoch, number LIMIT $3";
const ADVANCE: &str = "UPDATE log_indexed SET epoch = $1, next = $2 WHERE id = 0 AND epoch = $3 AND next = $4";
const INSERT: &str = "INSERT INTO log_index (shard, epoch, first, ends_at, places) ";
const SHARDS: &str = "SELECT epoch, first, places FROM log_index WHERE shard";
const EVENTS: &str = "SELECT epoch, number, kind, subject, bytes FROM events WHERE epoch = ";

/// An event that was searched for.
#[derive(sqlx::FromRow)]
pub(super) struct Found {
    pub epoch: i64,
    pub number: i64,
    pub kind: String,
    pub subject: String,
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Told<'a> {
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

impl Found {
    /// What it can be found by, and when what it issued ends.
    fn names(&self) -> Result<(Vec<Cow<'_, str>>, i64), StoreError> {
        let fault = |e: serde_json::Error| {
            let key = format!("{}:{}", self.epoch, self.number);
            StoreError::Corrupt { table: "events", key, fault: e.to_string() }
        };
        let told: Told<'_> = serde_json::from_slice(&self.bytes).map_err(fault)?;
        let subject = (!self.subject.is_empty()).then(|| Cow::from(self.subject.as_str()));
        let names = subject.into_iter().chain(told.fields.serial).collect();
        Ok((names, told.fields.expires_at.unwrap_or(0)))
    }
}

fn hash(name: &str) -> [u8; HASH] {
    let whole = digest(&SHA256, name.as_bytes());
    std::array::from_fn(|i| whole.as_ref()[i])
}

fn shard(hash: [u8; HASH]) -> i64 {
    i64::from(hash[0] >> 2)
}

/// Events by subject or serial, in order: those of which something is valid at `at`, and others beside them. 0 = all.
///
/// Read in the transaction that holds the counter row it is complete.
pub(super) async fn find(tx: &mut Tx, names: &[String], at: UnixTime) -> Result<Vec<Found>, StoreError> {
    let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let (epoch, next, ..): (i64, i64, i64, i64) = sqlx::query_as(ENDS).fetch_one(&mut *tx).await?;
    let mut found = Vec::new();
    for (epoch, numbers) in places(tx, &wanted, at).await? {
        for some in numbers.chunks(SOME) {
            let mut query = QueryBuilder::<Db>::new(EVENTS);
            query.push_bind(epoch);
            many::and_among(&mut query, " AND number", some.to_vec());
            query.push(" ORDER BY number");
            found.extend(query.build_query_as::<Found>().fetch_all(&mut *tx).await?);
        }
    }
    let mut found = meant(found, &wanted)?;
    let mut place = (epoch, next);
    loop {
        let tail = sqlx::query_as::<_, Found>(FROM).bind(place.0).bind(place.1).bind(PAGE);
        let tail = tail.fetch_all(&mut *tx).await?;
        let Some(last) = tail.last() else { return Ok(found) };
        place = (last.epoch, last.number + 1);
        found.extend(meant(tail, &wanted)?);
    }
}

fn meant(events: Vec<Found>, wanted: &BTreeSet<&str>) -> Result<Vec<Found>, StoreError> {
    let mut meant = Vec::new();
    for event in events {
        let is_wanted = event.names()?.0.iter().any(|name| wanted.contains(&**name));
        if is_wanted {
            meant.push(event);
        }
    }
    Ok(meant)
}

/// Numbers by epoch, in order, of events that may be meant.
async fn places(tx: &mut Tx, wanted: &BTreeSet<&str>, at: UnixTime) -> Result<BTreeMap<i64, Vec<i64>>, StoreError> {
    let hashes: BTreeSet<[u8; HASH]> = wanted.iter().map(|name| hash(name)).collect();
    let shards: BTreeSet<i64> = hashes.iter().copied().map(shard).collect();
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    if shards.is_empty() {
        return Ok(found);
    }
    let mut query = many::among(SHARDS, shards.into_iter().collect());
    query.push(" AND ends_at >= ").push_bind(at.0);
    let rows: Vec<(i64, i64, Vec<u8>)> = query.build_query_as().fetch_all(&mut *tx).await?;
    for (epoch, first, places) in rows {
        for place in places.chunks_exact(PLACE) {
            let (hash, above) = place.split_at(HASH);
            if hashes.contains(hash) {
                let above = above.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte));
                found.entry(epoch).or_default().push(first + above);
            }
        }
    }
    for numbers in found.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    Ok(found)
}

/// The next stretch that is full, or the rest of an epoch that is over.
pub(in crate::store) async fn next(pool: &Pool) -> Result<Option<IndexLog>, StoreError> {
    let (epoch, next, of, end): (i64, i64, i64, i64) = sqlx::query_as(ENDS).fetch_one(pool).await?;
    let stretch = i64::try_from(STRETCH).unwrap_or(i64::MAX);
    if epoch == of && end - next < stretch {
        return Ok(None);
    }
    let read = sqlx::query_as::<_, Found>(FROM).bind(epoch).bind(next).bind(stretch + 1);
    let mut events: Vec<Found> = read.fetch_all(pool).await?;
    let Some(first) = events.first() else { return Ok(None) };
    let (epoch_of, first) = (first.epoch, first.number);
    let all = events.len();
    events.truncate(STRETCH);
    events.retain(|event| event.epoch == epoch_of);
    if events.len() < STRETCH && events.len() == all && epoch_of == of {
        return Ok(None);
    }
    let last = events.last().map_or(first, |event| event.number);
    let rows = rows(&events, first)?;
    Ok(Some(IndexLog { after: (epoch, next), until: (epoch_of, last + 1), first, rows }))
}

fn rows(events: &[Found], first: i64) -> Result<Vec<IndexRow>, StoreError> {
    let mut rows: BTreeMap<i64, IndexRow> = BTreeMap::new();
    for event in events {
        let (names, ends_at) = event.names()?;
        let above = u16::try_from(event.number - first).map_err(|_| StoreError::Corrupt {
            table: "events",
            key: format!("{}:{}", event.epoch, event.number),
            fault: format!("numbers before it are missing, from {first} on"),
        })?;
        for name in names {
            let hash = hash(&name);
            let empty = IndexRow { shard: shard(hash), ends_at: 0, places: Vec::new() };
            let row = rows.entry(shard(hash)).or_insert(empty);
            row.ends_at = row.ends_at.max(ends_at);
            row.places.extend(hash.into_iter().chain(above.to_be_bytes()));
        }
    }
    Ok(rows.into_values().collect())
}

/// What was built is about the record and no part of it: it has no event.
pub(super) async fn write(tx: &mut Tx, context: &mut Context, fact: &IndexLog) -> Result<Events, Stop> {
    let (after, until) = (fact.after, fact.until);
    let advance = sqlx::query(ADVANCE).bind(until.0).bind(until.1).bind(after.0).bind(after.1);
    if advance.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::Stale.into());
    }
    let mut insert = QueryBuilder::<Db>::new(INSERT);
    insert.push_values(&fact.rows, |mut row, one| {
        row.push_bind(one.shard).push_bind(until.0).push_bind(fact.first).push_bind(one.ends_at);
        row.push_bind(one.places.clone());
    });
    if !fact.rows.is_empty() {
        insert.build().execute(&mut *tx).await?;
    }
    context.unlogged = true;
    Ok(Vec::new())
}
