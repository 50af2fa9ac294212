//! Holds. One is in force while its end is after the time of the transaction that asks; no task takes it off.
//!
//! What issuing asks is `held_until` of the instance's own row, which it reads anyway; `holds` says who and why.

use chancery_core::{
    event::Event,
    instance::{DETECTOR_REST_SECS, DetectorFacts, Standing, may_detector_hold},
};
use chancery_sdk::time::UnixTime;

use super::{Context, Events, Pool, Stop, Tx};
use crate::store::{Hold, HoldInstance, Placed, Refusal, ReleaseHold, StoreError};

/// How long a row is kept past its end: a detector's counts for a day, and clocks differ.
const KEPT_SECS: i64 = 2 * DETECTOR_REST_SECS;

const INSTANCE: &str = "SELECT class, node_id, standing, held_until FROM instances WHERE id = $1";
/// When a detector held it last, how many of the class run, and how many of those detectors hold now.
const CAPS: &str = "SELECT (SELECT detected_at FROM holds WHERE instance_id = $1), \
    (SELECT COUNT(*) FROM instances WHERE class = $2 AND standing = 'good'), \
    (SELECT COUNT(*) FROM holds h JOIN instances i ON i.id = h.instance_id \
    WHERE h.class = $2 AND h.held_until > $3 AND h.detector <> '' AND i.standing = 'good')";
const SET: &str = "UPDATE instances SET held_until = $2 WHERE id = $1";
/// A detector's last time outlives what an operator places afterwards.
const PLACE: &str = "INSERT INTO holds (instance_id, class, node_id, held_until, placed_at, detector, reason, detected_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (instance_id) DO UPDATE SET held_until = excluded.held_until, \
    placed_at = excluded.placed_at, detector = excluded.detector, reason = excluded.reason, \
    detected_at = COALESCE(excluded.detected_at, holds.detected_at)";
const IN_FORCE: &str = "SELECT class, node_id, held_until FROM holds WHERE instance_id = $1 AND held_until > $2";
const RELEASE: &str = "UPDATE holds SET held_until = $2 WHERE instance_id = $1";
const LISTED: &str = "SELECT instance_id, class, node_id, held_until, placed_at, detector, reason FROM holds \
    WHERE held_until > $1 AND instance_id > $2 ORDER BY instance_id LIMIT $3";
const PRUNE: &str = "DELETE FROM holds WHERE held_until <= $1";

/// Holding again replaces the end.
pub(super) async fn place(tx: &mut Tx, context: &Context, fact: &HoldInstance) -> Result<Events, Stop> {
    let (id, at) = (fact.id.as_str(), context.at);
    let row: Option<(String, String, String, Option<i64>)> =
        sqlx::query_as(INSTANCE).bind(id).fetch_optional(&mut *tx).await?;
    let (class, node, standing, held_until) = row.ok_or(Refusal::NotFound)?;
    if standing != Standing::Good.as_str() {
        return Err(Refusal::InstanceNotGood.into());
    }
    if let Placed::Detector { .. } = fact.placed {
        capped(tx, id, &class, held_until.map(UnixTime), at).await?;
    }
    let until = fact.span.until(at);
    let event = Event::new("instance.held", id).with("class", class.as_str()).with("node", node.as_str());
    let event = event.with("reason", fact.reason.as_str()).with("until", until.0);
    let (detector, detected_at, event) = match &fact.placed {
        Placed::Detector { name } => (*name, Some(at.0), event.with("detector", *name)),
        Placed::Operator { caller } => ("", None, event.with_personal("caller", caller)),
    };
    sqlx::query(SET).bind(id).bind(until.0).execute(&mut *tx).await?;
    let insert = sqlx::query(PLACE).bind(id).bind(class).bind(node).bind(until.0).bind(at.0);
    insert.bind(detector).bind(&fact.reason).bind(detected_at).execute(&mut *tx).await?;
    Ok(vec![event])
}

/// A detector gone wild is refused by what the very transaction sees.
async fn capped(tx: &mut Tx, id: &str, class: &str, held_until: Option<UnixTime>, at: UnixTime) -> Result<(), Stop> {
    let caps = sqlx::query_as(CAPS).bind(id).bind(class).bind(at.0);
    let (last, running, held): (Option<i64>, i64, i64) = caps.fetch_one(&mut *tx).await?;
    let facts = DetectorFacts { held_until, last_detected: last.map(UnixTime), running, held };
    Ok(may_detector_hold(facts, at).map_err(Refusal::HoldCapped)?)
}

/// Also where the instance has ended meanwhile: peers are told.
pub(super) async fn release(tx: &mut Tx, context: &Context, fact: &ReleaseHold) -> Result<Events, Stop> {
    let (id, at) = (fact.id.as_str(), context.at);
    let row = sqlx::query_as(IN_FORCE).bind(id).bind(at.0).fetch_optional(&mut *tx).await?;
    let (class, node, until): (String, String, i64) = row.ok_or(Refusal::NotFound)?;
    sqlx::query(SET).bind(id).bind(None::<i64>).execute(&mut *tx).await?;
    sqlx::query(RELEASE).bind(id).bind(at.0).execute(&mut *tx).await?;
    let event = Event::new("instance.released", id).with("class", class).with("node", node);
    let event = event.with("reason", fact.order.reason.as_str()).with("until", until);
    Ok(vec![event.with_personal("caller", &fact.order.caller)])
}

/// Takes away what was over long ago; how many rows.
pub(super) async fn prune(tx: &mut Tx, now: UnixTime) -> Result<u64, Stop> {
    Ok(sqlx::query(PRUNE).bind(now.plus(-KEPT_SECS).0).execute(&mut *tx).await?.rows_affected())
}

pub(in crate::store) async fn listed(
    pool: &Pool,
    now: UnixTime,
    after: &str,
    limit: u32,
) -> Result<Vec<Hold>, StoreError> {
    type Row = (String, String, String, i64, i64, String, String);
    let rows = sqlx::query_as(LISTED).bind(now.0).bind(after).bind(i64::from(limit));
    let rows: Vec<Row> = rows.fetch_all(pool).await?;
    let hold = |(instance, class, node, until, placed_at, detector, reason): Row| Hold {
        instance,
        class,
        node,
        until: UnixTime(until),
        placed_at: UnixTime(placed_at),
        detector: Some(detector).filter(|name| !name.is_empty()),
        reason,
    };
    Ok(rows.into_iter().map(hold).collect())
}
