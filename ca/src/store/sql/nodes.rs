use chancery_core::{
    event::Event,
    evidence::Step,
    node::{Node, Standing},
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use serde_json::{Value, json};

use super::{Context, Events, Pool, Stop, Tx, all_of, entries, evidence, guard, instances, revocations::Cause, revoke};
use crate::store::{
    ActivateNodeSerial, AuthorityKind, FailNode, Moment, NodeRef, Refusal, RenewNode, SetAgentVersion, StoreError,
    rows::{NodeRow, list_text},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, attestation_type, standing, reason, current_serial, current_expires_at, fresh_serial, \
             fresh_expires_at, selectors, can_reattest, agent_version, attested_at, version, boot, ek_hash, ak_name, \
             activated_at, boot_state, key_sha256, key_source FROM nodes ",
            $rest
        )
    };
}

const ONE: &str = select!("WHERE id = $1");
const GOOD: &str = "SELECT (SELECT COUNT(*) FROM nodes WHERE standing = 'good'), \
    (SELECT COUNT(*) FROM instances WHERE standing = 'good')";
const EVIDENCE: &str = "SELECT evidence FROM nodes WHERE id = $1";
const ACTIVATE: &str = "UPDATE nodes SET current_serial = fresh_serial, current_expires_at = fresh_expires_at, \
    fresh_serial = NULL, fresh_expires_at = NULL, version = version + 1 WHERE id = $1 AND fresh_serial = $2";
const RENEW: &str = "UPDATE nodes SET fresh_serial = $3, fresh_expires_at = $4, version = version + 1 \
    WHERE id = $1 AND current_serial = $2";
const STAND: &str = "UPDATE nodes SET standing = $2, reason = $3, current_serial = NULL, current_expires_at = NULL, \
    fresh_serial = NULL, fresh_expires_at = NULL, version = version + 1 WHERE id = $1";
const VERSION: &str = "UPDATE nodes SET agent_version = $2 WHERE id = $1 AND agent_version <> $2";
const DELETE: &str = "DELETE FROM nodes WHERE id = $1";
const ALIASES: &str = "SELECT id FROM entries WHERE parent_id = $1 AND selectors = $2 ORDER BY id";
const SILENT: &str = "SELECT id FROM nodes n WHERE standing = 'good' AND current_expires_at <= $1 \
    AND COALESCE(fresh_expires_at, current_expires_at) <= $1 \
    AND EXISTS (SELECT 1 FROM instances i WHERE i.node_id = n.id AND i.standing = 'good') ORDER BY id";

pub(in crate::store) async fn one(pool: &Pool, id: &SpiffeId) -> Result<Option<Node>, StoreError> {
    let row = sqlx::query_as::<_, NodeRow>(ONE).bind(id.as_str()).fetch_optional(pool).await?;
    row.map(Node::try_from).transpose()
}

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Node>, StoreError> {
    all_of(sqlx::query_as::<_, NodeRow>(select!("ORDER BY id")).fetch_all(pool).await?)
}

pub(in crate::store) async fn good_counts(pool: &Pool) -> Result<(i64, i64), StoreError> {
    Ok(sqlx::query_as(GOOD).fetch_one(pool).await?)
}

pub(in crate::store) async fn evidence(pool: &Pool, id: &SpiffeId) -> Result<Option<Vec<u8>>, StoreError> {
    let row: Option<Option<Vec<u8>>> = sqlx::query_scalar(EVIDENCE).bind(id.as_str()).fetch_optional(pool).await?;
    Ok(row.flatten())
}

/// The node as it stands in this transaction.
pub(super) async fn stored(tx: &mut Tx, id: &SpiffeId) -> Result<Option<Node>, Stop> {
    let row = sqlx::query_as::<_, NodeRow>(ONE).bind(id.as_str()).fetch_optional(&mut *tx).await?;
    Ok(row.map(Node::try_from).transpose()?)
}

/// Two first calls on the new certificate may both see it as fresh; the second finds it current.
pub(super) async fn activate_serial(tx: &mut Tx, fact: &ActivateNodeSerial) -> Result<Events, Stop> {
    guard::node(tx, &fact.id, &fact.serial).await?;
    let activate = sqlx::query(ACTIVATE).bind(fact.id.as_str()).bind(&fact.serial);
    if activate.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![Event::new("node.activated", fact.id.as_str()).with("serial", fact.serial.as_str())])
}

pub(super) async fn renew(tx: &mut Tx, fact: &RenewNode) -> Result<Events, Stop> {
    guard::issuing(tx, &fact.id, &fact.current_serial, &fact.authority, AuthorityKind::X509).await?;
    let renew = sqlx::query(RENEW)
        .bind(fact.id.as_str())
        .bind(&fact.current_serial)
        .bind(&fact.fresh.serial)
        .bind(fact.fresh.expires_at.0);
    if renew.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::SerialNotCurrent.into());
    }
    let event = Event::new("node.renewed", fact.id.as_str())
        .with("authority", fact.authority.as_str())
        .with("expires_at", fact.fresh.expires_at.0)
        .with("serial", fact.fresh.serial.as_str());
    Ok(vec![event])
}

/// A ban stays what it is; an unknown node gets no row from failing.
pub(super) async fn fail(tx: &mut Tx, context: &Context, fact: &FailNode) -> Result<Events, Stop> {
    let stored = stored(tx, &fact.id).await?;
    let falls = stored.as_ref().is_some_and(|node| node.standing != Standing::Banned);
    // Who has fallen may fail again and again; each new proof may be failed once.
    let stood = stored.as_ref().is_some_and(|node| node.standing == Standing::Good);
    let is_due = stood && evidence::is_due(stored.as_ref(), context.at);
    let mut event = Event::new(if falls { "node.failed" } else { "node.refused" }, fact.id.as_str())
        .with("detail", fact.detail.as_str())
        .with("reason", fact.reason.code())
        .with("steps", steps(&fact.steps));
    if let Some(kept) = &fact.kept {
        event = event.with("evidence", evidence::keep(tx, kept, is_due).await?);
    }
    if !falls {
        return Ok(vec![event]);
    }
    stand(tx, &fact.id, Standing::Failed, fact.reason.code()).await?;
    let mut events = vec![event];
    let cause = unasked("node.failed", &fact.id, fact.reason.code(), context);
    revoke::outlaw(tx, &cause, fact.id.as_str(), &mut events).await?;
    Ok(events)
}

pub(super) async fn ban(tx: &mut Tx, context: &Context, fact: &NodeRef) -> Result<Events, Stop> {
    if stored(tx, &fact.id).await?.is_none() {
        return Err(Refusal::NotFound.into());
    }
    banned(tx, &fact.id).await?;
    let mut events = vec![Event::new("node.banned", fact.id.as_str())];
    revoke::outlaw(tx, &unasked("node.banned", &fact.id, "", context), fact.id.as_str(), &mut events).await?;
    Ok(events)
}

/// The standing of a banned node.
pub(super) async fn banned(tx: &mut Tx, id: &SpiffeId) -> Result<(), Stop> {
    stand(tx, id, Standing::Banned, "NODE_BANNED").await
}

fn unasked<'a>(kind: &'static str, id: &'a SpiffeId, reason: &'a str, context: &Context) -> Cause<'a> {
    Cause { kind, subject: id.as_str(), reason, caller: None, at: context.at, number: context.number }
}

pub(super) async fn evict(tx: &mut Tx, context: &Context, fact: &NodeRef) -> Result<Events, Stop> {
    let node = stored(tx, &fact.id).await?.ok_or(Refusal::NotFound)?;
    sqlx::query(DELETE).bind(fact.id.as_str()).execute(&mut *tx).await?;
    let mut events = vec![Event::new("node.evicted", fact.id.as_str())];
    // Its instances are dead for ever; where the machine was given away, so must their SVIDs be.
    revoke::outlaw(tx, &unasked("node.evicted", &fact.id, "", context), fact.id.as_str(), &mut events).await?;
    if node.attestation_type == "join_token" {
        // The alias that CreateJoinToken made names this node alone. As SPIRE's DeleteAgent does.
        let selectors = list_text([format!("spiffe_id:{}", fact.id)]);
        let aliases = sqlx::query_scalar(ALIASES).bind(fact.id.as_str()).bind(selectors);
        let aliases: Vec<String> = aliases.fetch_all(&mut *tx).await?;
        for id in aliases {
            let spiffe_id = entries::remove(tx, &id).await?.unwrap_or_default();
            events.push(Event::new("entry.deleted", id).with("spiffe_id", spiffe_id));
        }
    }
    Ok(events)
}

pub(super) async fn set_agent_version(tx: &mut Tx, fact: &SetAgentVersion) -> Result<Events, Stop> {
    if stored(tx, &fact.id).await?.is_none() {
        return Err(Refusal::NotFound.into());
    }
    let update = sqlx::query(VERSION).bind(fact.id.as_str()).bind(&fact.version);
    if update.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![Event::new("node.version", fact.id.as_str()).with("agent_version", fact.version.as_str())])
}

pub(super) async fn expire(tx: &mut Tx, at: UnixTime, fact: &Moment) -> Result<Events, Stop> {
    let silent: Vec<String> = sqlx::query_scalar(SILENT).bind(fact.now.0).fetch_all(&mut *tx).await?;
    let mut events = Vec::new();
    for id in silent {
        events.push(Event::new("node.silent", id.as_str()));
        events.extend(instances::end_all_of_node(tx, at, &id, "node-silent").await?);
    }
    Ok(events)
}

/// Clears both certificates at once.
async fn stand(tx: &mut Tx, id: &SpiffeId, standing: Standing, reason: &str) -> Result<(), Stop> {
    let update = sqlx::query(STAND).bind(id.as_str()).bind(standing.as_str()).bind(reason);
    Ok(guard::one_row(update.execute(&mut *tx).await?.rows_affected(), "nodes", id.as_str())?)
}

/// The verdicts as they stand in the record.
pub(super) fn steps(steps: &[Step]) -> Value {
    let step = |s: &Step| json!({ "detail": s.detail, "name": s.name, "passed": s.passed });
    steps.iter().map(step).collect()
}
