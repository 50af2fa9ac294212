//! Authorities of the trust domain whose keys are elsewhere: below this database's servers, or above them.

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;

use super::{Context, Events, Pool, Stop, Tx, all_of, guard};
use crate::store::{AuthorityKind, FollowUpstream, Guest, Moment, PublishKey, Refusal, StoreError, rows::GuestRow};

/// JWT keys of one downstream entry published at once: some servers may share it, each with three, and restart.
const MAX_OF_ENTRY: i64 = 16;
/// How long a guest stays published after its end, for clocks that are behind.
const GRACE_SECS: i64 = 60;
/// What the source of an upstream's authorities begins with; an entry's ID has no such character.
const UPSTREAM: &str = "upstream/";

const ALL: &str = "SELECT source, kind, id, public, not_after, published_at, tainted_at FROM guest_authorities \
    ORDER BY kind, id, source";
const OF: &str = "SELECT source, kind, id, public, not_after, published_at, tainted_at FROM guest_authorities \
    WHERE source = $1 ORDER BY kind, id";
/// Keys of our own servers are nobody else's to publish: one that was revoked would come back.
const TAKEN: &str = "SELECT COUNT(*) FROM (SELECT id FROM guest_authorities WHERE kind = 'jwt' AND id = $1 \
    AND public <> $2 UNION ALL SELECT id FROM authorities WHERE kind = 'jwt' AND (id = $1 OR public = $2)) taken";
const COUNT: &str = "SELECT COUNT(*) FROM guest_authorities WHERE source = $1 AND id <> $2";
const MAY: &str = "SELECT COUNT(*) FROM entries WHERE id = $1 AND downstream";
const PUT: &str = "INSERT INTO guest_authorities (source, kind, id, public, not_after, published_at, tainted_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (source, kind, id) DO UPDATE SET not_after = excluded.not_after";
const CLEAR: &str = "DELETE FROM guest_authorities WHERE source = $1";
const EXPIRE: &str = "DELETE FROM guest_authorities WHERE not_after <= $1 OR (source NOT LIKE 'upstream/%' \
    AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.id = source AND e.downstream)) RETURNING kind, id, source";

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Guest>, StoreError> {
    all_of(sqlx::query_as::<_, GuestRow>(ALL).fetch_all(pool).await?)
}

/// A downstream server's JWT key.
pub(super) async fn publish(tx: &mut Tx, context: &mut Context, fact: &PublishKey) -> Result<Events, Stop> {
    let spiffe_id = guard::entry(tx, &fact.entry_id, fact.entry_revision).await?;
    let may: i64 = sqlx::query_scalar(MAY).bind(&fact.entry_id).fetch_one(&mut *tx).await?;
    if may == 0 {
        return Err(Refusal::EntryGone.into());
    }
    let taken: i64 = sqlx::query_scalar(TAKEN).bind(&fact.key_id).bind(&fact.spki).fetch_one(&mut *tx).await?;
    if taken > 0 {
        return Err(Refusal::KeyIdTaken.into());
    }
    let own = stored(tx, &fact.entry_id).await?.into_iter().find(|guest| guest.id == fact.key_id);
    if own.is_some_and(|guest| guest.not_after >= fact.not_after) {
        return Ok(Vec::new());
    }
    let count: i64 = sqlx::query_scalar(COUNT).bind(&fact.entry_id).bind(&fact.key_id).fetch_one(&mut *tx).await?;
    if count >= MAX_OF_ENTRY {
        return Err(Refusal::TooManyAuthorities { max: MAX_OF_ENTRY }.into());
    }
    let guest = Guest {
        source: fact.entry_id.clone(),
        kind: AuthorityKind::Jwt,
        id: fact.key_id.clone(),
        public: fact.spki.clone(),
        not_after: fact.not_after,
        published_at: context.at,
        tainted_at: None,
    };
    put(tx, &guest).await?;
    context.bundle_changes += 1;
    let event = Event::new("authority.published", &fact.key_id)
        .with("by", spiffe_id)
        .with("entry", fact.entry_id.as_str())
        .with("entry_revision", fact.entry_revision)
        .with("kind", AuthorityKind::Jwt.as_str())
        .with("not_after", fact.not_after.0)
        .with("public", hex::encode(&fact.spki));
    Ok(vec![event])
}

/// What the upstream's bundle has takes the place of what it had; when each was first seen stays.
pub(super) async fn follow(tx: &mut Tx, context: &mut Context, fact: &FollowUpstream) -> Result<Events, Stop> {
    let source = format!("{UPSTREAM}{}", fact.server);
    let before = stored(tx, &source).await?;
    let mut after: Vec<Guest> = fact.authorities.iter().map(|f| f.guest(&source, &before, context.at)).collect();
    after.sort_by(|a, b| (a.kind.as_str(), &a.id).cmp(&(b.kind.as_str(), &b.id)));
    if after == before {
        return Ok(Vec::new());
    }
    sqlx::query(CLEAR).bind(&source).execute(&mut *tx).await?;
    for guest in &after {
        put(tx, guest).await?;
    }
    context.bundle_changes += 1;
    let of = |kind: AuthorityKind| -> Vec<String> {
        after.iter().filter(|g| g.kind == kind).map(|g| g.id.clone()).collect()
    };
    let tainted: Vec<String> = after.iter().filter(|g| g.tainted_at.is_some()).map(|g| g.id.clone()).collect();
    let event = Event::new("upstream.followed", &fact.server)
        .with("jwt", of(AuthorityKind::Jwt))
        .with("tainted", tainted)
        .with("x509", of(AuthorityKind::X509));
    Ok(vec![event])
}

/// What has ended, and what a downstream server published whose entry is gone or no longer downstream.
pub(super) async fn expire(tx: &mut Tx, context: &mut Context, fact: &Moment) -> Result<Events, Stop> {
    let ended = fact.now.plus(-GRACE_SECS).0;
    let gone: Vec<(String, String, String)> = sqlx::query_as(EXPIRE).bind(ended).fetch_all(&mut *tx).await?;
    if !gone.is_empty() {
        context.bundle_changes += 1;
    }
    let event = |(kind, id, source): (String, String, String)| {
        Event::new("authority.unpublished", id).with("kind", kind).with("source", source)
    };
    Ok(gone.into_iter().map(event).collect())
}

async fn stored(tx: &mut Tx, source: &str) -> Result<Vec<Guest>, Stop> {
    let rows = sqlx::query_as::<_, GuestRow>(OF).bind(source).fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().map(Guest::try_from).collect::<Result<_, _>>()?)
}

async fn put(tx: &mut Tx, guest: &Guest) -> Result<(), StoreError> {
    let insert = sqlx::query(PUT)
        .bind(&guest.source)
        .bind(guest.kind.as_str())
        .bind(&guest.id)
        .bind(&guest.public)
        .bind(guest.not_after.0)
        .bind(guest.published_at.0)
        .bind(guest.tainted_at.map(|UnixTime(at)| at));
    insert.execute(&mut *tx).await?;
    Ok(())
}
