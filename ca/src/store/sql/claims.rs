use super::{Context, Events, Pool, Stop, Tx};
use crate::store::{BeatClaim, Refusal, ReleaseClaim, ServerClaim, StoreError, TakeClaim};

const ONE: &str = "SELECT nonce, beat FROM server_claims WHERE server = $1";
const FIRST: &str =
    "INSERT INTO server_claims (server, nonce, beat) VALUES ($1, $2, 0) ON CONFLICT (server) DO NOTHING";
const OVER: &str = "UPDATE server_claims SET nonce = $2, beat = 0 WHERE server = $1 AND nonce = $3 AND beat = $4";
const BEAT: &str = "UPDATE server_claims SET beat = beat + 1 WHERE server = $1 AND nonce = $2 AND beat = $3";
const RELEASE: &str = "DELETE FROM server_claims WHERE server = $1 AND nonce = $2";

pub(in crate::store) async fn one(pool: &Pool, server: &str) -> Result<Option<ServerClaim>, StoreError> {
    let row: Option<(String, i64)> = sqlx::query_as(ONE).bind(server).fetch_optional(pool).await?;
    Ok(row.map(|(nonce, beat)| ServerClaim { nonce, beat }))
}

/// Whether `nonce` still is the run of `server` that may write; asked once the counter row is held.
pub(super) async fn holds(tx: &mut Tx, server: &str, nonce: &str) -> Result<(), StoreError> {
    let row: Option<(String, i64)> = sqlx::query_as(ONE).bind(server).fetch_optional(&mut *tx).await?;
    if row.is_some_and(|(held, _)| held == nonce) { Ok(()) } else { Err(StoreError::Overtaken) }
}

pub(super) async fn take(tx: &mut Tx, context: &mut Context, fact: &TakeClaim) -> Result<Events, Stop> {
    let write = match &fact.over {
        None => sqlx::query(FIRST).bind(&fact.server).bind(&fact.nonce),
        Some(over) => sqlx::query(OVER).bind(&fact.server).bind(&fact.nonce).bind(&over.nonce).bind(over.beat),
    };
    one_row(write.execute(&mut *tx).await?.rows_affected(), context)
}

pub(super) async fn beat(tx: &mut Tx, context: &mut Context, fact: &BeatClaim) -> Result<Events, Stop> {
    let write = sqlx::query(BEAT).bind(&fact.server).bind(&fact.nonce).bind(fact.beat);
    one_row(write.execute(&mut *tx).await?.rows_affected(), context)
}

pub(super) async fn release(tx: &mut Tx, context: &mut Context, fact: &ReleaseClaim) -> Result<Events, Stop> {
    let write = sqlx::query(RELEASE).bind(&fact.server).bind(&fact.nonce);
    one_row(write.execute(&mut *tx).await?.rows_affected(), context)
}

/// A claim says who writes, not what happened: it changes without an event.
fn one_row(rows: u64, context: &mut Context) -> Result<Events, Stop> {
    if rows == 0 {
        return Err(Refusal::Stale.into());
    }
    context.unlogged = true;
    Ok(Vec::new())
}
