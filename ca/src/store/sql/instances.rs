use chancery_core::{
    event::Event,
    instance::{Instance, Standing},
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::{Events, Pool, Stop, Tx, all_of, guard};
use crate::store::{EndInstance, InstanceFilter, Reconcile, Refusal, StoreError, rows::InstanceRow};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, class, node_id, start_token, standing, begun_at, ended_at, end_reason, serial, expires_at, \
             held_until FROM instances ",
            $rest
        )
    };
}

/// An empty text stands for "no condition": no class, node, standing or ID is empty.
const FILTERED: &str = select!(
    "WHERE ($1 = '' OR class = $1) AND ($2 = '' OR node_id = $2) AND ($3 = '' OR standing = $3) AND id > $4 \
     ORDER BY id LIMIT $5"
);
const STANDING: &str = "SELECT standing, node_id FROM instances WHERE id = $1";
const END: &str = "UPDATE instances SET standing = 'ended', ended_at = $2, end_reason = $3 \
    WHERE id = $1 AND standing = 'good' RETURNING class, node_id";
const ON_NODE: &str = "SELECT id, start_token FROM instances WHERE node_id = $1 AND standing = 'good' ORDER BY id";
const OF_CLASS: &str = "SELECT id FROM instances WHERE class = $1 AND standing = 'good' ORDER BY id";
const BOOT: &str = "SELECT boot FROM nodes WHERE id = $1";
const SET_BOOT: &str = "UPDATE nodes SET boot = $2 WHERE id = $1";

pub(in crate::store) async fn one(pool: &Pool, id: &SpiffeId) -> Result<Option<Instance>, StoreError> {
    let query = sqlx::query_as::<_, InstanceRow>(select!("WHERE id = $1")).bind(id.as_str());
    query.fetch_optional(pool).await?.map(Instance::try_from).transpose()
}

pub(in crate::store) async fn of_process(
    pool: &Pool,
    node_id: &SpiffeId,
    start_token: &[u8; 32],
) -> Result<Option<Instance>, StoreError> {
    let query = sqlx::query_as::<_, InstanceRow>(select!("WHERE node_id = $1 AND start_token = $2"));
    let row = query.bind(node_id.as_str()).bind(start_token.to_vec()).fetch_optional(pool).await?;
    row.map(Instance::try_from).transpose()
}

pub(in crate::store) async fn filtered(pool: &Pool, filter: &InstanceFilter) -> Result<Vec<Instance>, StoreError> {
    let query = sqlx::query_as::<_, InstanceRow>(FILTERED)
        .bind(filter.class.as_deref().unwrap_or_default())
        .bind(filter.node_id.as_ref().map_or("", SpiffeId::as_str))
        .bind(filter.standing.map_or("", Standing::as_str))
        .bind(filter.after.as_deref().unwrap_or_default())
        .bind(filter.limit.map_or(i64::MAX, i64::from));
    all_of(query.fetch_all(pool).await?)
}

pub(in crate::store) async fn of_key(pool: &Pool, spki_sha256: &[u8; 32]) -> Result<Option<SpiffeId>, StoreError> {
    // Selected through the row, so that a broken ID is told as one.
    let query = sqlx::query_as::<_, InstanceRow>(select!(
        "WHERE id = (SELECT instance_id FROM instance_keys WHERE spki_sha256 = $1)"
    ));
    let row = query.bind(spki_sha256.to_vec()).fetch_optional(pool).await?;
    Ok(row.map(Instance::try_from).transpose()?.map(|instance| instance.id))
}

pub(super) async fn end(tx: &mut Tx, at: UnixTime, fact: &EndInstance) -> Result<Events, Stop> {
    let row: Option<(String, String)> =
        sqlx::query_as(STANDING).bind(fact.id.as_str()).fetch_optional(&mut *tx).await?;
    let (standing, node) = row.ok_or(Refusal::NotFound)?;
    if fact.node_id.as_ref().is_some_and(|said| said.as_str() != node) {
        return Err(Refusal::NotFound.into()); // Another node's instance is nobody's business.
    }
    if standing != Standing::Good.as_str() {
        return Err(Refusal::InstanceNotGood.into());
    }
    end_each(tx, at, vec![fact.id.to_string()], fact.reason).await
}

pub(super) async fn reconcile(tx: &mut Tx, at: UnixTime, fact: &Reconcile) -> Result<Events, Stop> {
    guard::node(tx, &fact.node_id, &fact.node_serial).await?;
    let node_id = fact.node_id.as_str();
    let boot: Vec<u8> = sqlx::query_scalar(BOOT).bind(node_id).fetch_one(&mut *tx).await?;
    if boot == fact.boot {
        let gone = on_node(tx, node_id).await?.into_iter().filter(|(_, token)| !is_alive(fact, token));
        return end_each(tx, at, gone.map(|(id, _)| id).collect(), "reconciled").await;
    }
    sqlx::query(SET_BOOT).bind(node_id).bind(&fact.boot).execute(&mut *tx).await?;
    let mut events = vec![Event::new("node.booted", node_id).with("boot", hex::encode(&fact.boot))];
    let running = on_node(tx, node_id).await?;
    if boot.is_empty() {
        // Nothing is known of the boot before: the processes decide.
        let gone = running.into_iter().filter(|(_, token)| !is_alive(fact, token));
        events.extend(end_each(tx, at, gone.map(|(id, _)| id).collect(), "reconciled").await?);
    } else {
        events.extend(end_each(tx, at, running.into_iter().map(|(id, _)| id).collect(), "new-boot").await?);
    }
    Ok(events)
}

fn is_alive(fact: &Reconcile, token: &[u8]) -> bool {
    fact.live_start_tokens.iter().any(|alive| alive.as_slice() == token)
}

/// Ends what runs on the node.
pub(super) async fn end_all_of_node(tx: &mut Tx, at: UnixTime, node: &str, reason: &str) -> Result<Events, Stop> {
    let running = on_node(tx, node).await?;
    end_each(tx, at, running.into_iter().map(|(id, _)| id).collect(), reason).await
}

/// Ends what runs of the class.
pub(super) async fn end_all_of_class(tx: &mut Tx, at: UnixTime, class: &str) -> Result<Events, Stop> {
    let ids: Vec<String> = sqlx::query_scalar(OF_CLASS).bind(class).fetch_all(&mut *tx).await?;
    end_each(tx, at, ids, "class-deleted").await
}

async fn on_node(tx: &mut Tx, node: &str) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    Ok(sqlx::query_as(ON_NODE).bind(node).fetch_all(&mut *tx).await?)
}

/// One event for each.
async fn end_each(tx: &mut Tx, at: UnixTime, ids: Vec<String>, reason: &str) -> Result<Events, Stop> {
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        let ended = sqlx::query_as(END).bind(&id).bind(at.0).bind(reason);
        let (class, node): (String, String) = ended.fetch_one(&mut *tx).await?;
        events.push(Event::new("instance.ended", id).with("class", class).with("node", node).with("reason", reason));
    }
    Ok(events)
}
