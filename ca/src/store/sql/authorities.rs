use chancery_core::event::Event;

use super::{Context, Events, Pool, Stop, Tx, all_of, guard};
use crate::store::{Authority, AuthorityId, AuthorityState, Refusal, StoreError, rows::AuthorityRow};

/// Published authorities of one kind and server: one to sign, one to come, one to run out.
const MAX_PUBLISHED: i64 = 3;

const ALL: &str = "SELECT id, kind, server, state, public, not_before, not_after FROM authorities \
    ORDER BY not_before, id";
const STATE: &str = "SELECT state FROM authorities WHERE id = $1";
const PUBLISHED: &str = "SELECT COUNT(*) FROM authorities WHERE kind = $1 AND server = $2";
const INSERT: &str = "INSERT INTO authorities (id, kind, server, state, public, not_before, not_after) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const MOVE: &str = "UPDATE authorities SET state = $3 WHERE id = $1 AND state = $2";
const DELETE: &str = "DELETE FROM authorities WHERE id = $1";

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Authority>, StoreError> {
    all_of(sqlx::query_as::<_, AuthorityRow>(ALL).fetch_all(pool).await?)
}

/// Stored as prepared, whatever state it comes in.
pub(super) async fn prepare(tx: &mut Tx, context: &mut Context, authority: &Authority) -> Result<Events, Stop> {
    if state(tx, &authority.id).await?.is_some() {
        return Err(Refusal::AlreadyExists(None).into());
    }
    let (kind, server) = (authority.kind.as_str(), authority.server.as_str());
    let published: i64 = sqlx::query_scalar(PUBLISHED).bind(kind).bind(server).fetch_one(&mut *tx).await?;
    if published >= MAX_PUBLISHED {
        return Err(Refusal::TooManyAuthorities { max: MAX_PUBLISHED }.into());
    }
    let insert = sqlx::query(INSERT)
        .bind(&authority.id)
        .bind(kind)
        .bind(server)
        .bind(AuthorityState::Prepared.as_str())
        .bind(&authority.public)
        .bind(authority.not_before.0)
        .bind(authority.not_after.0);
    insert.execute(&mut *tx).await?;
    context.bundle_changes += 1;
    let event = Event::new("authority.prepared", &authority.id)
        .with("kind", kind)
        .with("not_after", authority.not_after.0)
        .with("not_before", authority.not_before.0)
        .with("public", hex::encode(&authority.public));
    Ok(vec![event])
}

pub(super) async fn activate(tx: &mut Tx, fact: &AuthorityId) -> Result<Events, Stop> {
    step(tx, fact, AuthorityState::Prepared, AuthorityState::Active).await?;
    Ok(vec![Event::new("authority.activated", &fact.id)])
}

pub(super) async fn retire(tx: &mut Tx, fact: &AuthorityId) -> Result<Events, Stop> {
    step(tx, fact, AuthorityState::Active, AuthorityState::Old).await?;
    Ok(vec![Event::new("authority.retired", &fact.id)])
}

pub(super) async fn remove(tx: &mut Tx, context: &mut Context, fact: &AuthorityId) -> Result<Events, Stop> {
    if state(tx, &fact.id).await?.ok_or(Refusal::NotFound)? == AuthorityState::Active.as_str() {
        return Err(Refusal::Stale.into());
    }
    let deleted = sqlx::query(DELETE).bind(&fact.id).execute(&mut *tx).await?;
    guard::one_row(deleted.rows_affected(), "authorities", &fact.id)?;
    context.bundle_changes += 1;
    Ok(vec![Event::new("authority.removed", &fact.id)])
}

async fn step(tx: &mut Tx, fact: &AuthorityId, from: AuthorityState, to: AuthorityState) -> Result<(), Stop> {
    if state(tx, &fact.id).await?.ok_or(Refusal::NotFound)? != from.as_str() {
        return Err(Refusal::Stale.into());
    }
    let moved = sqlx::query(MOVE).bind(&fact.id).bind(from.as_str()).bind(to.as_str()).execute(&mut *tx).await?;
    Ok(guard::one_row(moved.rows_affected(), "authorities", &fact.id)?)
}

async fn state(tx: &mut Tx, id: &str) -> Result<Option<String>, Stop> {
    Ok(sqlx::query_scalar(STATE).bind(id).fetch_optional(&mut *tx).await?)
}
