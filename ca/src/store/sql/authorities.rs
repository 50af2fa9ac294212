//! Authorities: what is published, what signs, what is tainted. The key behind each is in `keys`.

use chancery_core::event::Event;

use super::{Context, Events, Pool, Stop, Tx, all_of, guard, keys};
use crate::store::{
    Authority, AuthorityId, AuthorityKind, AuthorityState, Refusal, RemoveAuthority, RevokeAuthority, StoreError,
    TaintAuthority, rows::AuthorityRow,
};

/// Published authorities of one kind and server: one to sign, one to come, one to run out.
const MAX_PUBLISHED: i64 = 3;

const ALL: &str = "SELECT id, kind, server, state, public, not_before, not_after, label, chain, upstream_id, \
    published_at, tainted_at FROM authorities WHERE state <> 'revoked' ORDER BY not_before, id";
const EVERY: &str = "SELECT id, kind, server, state, public, not_before, not_after, label, chain, upstream_id, \
    published_at, tainted_at FROM authorities ORDER BY not_before, id";
const ONE: &str = "SELECT id, kind, server, state, public, not_before, not_after, label, chain, upstream_id, \
    published_at, tainted_at FROM authorities WHERE id = $1";
const PUBLISHED: &str = "SELECT COUNT(*) FROM authorities WHERE kind = $1 AND server = $2 AND state <> 'revoked'";
const INSERT: &str = "INSERT INTO authorities (id, kind, server, state, public, not_before, not_after, label, chain, \
    upstream_id, published_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const OTHERS: &str = "SELECT id FROM authorities WHERE kind = $1 AND server = $2 AND state = 'active' AND id <> $3 \
    ORDER BY id";
const MOVE: &str = "UPDATE authorities SET state = $3 WHERE id = $1 AND state = $2";
const TAINT: &str = "UPDATE authorities SET tainted_at = $2 WHERE id = $1 AND tainted_at IS NULL";
const DELETE: &str = "DELETE FROM authorities WHERE id = $1";

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Authority>, StoreError> {
    all_of(sqlx::query_as::<_, AuthorityRow>(ALL).fetch_all(pool).await?)
}

pub(in crate::store) async fn every(pool: &Pool) -> Result<Vec<Authority>, StoreError> {
    all_of(sqlx::query_as::<_, AuthorityRow>(EVERY).fetch_all(pool).await?)
}

pub(in crate::store) async fn one(pool: &Pool, id: &str) -> Result<Option<Authority>, StoreError> {
    let row = sqlx::query_as::<_, AuthorityRow>(ONE).bind(id).fetch_optional(pool).await?;
    row.map(Authority::try_from).transpose()
}

/// Stored as prepared, whatever state it comes in.
pub(super) async fn prepare(tx: &mut Tx, context: &mut Context, authority: &Authority) -> Result<Events, Stop> {
    if stored(tx, &authority.id).await?.is_some() {
        return Err(Refusal::AlreadyExists(None).into());
    }
    let (kind, server) = (authority.kind.as_str(), authority.server.as_str());
    keys::generated(tx, &authority.label, kind, server).await?;
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
        .bind(authority.not_after.0)
        .bind(&authority.label)
        .bind(&authority.chain)
        .bind(&authority.upstream_id)
        .bind(authority.published_at.0);
    insert.execute(&mut *tx).await?;
    context.bundle_changes += 1;
    let event = Event::new("authority.prepared", &authority.id)
        .with("key", authority.label.as_str())
        .with("kind", kind)
        .with("not_after", authority.not_after.0)
        .with("not_before", authority.not_before.0)
        .with("public", hex::encode(&authority.public))
        .with("upstream", authority.upstream_id.as_str());
    Ok(vec![event])
}

pub(super) async fn activate(tx: &mut Tx, fact: &AuthorityId) -> Result<Events, Stop> {
    let authority = stored(tx, &fact.id).await?.ok_or(Refusal::NotFound)?;
    if authority.tainted_at.is_some() {
        return Err(Refusal::Stale.into());
    }
    step(tx, &authority, AuthorityState::Prepared, AuthorityState::Active).await?;
    let mut events = vec![Event::new("authority.activated", &fact.id)];
    // One signs at a time: whichever did before stops with the same commit.
    let query = sqlx::query_scalar(OTHERS).bind(authority.kind.as_str()).bind(&authority.server).bind(&fact.id);
    let others: Vec<String> = query.fetch_all(&mut *tx).await?;
    for id in others {
        events.extend(retire(tx, &AuthorityId { id }).await?);
    }
    Ok(events)
}

pub(super) async fn retire(tx: &mut Tx, fact: &AuthorityId) -> Result<Events, Stop> {
    let authority = stored(tx, &fact.id).await?.ok_or(Refusal::NotFound)?;
    step(tx, &authority, AuthorityState::Active, AuthorityState::Old).await?;
    Ok(vec![Event::new("authority.retired", &fact.id)])
}

pub(super) async fn remove(tx: &mut Tx, context: &mut Context, fact: &RemoveAuthority) -> Result<Events, Stop> {
    let authority = stored(tx, &fact.id).await?.ok_or(Refusal::NotFound)?;
    if matches!(authority.state, AuthorityState::Active | AuthorityState::Revoked) {
        return Err(Refusal::Stale.into());
    }
    let deleted = sqlx::query(DELETE).bind(&fact.id).execute(&mut *tx).await?;
    guard::one_row(deleted.rows_affected(), "authorities", &fact.id)?;
    context.bundle_changes += 1;
    let mut events = vec![Event::new("authority.removed", &fact.id)];
    events.extend(keys::condemn_with(tx, context.at, &authority.label, fact.keep_until, "its authority ended").await?);
    Ok(events)
}

pub(super) async fn taint(tx: &mut Tx, context: &mut Context, fact: &TaintAuthority) -> Result<Events, Stop> {
    let authority = of_kind(tx, &fact.id, fact.kind).await?;
    if authority.tainted_at.is_some() || authority.state == AuthorityState::Revoked {
        return Err(Refusal::Stale.into());
    }
    let tainted = sqlx::query(TAINT).bind(&fact.id).bind(context.at.0).execute(&mut *tx).await?;
    guard::one_row(tainted.rows_affected(), "authorities", &fact.id)?;
    context.bundle_changes += 1;
    let event = Event::new("authority.tainted", &fact.id)
        .with("kind", fact.kind.as_str())
        .with("of", authority.server)
        .with("why", fact.why)
        .with_personal("caller", &fact.caller);
    Ok(vec![event])
}

pub(super) async fn revoke(tx: &mut Tx, context: &mut Context, fact: &RevokeAuthority) -> Result<Events, Stop> {
    let authority = of_kind(tx, &fact.id, fact.kind).await?;
    if authority.tainted_at.is_none() {
        return Err(Refusal::NotTainted.into());
    }
    if authority.state == AuthorityState::Revoked {
        return Err(Refusal::Stale.into());
    }
    step(tx, &authority, authority.state, AuthorityState::Revoked).await?;
    context.bundle_changes += 1;
    let event = Event::new("authority.revoked", &fact.id)
        .with("kind", fact.kind.as_str())
        .with("of", authority.server)
        .with_personal("caller", &fact.caller);
    let mut events = vec![event];
    events.extend(keys::condemn_with(tx, context.at, &authority.label, fact.keep_until, "revoked").await?);
    Ok(events)
}

async fn step(tx: &mut Tx, authority: &Authority, from: AuthorityState, to: AuthorityState) -> Result<(), Stop> {
    if authority.state != from {
        return Err(Refusal::Stale.into());
    }
    let moved = sqlx::query(MOVE).bind(&authority.id).bind(from.as_str()).bind(to.as_str()).execute(&mut *tx).await?;
    Ok(guard::one_row(moved.rows_affected(), "authorities", &authority.id)?)
}

async fn of_kind(tx: &mut Tx, id: &str, kind: AuthorityKind) -> Result<Authority, Stop> {
    let authority = stored(tx, id).await?.filter(|a| a.kind == kind);
    Ok(authority.ok_or(Refusal::NotFound)?)
}

async fn stored(tx: &mut Tx, id: &str) -> Result<Option<Authority>, Stop> {
    let row = sqlx::query_as::<_, AuthorityRow>(ONE).bind(id).fetch_optional(&mut *tx).await?;
    Ok(row.map(Authority::try_from).transpose()?)
}
