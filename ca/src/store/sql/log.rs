use chancery_core::{event::Event, log::proof::Head};
use serde_json::json;

use super::{Context, Events, Pool, Stop, Tx, all_of};
use crate::store::{
    ClearValue, DisputeLog, LeaveLog, LogLease, RecordRow, Refusal, StoreCheckpoint, StoreError, StoredCheckpoint,
    StoredEvent, TakeLog, rows::EventRow,
};

/// Of earlier checkpoints the last of so many events stays.
const KEPT_EVERY: u64 = 4096;
const LEASE: &str = "SELECT server, nonce, fence FROM log_lease WHERE id = 0";
const TAKE: &str = "UPDATE log_lease SET server = $1, nonce = $2, fence = fence + 1 \
    WHERE id = 0 AND server = $3 AND nonce = $4 AND fence = $5";
const LEAVE: &str = "UPDATE log_lease SET server = '', nonce = '' WHERE id = 0 AND fence = $1 AND server <> ''";
const HOLDS: &str = "SELECT c.epoch, c.next, l.fence FROM counter c, log_lease l WHERE c.id = 0 AND l.id = 0";
const LAST: &str = "SELECT epoch, size, root, note FROM checkpoints WHERE epoch = $1 ORDER BY size DESC LIMIT 1";
const AFTER: &str =
    "SELECT epoch, size, root, note FROM checkpoints WHERE epoch = $1 AND size > $2 ORDER BY size LIMIT $3";
const STORE: &str = "INSERT INTO checkpoints (epoch, size, root, fence, note) VALUES ($1, $2, $3, $4, $5)";
const FORGET: &str = "DELETE FROM checkpoints WHERE epoch = $1 AND size = $2";
const LEAVES: &str = "SELECT epoch, number, bytes, hash FROM events \
    WHERE epoch = $1 AND number > $2 ORDER BY number LIMIT $3";
const RECORD: &str = "SELECT epoch, number, at, server, kind, subject, bytes, hash FROM events \
    WHERE epoch = $1 AND number > $2 ORDER BY number LIMIT $3";
const CLEAR: &str = "SELECT number, field, salt, value FROM event_clear \
    WHERE epoch = $1 AND number > $2 AND number <= $3 ORDER BY number, field";
const NEXT_EPOCH: &str = "SELECT MIN(epoch) FROM (SELECT epoch FROM events WHERE epoch > $1 \
    UNION ALL SELECT epoch FROM checkpoints WHERE epoch > $1) AS e";

type CheckpointRow = (i64, i64, Vec<u8>, Vec<u8>);

fn stored((epoch, size, root, note): CheckpointRow) -> StoredCheckpoint {
    StoredCheckpoint { epoch, size, root, note }
}

pub(in crate::store) async fn lease(pool: &Pool) -> Result<LogLease, StoreError> {
    let (server, nonce, fence) = sqlx::query_as(LEASE).fetch_one(pool).await?;
    Ok(LogLease { server, nonce, fence })
}

pub(in crate::store) async fn last_checkpoint(pool: &Pool, epoch: i64) -> Result<Option<StoredCheckpoint>, StoreError> {
    let row: Option<CheckpointRow> = sqlx::query_as(LAST).bind(epoch).fetch_optional(pool).await?;
    Ok(row.map(stored))
}

pub(in crate::store) async fn checkpoints(
    pool: &Pool,
    epoch: i64,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let read = sqlx::query_as(AFTER).bind(epoch).bind(after).bind(i64::from(limit));
    let rows: Vec<CheckpointRow> = read.fetch_all(pool).await?;
    Ok(rows.into_iter().map(stored).collect())
}

pub(in crate::store) async fn leaves(
    pool: &Pool,
    epoch: i64,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let read = sqlx::query_as::<_, EventRow>(LEAVES).bind(epoch).bind(after).bind(i64::from(limit));
    all_of(read.fetch_all(pool).await?)
}

pub(in crate::store) async fn record(
    pool: &Pool,
    epoch: i64,
    after: i64,
    limit: u32,
) -> Result<Vec<RecordRow>, StoreError> {
    Ok(sqlx::query_as(RECORD).bind(epoch).bind(after).bind(i64::from(limit)).fetch_all(pool).await?)
}

pub(in crate::store) async fn clear_values(
    pool: &Pool,
    epoch: i64,
    after: i64,
    until: i64,
) -> Result<Vec<ClearValue>, StoreError> {
    Ok(sqlx::query_as(CLEAR).bind(epoch).bind(after).bind(until).fetch_all(pool).await?)
}

/// The first epoch above `after` that has an event or a checkpoint.
pub(in crate::store) async fn next_epoch(pool: &Pool, after: i64) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar(NEXT_EPOCH).bind(after).fetch_one(pool).await?)
}

pub(super) async fn take(tx: &mut Tx, fact: &TakeLog) -> Result<Events, Stop> {
    let over = &fact.over;
    let write = sqlx::query(TAKE).bind(&fact.server).bind(&fact.nonce);
    let write = write.bind(&over.server).bind(&over.nonce).bind(over.fence);
    if write.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::Stale.into());
    }
    Ok(vec![
        Event::new("log.taken", fact.key.as_str()).with("after", over.server.as_str()).with("fence", over.fence + 1),
    ])
}

/// Nobody signs from now on; the next taking has its event.
pub(super) async fn leave(tx: &mut Tx, context: &mut Context, fact: &LeaveLog) -> Result<Events, Stop> {
    if sqlx::query(LEAVE).bind(fact.fence).execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::Stale.into());
    }
    context.unlogged = true;
    Ok(Vec::new())
}

/// A checkpoint is about the record and no part of it: it has no event.
pub(super) async fn store(tx: &mut Tx, context: &mut Context, fact: &StoreCheckpoint) -> Result<Events, Stop> {
    let (epoch, next, fence): (i64, i64, i64) = sqlx::query_as(HOLDS).fetch_one(&mut *tx).await?;
    let size = i64::try_from(fact.head.size).map_err(|_| Refusal::Stale)?;
    if epoch != fact.epoch || fence != fact.fence || size > next {
        return Err(Refusal::Stale.into());
    }
    let last: Option<CheckpointRow> = sqlx::query_as(LAST).bind(epoch).fetch_optional(&mut *tx).await?;
    let last = last.map(|(_, size, root, _)| (size, root));
    let before = fact.before.map(|head| (i64::try_from(head.size).unwrap_or(i64::MAX), head.root.to_vec()));
    if last != before || fact.before.is_some_and(|before| before.size >= fact.head.size) {
        return Err(Refusal::CheckpointOther.into());
    }
    let insert = sqlx::query(STORE).bind(epoch).bind(size).bind(fact.head.root.to_vec()).bind(fence);
    insert.bind(&fact.note).execute(&mut *tx).await?;
    if let Some(before) = fact.before.filter(|before| is_superseded(*before, fact.head)) {
        let forget = sqlx::query(FORGET).bind(epoch).bind(i64::try_from(before.size).unwrap_or(i64::MAX));
        forget.execute(&mut *tx).await?;
    }
    context.unlogged = true;
    Ok(Vec::new())
}

pub(super) fn dispute(fact: &DisputeLog) -> Events {
    let mut event = Event::new("log.disputed", fact.node.to_string());
    for (name, tree) in [("kept", fact.kept), ("refused", fact.refused)] {
        if let Some((epoch, head)) = tree {
            event = event.with(name, json!({ "epoch": epoch, "root": hex::encode(head.root), "size": head.size }));
        }
    }
    vec![event.with("verdict", fact.verdict).with("why", fact.why)]
}

fn is_superseded(before: Head, by: Head) -> bool {
    before.size / KEPT_EVERY == by.size / KEPT_EVERY
}
