//! Where in the log a name occurs, so that a revocation finds what was issued in a log of any length.
//!
//! An index on the events would have each issuance write a page of its own somewhere in the middle of a tree. This one is written
//! behind the log, a stretch of numbers at a time and each stretch in one go (docs/decisions/0067); whoever searches reads the rest,
//! at most a stretch and what was committed since the last look, from the log's end.

use std::collections::{BTreeMap, BTreeSet};

use chancery_sdk::time::UnixTime;
use sqlx::QueryBuilder;

use super::{Context, Db, Events, Pool, Stop, Tx, many};
use crate::store::{
    IndexLog, Refusal, StoreError,
    stretch::{self, HASH, Names},
};

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

/// Epoch and first number that can not be searched yet; epoch and next number of the log.
pub(in crate::store) async fn ends(pool: &Pool) -> Result<((i64, i64), (i64, i64)), StoreError> {
    let (epoch, next, of, end): (i64, i64, i64, i64) = sqlx::query_as(ENDS).fetch_one(pool).await?;
    Ok(((epoch, next), (of, end)))
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
            found.extend(meant(query.build_query_as().fetch_all(&mut *tx).await?, &wanted)?);
        }
    }
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
        let names = Names::of(&event.bytes, || format!("{}:{}", event.epoch, event.number))?;
        let is_wanted = names.each().any(|name| wanted.contains(name));
        drop(names);
        if is_wanted {
            meant.push(event);
        }
    }
    Ok(meant)
}

/// Numbers by epoch, in order, of events that may be meant.
async fn places(tx: &mut Tx, wanted: &BTreeSet<&str>, at: UnixTime) -> Result<BTreeMap<i64, Vec<i64>>, StoreError> {
    let hashes: BTreeSet<[u8; HASH]> = wanted.iter().map(|name| stretch::hash(name)).collect();
    let shards: BTreeSet<i64> = hashes.iter().copied().map(stretch::shard).collect();
    let mut found: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    if shards.is_empty() {
        return Ok(found);
    }
    let mut query = many::among(SHARDS, shards.into_iter().collect());
    query.push(" AND ends_at >= ").push_bind(at.0);
    let rows: Vec<(i64, i64, Vec<u8>)> = query.build_query_as().fetch_all(&mut *tx).await?;
    for (epoch, first, row) in &rows {
        let hit = stretch::places(row).filter(|(hash, _)| hashes.contains(*hash));
        found.entry(*epoch).or_default().extend(hit.map(|(_, above)| first + above));
    }
    for numbers in found.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    Ok(found)
}

/// What was built is about the record and no part of it: it has no event.
pub(super) async fn write(tx: &mut Tx, context: &mut Context, fact: &IndexLog) -> Result<Events, Stop> {
    let (after, until) = (fact.after, fact.until);
    let advance = sqlx::query(ADVANCE).bind(until.0).bind(until.1).bind(after.0).bind(after.1);
    if advance.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::Stale.into());
    }
    if !fact.rows.is_empty() {
        let mut insert = QueryBuilder::<Db>::new(INSERT);
        insert.push_values(&fact.rows, |mut row, one| {
            row.push_bind(one.shard).push_bind(until.0).push_bind(fact.first).push_bind(one.ends_at);
            row.push_bind(one.places.clone());
        });
        insert.build().execute(&mut *tx).await?;
    }
    context.unlogged = true;
    Ok(Vec::new())
}
