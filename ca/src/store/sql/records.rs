//! Records whose time is over. Cleaning up never un-revokes.
//!
//! A revocation goes a day after what it names has ended by itself. A class that was closed and an executable that was
//! revoked stay so.
//!
//! Evidence goes when its time is over, which was set when it was kept; its digest stays in the record.
//!
//! What else goes: instances whose last certificate ended 90 days ago and whose process is known to be gone, their keys, and
//! join tokens that expired 90 days ago; holds, once nothing depends on them. An instance that was ended while its process
//! may live on (an operator's act, a node that failed, was banned or fell silent, a class that was deleted) stays: its start
//! token is what keeps that process from beginning again. Nodes stay: they bind an EK to an attestation key.

use chancery_core::event::Event;

use super::{Events, Stop, Tx, evidence, holds, revocations};
use crate::store::Moment;

/// How long records are kept past the last certificate.
const KEPT_SECS: i64 = 90 * 86_400;
/// Most instances in one transaction.
const SOME: i64 = 500;

macro_rules! over {
    ($what:literal) => {
        concat!(
            $what,
            " (SELECT id FROM instances WHERE standing = 'ended' AND expires_at <= $1 AND ended_at <= $1 \
             AND end_reason IN ('process-ended', 'reconciled', 'new-boot') ORDER BY expires_at, id LIMIT $2)"
        )
    };
}

const KEYS: &str = over!("DELETE FROM instance_keys WHERE instance_id IN");
const INSTANCES: &str = over!("DELETE FROM instances WHERE id IN");
const TOKENS: &str = "DELETE FROM join_tokens WHERE expires_at <= $1";

pub(super) async fn prune(tx: &mut Tx, fact: &Moment) -> Result<Events, Stop> {
    let before = fact.now.plus(-KEPT_SECS).0;
    let keys = sqlx::query(KEYS).bind(before).bind(SOME).execute(&mut *tx).await?.rows_affected();
    let instances = sqlx::query(INSTANCES).bind(before).bind(SOME).execute(&mut *tx).await?.rows_affected();
    let tokens = sqlx::query(TOKENS).bind(before).execute(&mut *tx).await?.rows_affected();
    let revocations = revocations::prune(tx, fact.now).await?;
    let holds = holds::prune(tx, fact.now).await?;
    let kept = evidence::prune(tx, fact.now, SOME).await?;
    if keys + instances + tokens + revocations + holds + kept == 0 {
        return Ok(Vec::new());
    }
    let event = Event::new("records.pruned", "")
        .with("before", before)
        .with("evidence", kept)
        .with("holds", holds)
        .with("instances", instances)
        .with("keys", keys)
        .with("revocations", revocations)
        .with("tokens", tokens);
    Ok(vec![event])
}
