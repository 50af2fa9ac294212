//! What is PostgreSQL's alone: sessions and their time limits.

#[allow(clippy::duplicate_mod, reason = "one SQL text, two drivers")]
#[path = "sql/mod.rs"]
mod sql;

pub(super) use sql::*;

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Accepted, Message, Migrated, Seen, StoreError};

type Db = sqlx::Postgres;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/postgres");
/// The counter row serialises writers; SERIALIZABLE would only make most of them fail (measured: 83 %).
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// The committer works through one batch at a time; more writers on the counter row make all of them slower.
const WRITERS: u32 = 1;
/// Readers at once.
const READERS: u32 = 8;
/// How long a caller waits for a connection.
const CONNECT: Duration = Duration::from_secs(5);

pub(super) async fn open(
    url: &str,
    server: &str,
    inbox: mpsc::Receiver<Message>,
    last: watch::Sender<i64>,
) -> Result<PgPool, StoreError> {
    let write = pool(url, WRITERS).await?;
    let read = pool(url, READERS).await?;
    commit::start(write, &read, server, inbox, last).await?;
    Ok(read)
}

pub(super) async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    let options = PgConnectOptions::from_str(url)?;
    reach(&options).await?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).connect_with(options).await?;
    let done = schema::migrate(&pool).await;
    pool.close().await;
    done
}

pub(super) async fn accept_restore(url: &str, server: &str, seen: Option<&Seen>) -> Result<Accepted, StoreError> {
    let pool = pool(url, WRITERS).await?;
    let done = restore::accept(&pool, server, seen).await;
    pool.close().await;
    done
}

async fn pool(url: &str, connections: u32) -> Result<PgPool, StoreError> {
    // Milliseconds. A session that hangs must not keep the counter row from all servers.
    let limits =
        [("lock_timeout", "5000"), ("statement_timeout", "10000"), ("idle_in_transaction_session_timeout", "15000")];
    let options = PgConnectOptions::from_str(url)?.application_name("chancery-ca").options(limits);
    reach(&options).await?;
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(CONNECT);
    Ok(pool.connect_with(options).await?)
}

/// Connects once by hand: a pool says only that its time is over, not why nobody answers.
async fn reach(options: &PgConnectOptions) -> Result<(), StoreError> {
    match timeout(CONNECT, options.connect()).await {
        Ok(connection) => Ok(connection?.close().await?),
        Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
    }
}
