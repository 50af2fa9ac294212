//! What nodes said when they proved themselves, for as long as it is kept. The record has the digest, for ever.

use chancery_core::node::Node;
use chancery_sdk::time::UnixTime;
use sqlx::QueryBuilder;

use super::{Db, Pool, Stop, Tx};
use crate::store::{KeptEvidence, StoreError};

const ONE: &str = "SELECT bytes FROM evidence WHERE sha256 = $1";
const INSERT: &str = "INSERT INTO evidence (sha256, bytes, kept_until) ";
/// Whoever needs it longest decides.
const AGAIN: &str = " ON CONFLICT (sha256) DO UPDATE SET kept_until = excluded.kept_until \
    WHERE evidence.kept_until < excluded.kept_until";
const PRUNE: &str = "DELETE FROM evidence WHERE sha256 IN \
    (SELECT sha256 FROM evidence WHERE kept_until <= $1 ORDER BY kept_until LIMIT $2)";

/// The bytes of this digest.
pub(in crate::store) async fn one(pool: &Pool, sha256: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(ONE).bind(sha256.to_vec()).fetch_optional(pool).await?)
}

/// Least time between two attestations of one node that are kept: what a hostile one says must not fill the disk.
const PACE_SECS: i64 = 60;

/// Whether what `node` says now is kept besides its digest; nothing is known of a node that is new.
pub(super) fn is_due(node: Option<&Node>, at: UnixTime) -> bool {
    node.is_none_or(|node| at.since(node.attested_at) >= PACE_SECS)
}

/// Keeps it where it is due, and gives its digest as the event has it.
pub(super) async fn keep(tx: &mut Tx, kept: &KeptEvidence, is_due: bool) -> Result<String, Stop> {
    let digest = hex::encode(kept.what.digest());
    if !is_due {
        return Ok(digest);
    }
    let mut blobs: Vec<_> = kept.what.blobs().collect();
    // One statement cannot write a row twice; a node may say the same thing in two places.
    blobs.sort_unstable_by_key(|blob| blob.sha256);
    blobs.dedup_by_key(|blob| blob.sha256);
    let mut insert = QueryBuilder::<Db>::new(INSERT);
    insert.push_values(blobs, |mut row, blob| {
        row.push_bind(blob.sha256.to_vec()).push_bind(blob.bytes.clone()).push_bind(kept.until.0);
    });
    insert.push(AGAIN).build().execute(&mut *tx).await?;
    Ok(digest)
}

/// Deletes at most `some` whose time is over; how many.
pub(super) async fn prune(tx: &mut Tx, now: UnixTime, some: i64) -> Result<u64, Stop> {
    Ok(sqlx::query(PRUNE).bind(now.0).bind(some).execute(&mut *tx).await?.rows_affected())
}
