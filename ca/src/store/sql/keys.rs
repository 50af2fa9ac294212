//! The journal of signing keys: every step is a compare-and-swap on the version, and an event.

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;
use ring::digest::{SHA256, digest};

use super::{Events, Pool, Stop, Tx, all_of, guard};
use crate::store::{KeyRecord, KeyState, KeyStep, MoveKey, PlanKey, Refusal, StoreError, rows::KeyRow};

/// Keys of one kind and server that wait for an authority: one to come, two that a crash left.
const MAX_UNUSED: i64 = 3;

const ALL: &str = "SELECT label, kind, server, key_type, state, version, spki, planned_at, changed_at, keep_until, note \
    FROM keys ORDER BY planned_at, label";
const OF_SERVER: &str = "SELECT label, kind, server, key_type, state, version, spki, planned_at, changed_at, \
    keep_until, note FROM keys WHERE server = $1 AND state <> 'destroyed' ORDER BY planned_at, label";
const ONE: &str = "SELECT label, kind, server, key_type, state, version, spki, planned_at, changed_at, keep_until, note \
    FROM keys WHERE label = $1";
const UNUSED: &str = "SELECT COUNT(*) FROM keys k WHERE k.kind = $1 AND k.server = $2 \
    AND k.state IN ('planned', 'generating', 'generated') \
    AND NOT EXISTS (SELECT 1 FROM authorities a WHERE a.label = k.label)";
const INSERT: &str = "INSERT INTO keys (label, kind, server, key_type, state, version, planned_at, changed_at, note) \
    VALUES ($1, $2, $3, $4, 'planned', 0, $5, $5, '')";
const MOVE: &str = "UPDATE keys SET state = $3, version = version + 1, spki = $4, changed_at = $5, keep_until = $6, \
    note = $7 WHERE label = $1 AND version = $2";
const SAME_KEY: &str = "SELECT label FROM keys WHERE spki = $1 AND label <> $2";
const IS_PUBLISHED: &str = "SELECT COUNT(*) FROM authorities WHERE label = $1 AND state <> 'revoked'";
const FORGET: &str = "DELETE FROM authorities WHERE label = $1 AND state = 'revoked'";

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<KeyRecord>, StoreError> {
    all_of(sqlx::query_as::<_, KeyRow>(ALL).fetch_all(pool).await?)
}

pub(in crate::store) async fn of_server(pool: &Pool, server: &str) -> Result<Vec<KeyRecord>, StoreError> {
    all_of(sqlx::query_as::<_, KeyRow>(OF_SERVER).bind(server).fetch_all(pool).await?)
}

pub(super) async fn plan(tx: &mut Tx, at: UnixTime, fact: &PlanKey) -> Result<Events, Stop> {
    if one(tx, &fact.label).await?.is_some() {
        return Err(Refusal::AlreadyExists(None).into());
    }
    let (kind, server) = (fact.kind.as_str(), fact.server.as_str());
    let unused: i64 = sqlx::query_scalar(UNUSED).bind(kind).bind(server).fetch_one(&mut *tx).await?;
    if unused >= MAX_UNUSED {
        return Err(Refusal::TooManyKeys { max: MAX_UNUSED }.into());
    }
    let insert = sqlx::query(INSERT).bind(&fact.label).bind(kind).bind(server).bind(fact.key_type.name()).bind(at.0);
    insert.execute(&mut *tx).await?;
    let event = Event::new("key.planned", &fact.label)
        .with("key_type", fact.key_type.name())
        .with("kind", kind)
        .with("of", server);
    Ok(vec![event])
}

pub(super) async fn step(tx: &mut Tx, at: UnixTime, fact: &MoveKey) -> Result<Events, Stop> {
    let key = one(tx, &fact.label).await?.ok_or(Refusal::NotFound)?;
    if key.version != fact.version {
        return Err(Refusal::Stale.into());
    }
    allowed(&key, &fact.step)?;
    guards(tx, &key, &fact.step).await?;
    let (next, event) = moved(&key, &fact.step);
    write(tx, at, &key, &next).await?;
    if matches!(fact.step, KeyStep::Destroy { .. }) {
        sqlx::query(FORGET).bind(&key.label).execute(&mut *tx).await?;
    }
    Ok(vec![event])
}

/// The states a step may begin in.
fn allowed(key: &KeyRecord, step: &KeyStep) -> Result<(), Refusal> {
    use KeyState::{Condemned, Destroyed, Generated, Generating, Lost, Planned};
    let may = match step {
        KeyStep::Abandon => matches!(key.state, Planned | Generating),
        // A key that was given up before it was recorded may turn up later: that one too.
        KeyStep::Condemn { .. } => match key.state {
            Generated | Generating | Lost => true,
            Destroyed => key.spki.is_none(),
            Condemned | Planned => false,
        },
        KeyStep::Destroy { .. } => key.state == Condemned,
        KeyStep::Fault { .. } => true,
        KeyStep::Find => key.state == Lost,
        KeyStep::Generate => key.state == Planned,
        KeyStep::Lose => key.state == Generated,
        KeyStep::Record { .. } => key.state == Generating || (key.state == Generated && key.spki.is_none()),
    };
    if may { Ok(()) } else { Err(Refusal::Stale) }
}

async fn guards(tx: &mut Tx, key: &KeyRecord, step: &KeyStep) -> Result<(), Stop> {
    match step {
        KeyStep::Condemn { .. } => {
            let published: i64 = sqlx::query_scalar(IS_PUBLISHED).bind(&key.label).fetch_one(&mut *tx).await?;
            if published > 0 { Err(Refusal::AuthorityPublished.into()) } else { Ok(()) }
        }
        KeyStep::Destroy { now } => match key.keep_until {
            Some(keep_until) if *now < keep_until => Err(Refusal::TooEarly { keep_until }.into()),
            Some(_) | None => Ok(()),
        },
        KeyStep::Record { spki } => {
            let query = sqlx::query_scalar(SAME_KEY).bind(spki).bind(&key.label);
            let other: Option<String> = query.fetch_optional(&mut *tx).await?;
            other.map_or(Ok(()), |label| Err(Refusal::KeyKnown(label).into()))
        }
        KeyStep::Abandon | KeyStep::Fault { .. } | KeyStep::Find | KeyStep::Generate | KeyStep::Lose => Ok(()),
    }
}

/// The row after the step, and what the log says.
fn moved(key: &KeyRecord, step: &KeyStep) -> (KeyRecord, Event) {
    let to = |state| KeyRecord { state, ..key.clone() };
    let event = |kind| Event::new(kind, &key.label).with("of", key.server.as_str());
    match step {
        KeyStep::Abandon => (to(KeyState::Destroyed), event("key.abandoned")),
        KeyStep::Condemn { keep_until, why } => {
            let next = KeyRecord { keep_until: Some(*keep_until), note: (*why).into(), ..to(KeyState::Condemned) };
            (next, event("key.condemned").with("keep_until", keep_until.0).with("why", *why))
        }
        KeyStep::Destroy { .. } => {
            let spki = key.spki.as_deref().map(fingerprint).unwrap_or_default();
            (to(KeyState::Destroyed), event("key.destroyed").with("spki_sha256", spki))
        }
        KeyStep::Fault { what } => {
            let next = KeyRecord { note: what.clone(), ..key.clone() };
            (next, event("key.faulty").with("what", what.as_str()))
        }
        KeyStep::Find => (to(KeyState::Generated), event("key.found")),
        KeyStep::Generate => (to(KeyState::Generating), event("key.generating")),
        KeyStep::Lose => (to(KeyState::Lost), event("key.lost")),
        KeyStep::Record { spki } => {
            let next = KeyRecord { spki: Some(spki.clone()), ..to(KeyState::Generated) };
            (next, event("key.generated").with("spki_sha256", fingerprint(spki)))
        }
    }
}

/// The key behind an authority that leaves the bundle. A lost one stays lost: there is nothing to destroy.
pub(super) async fn condemn_with(
    tx: &mut Tx,
    at: UnixTime,
    label: &str,
    keep_until: UnixTime,
    why: &'static str,
) -> Result<Events, Stop> {
    let Some(key) = one(tx, label).await?.filter(|k| k.state == KeyState::Generated) else { return Ok(Vec::new()) };
    let (next, event) = moved(&key, &KeyStep::Condemn { keep_until, why });
    write(tx, at, &key, &next).await?;
    Ok(vec![event])
}

/// The key is this server's, of the kind, and generated.
pub(super) async fn generated(tx: &mut Tx, label: &str, kind: &str, server: &str) -> Result<(), Stop> {
    let key = one(tx, label).await?.filter(|k| k.state == KeyState::Generated && k.spki.is_some());
    let own = key.is_some_and(|k| k.server == server && k.kind.as_str() == kind);
    if own { Ok(()) } else { Err(Refusal::KeyNotGenerated.into()) }
}

async fn write(tx: &mut Tx, at: UnixTime, from: &KeyRecord, to: &KeyRecord) -> Result<(), Stop> {
    let update = sqlx::query(MOVE)
        .bind(&from.label)
        .bind(from.version)
        .bind(to.state.as_str())
        .bind(&to.spki)
        .bind(at.0)
        .bind(to.keep_until.map(|t| t.0))
        .bind(&to.note);
    Ok(guard::one_row(update.execute(&mut *tx).await?.rows_affected(), "keys", &from.label)?)
}

async fn one(tx: &mut Tx, label: &str) -> Result<Option<KeyRecord>, Stop> {
    let row = sqlx::query_as::<_, KeyRow>(ONE).bind(label).fetch_optional(&mut *tx).await?;
    Ok(row.map(KeyRecord::try_from).transpose()?)
}

/// Lower-case hex SHA-256.
fn fingerprint(spki: &[u8]) -> String {
    hex::encode(digest(&SHA256, spki))
}
