//! A restored database, accepted: a new epoch, whose log begins with what was lost.

use chancery_core::event::{Event, Place};
use ring::rand::{SecureRandom, SystemRandom};

use super::{BEGIN, Pool, schema};
use crate::store::{Accepted, LastTree, Seen, StoreError};

const TAKE: &str = "UPDATE counter SET next = next WHERE id = 0 RETURNING epoch, next";
/// The bundle's sequence number goes on from epoch x 2^32.
const NEXT_EPOCH: &str = "UPDATE counter SET epoch = $1, next = 1, bundle_revision = 0 WHERE id = 0";
const TOKENS: &str = "DELETE FROM join_tokens WHERE spent_at IS NULL";
/// Runs that the backup remembers are long over; one that goes on all the same writes nothing any more.
const CLAIMS: &str = "DELETE FROM server_claims";
const NODES: &str = "UPDATE nodes SET standing = 'failed', reason = 'database restored', version = version + 1 \
    WHERE standing = 'good'";
const INSTANCES: &str = "UPDATE instances SET standing = 'ended', ended_at = $1, end_reason = 'database-restored' \
    WHERE standing = 'good'";
const RECORD: &str = "INSERT INTO events (epoch, number, at, server, kind, subject, bytes, hash) \
    VALUES ($1, 0, $2, $3, $4, $5, $6, $7)";

/// Begins the epoch after `seen` and after the database's own; every node must prove itself again.
pub(in crate::store) async fn accept(
    pool: &Pool,
    server: &str,
    seen: Option<&Seen>,
    tree: Option<LastTree>,
) -> Result<Accepted, StoreError> {
    schema::check(pool).await?;
    let mut tx = pool.begin_with(BEGIN).await?;
    let (before, next): (i64, i64) = sqlx::query_as(TAKE).fetch_one(&mut *tx).await?;
    let epoch = before.max(seen.map_or(0, |s| s.epoch)) + 1;
    let at = chancery_daemon::clock::now();
    let tokens = sqlx::query(TOKENS).execute(&mut *tx).await?.rows_affected();
    let nodes = sqlx::query(NODES).execute(&mut *tx).await?.rows_affected();
    let instances = sqlx::query(INSTANCES).bind(at.0).execute(&mut *tx).await?.rows_affected();
    sqlx::query(CLAIMS).execute(&mut *tx).await?;
    let mut event = Event::new("epoch.begun", "restore")
        .with("instances_ended", instances)
        .with("nodes_failed", nodes)
        .with("restored_epoch", before)
        .with("restored_next", next)
        .with("tokens_deleted", tokens);
    if let Some(seen) = seen {
        event =
            event.with("seen_epoch", seen.epoch).with("seen_hash", seen.hash.as_str()).with("seen_number", seen.number);
    }
    if let Some(LastTree { epoch, head }) = tree {
        let root = hex::encode(head.root);
        event = event.with("log_epoch", epoch).with("log_root", root).with("log_size", head.size);
    }
    let (kind, subject) = (event.kind, event.subject.clone());
    let sealed = event.seal(Place { epoch, number: 0, at, server }, || {
        let mut salt = [0; 16];
        // No fact about a person is in this event, so no salt is asked for.
        let _ = SystemRandom::new().fill(&mut salt);
        salt
    });
    let insert = sqlx::query(RECORD).bind(epoch).bind(at.0).bind(server).bind(kind).bind(subject);
    insert.bind(sealed.bytes).bind(sealed.hash.to_vec()).execute(&mut *tx).await?;
    sqlx::query(NEXT_EPOCH).bind(epoch).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(Accepted { epoch, instances, nodes, tokens })
}
