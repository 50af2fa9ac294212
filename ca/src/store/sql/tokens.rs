//! Join tokens, by hash only; spent by compare-and-swap inside the admission.

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;

use super::{Events, Stop, Tx, entries, guard};
use crate::store::{CreateToken, Refusal};

const INSERT: &str = "INSERT INTO join_tokens (hash, expires_at, created_at) VALUES ($1, $2, $3)";
const EXISTS: &str = "SELECT COUNT(*) FROM join_tokens WHERE hash = $1";
const UNSPENT: &str = "SELECT expires_at FROM join_tokens WHERE hash = $1 AND spent_at IS NULL";
const SPEND: &str = "UPDATE join_tokens SET spent_at = $2 WHERE hash = $1 AND spent_at IS NULL";

pub(super) async fn create(tx: &mut Tx, at: UnixTime, fact: &CreateToken) -> Result<Events, Stop> {
    let known: i64 = sqlx::query_scalar(EXISTS).bind(&fact.hash_hex).fetch_one(&mut *tx).await?;
    if known > 0 {
        return Err(Refusal::AlreadyExists(None).into());
    }
    if let Some(alias) = &fact.alias {
        entries::may_create(tx, alias).await?;
    }
    sqlx::query(INSERT).bind(&fact.hash_hex).bind(fact.expires_at.0).bind(at.0).execute(&mut *tx).await?;
    let mut events = vec![Event::new("token.created", &fact.hash_hex).with("expires_at", fact.expires_at.0)];
    if let Some(alias) = &fact.alias {
        events.extend(entries::insert(tx, alias).await?);
    }
    Ok(events)
}

/// The guard of [`spend`]. An expired token is spent by asking, as in SPIRE.
pub(super) async fn may_spend(tx: &mut Tx, at: UnixTime, hash: &str) -> Result<(), Stop> {
    let expires_at: Option<i64> = sqlx::query_scalar(UNSPENT).bind(hash).fetch_optional(&mut *tx).await?;
    if expires_at.ok_or(Refusal::TokenUnknown)? > at.0 {
        return Ok(());
    }
    spend(tx, at, hash).await?;
    Err(Stop::Refused(Refusal::TokenExpired, vec![Event::new("token.expired", hash)]))
}

pub(super) async fn spend(tx: &mut Tx, at: UnixTime, hash: &str) -> Result<(), Stop> {
    let spent = sqlx::query(SPEND).bind(hash).bind(at.0).execute(&mut *tx).await?;
    Ok(guard::one_row(spent.rows_affected(), "join_tokens", hash)?)
}
