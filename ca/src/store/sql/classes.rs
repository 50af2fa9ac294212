use chancery_core::{
    class::{Class, NodeProof},
    event::Event,
};
use chancery_sdk::time::UnixTime;

use super::{Events, Pool, Stop, Tx, all_of, guard, instances};
use crate::store::{
    ClassRef, Refusal, StoreError,
    rows::{ClassRow, selectors_text},
};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT name, parent_id, selectors, x509_svid_ttl, any_node, revision, created_at FROM classes ", $rest)
    };
}

const INSERT: &str = "INSERT INTO classes (name, parent_id, selectors, x509_svid_ttl, any_node, revision, created_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO NOTHING";
const UPDATE: &str = "UPDATE classes SET parent_id = $2, selectors = $3, x509_svid_ttl = $4, any_node = $5, \
    revision = $6 WHERE name = $1 AND revision = $6 - 1";
const REVISION: &str = "SELECT revision FROM classes WHERE name = $1";
const DELETE: &str = "DELETE FROM classes WHERE name = $1";

pub(in crate::store) async fn one(pool: &Pool, name: &str) -> Result<Option<Class>, StoreError> {
    let row = sqlx::query_as::<_, ClassRow>(select!("WHERE name = $1")).bind(name).fetch_optional(pool).await?;
    row.map(Class::try_from).transpose()
}

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Class>, StoreError> {
    all_of(sqlx::query_as::<_, ClassRow>(select!("ORDER BY name")).fetch_all(pool).await?)
}

pub(super) async fn create(tx: &mut Tx, class: &Class) -> Result<Events, Stop> {
    let insert = sqlx::query(INSERT)
        .bind(class.name.as_str())
        .bind(class.parent_id.as_str())
        .bind(selectors_text(&class.selectors))
        .bind(class.x509_svid_ttl)
        .bind(class.node_proof == NodeProof::AnyNode)
        .bind(class.revision)
        .bind(class.created_at.0);
    if insert.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::AlreadyExists(None).into());
    }
    Ok(vec![event("class.created", class)])
}

pub(super) async fn update(tx: &mut Tx, class: &Class) -> Result<Events, Stop> {
    let name = class.name.as_str();
    let stored: Option<i64> = sqlx::query_scalar(REVISION).bind(name).fetch_optional(&mut *tx).await?;
    if class.revision != stored.ok_or(Refusal::NotFound)? + 1 {
        return Err(Refusal::Stale.into());
    }
    let update = sqlx::query(UPDATE)
        .bind(name)
        .bind(class.parent_id.as_str())
        .bind(selectors_text(&class.selectors))
        .bind(class.x509_svid_ttl)
        .bind(class.node_proof == NodeProof::AnyNode)
        .bind(class.revision);
    guard::one_row(update.execute(&mut *tx).await?.rows_affected(), "classes", name)?;
    Ok(vec![event("class.updated", class)])
}

/// A class made anew under the same name must not find the old one's instances running.
pub(super) async fn delete(tx: &mut Tx, at: UnixTime, fact: &ClassRef) -> Result<Events, Stop> {
    if sqlx::query(DELETE).bind(&fact.name).execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::NotFound.into());
    }
    let mut events = vec![Event::new("class.deleted", &fact.name)];
    events.extend(instances::end_all_of_class(tx, at, &fact.name).await?);
    Ok(events)
}

fn event(kind: &'static str, class: &Class) -> Event {
    Event::new(kind, class.name.as_str())
        .with("allow_unproven_nodes", class.node_proof == NodeProof::AnyNode)
        .with("parent_id", class.parent_id.as_str())
        .with("revision", class.revision)
        .with("selectors", class.selectors.iter().map(ToString::to_string).collect::<Vec<_>>())
        .with("x509_svid_ttl", class.x509_svid_ttl)
}
