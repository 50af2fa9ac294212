use super::{Pool, all_of};
use crate::store::{
    BundleRevision, Changes, LogEnd, Logged, StoreError, StoredEvent,
    rows::{EventRow, LoggedRow},
};

const AFTER: &str = "SELECT epoch, number, bytes, hash FROM events \
    WHERE epoch = (SELECT epoch FROM counter WHERE id = 0) AND number > $1 ORDER BY number LIMIT $2";
/// What other parts of a server keep in memory; [`is_followed`] says the same of a kind.
const CHANGES: &str = "SELECT number, kind, subject, bytes, hash FROM events \
    WHERE epoch = $1 AND number > $2 AND number < $3 AND (kind LIKE 'bundle.%' OR kind LIKE 'class.%' \
    OR kind LIKE 'entry.%' OR kind LIKE 'node.%' OR kind LIKE 'authority.%' OR kind LIKE 'instance.%' \
    OR kind LIKE 'executable.%' OR kind LIKE 'crl.%' OR kind IN ('svid.revoked', 'tokens.revoked')) \
    ORDER BY number LIMIT $4";
const HASH: &str = "SELECT hash FROM events WHERE epoch = $1 AND number = $2";
const COUNTER: &str = "SELECT epoch, next, bundle_revision FROM counter WHERE id = 0";

pub(in crate::store) async fn after(
    pool: &Pool,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let query = sqlx::query_as::<_, EventRow>(AFTER).bind(after.unwrap_or(-1)).bind(i64::from(limit));
    all_of(query.fetch_all(pool).await?)
}

pub(in crate::store) async fn bundle_revision(pool: &Pool) -> Result<BundleRevision, StoreError> {
    let (epoch, _, revision): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    Ok(BundleRevision { epoch, revision })
}

/// Whether an event of this kind changes what servers keep in memory.
pub(super) fn is_followed(kind: &str) -> bool {
    is_registered(kind) || kind.starts_with("instance.")
}

/// Whether an event of this kind changes what is registered, or what is published: others are woken.
pub(super) fn is_registered(kind: &str) -> bool {
    let group = kind.split_once('.').map_or("", |(group, _)| group);
    matches!(group, "authority" | "bundle" | "class" | "crl" | "entry" | "executable" | "node")
        || matches!(
            kind,
            "instance.ended"
                | "instance.held"
                | "instance.released"
                | "instance.revoked"
                | "svid.revoked"
                | "tokens.revoked"
        )
}

/// The counter is read first: everything below it is committed, and is there to be read.
pub(in crate::store) async fn changes(pool: &Pool, after: i64, limit: u32) -> Result<Changes, StoreError> {
    let (epoch, next, _): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    if next - 1 <= after {
        return Ok(Changes { epoch, until: next - 1, changes: Vec::new(), more: false });
    }
    let read = sqlx::query_as::<_, LoggedRow>(CHANGES).bind(epoch).bind(after).bind(next).bind(i64::from(limit));
    let changes: Vec<Logged> = all_of(read.fetch_all(pool).await?)?;
    let more = changes.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let until = if more { changes.last().map_or(next - 1, |last| last.number) } else { next - 1 };
    Ok(Changes { epoch, until, changes, more })
}

pub(in crate::store) async fn end(pool: &Pool) -> Result<LogEnd, StoreError> {
    let (epoch, next, _): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    let hash: Option<Vec<u8>> = sqlx::query_scalar(HASH).bind(epoch).bind(next - 1).fetch_optional(pool).await?;
    Ok(LogEnd { epoch, number: next - 1, hash: hash.unwrap_or_default() })
}

/// -1 = the log is empty.
pub(super) async fn last_number(pool: &Pool) -> Result<i64, StoreError> {
    let (_, next, _): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    Ok(next - 1)
}
