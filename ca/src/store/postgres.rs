//! What is PostgreSQL's alone: sessions and their time limits.

#[allow(clippy::duplicate_mod, reason = "one SQL text, two drivers")]
#[path = "sql/mod.rs"]
mod sql;

pub(super) use sql::*;

use std::{str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Accepted, Message, Migrated, Progress, Seen, StoreError};

type Db = sqlx::Postgres;

/// A wake-up for the other servers, delivered with the commit, that names the one it is from (`$1`); what it is about is
/// in the log.
const ANNOUNCE: Option<&str> = Some("SELECT pg_notify('chancery_events', $1)");
/// The channel of [`ANNOUNCE`].
const CHANNEL: &str = "chancery_events";
/// Between two tries to listen.
const RELISTEN: Duration = Duration::from_secs(1);
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
    progress: Progress,
) -> Result<PgPool, StoreError> {
    let write = pool(url, WRITERS).await?;
    let read = pool(url, READERS).await?;
    let (announced, own) = (progress.announced.clone(), server.to_owned());
    commit::start(write, &read, server, inbox, progress).await?;
    tokio::spawn(listen(url.to_owned(), own, announced));
    Ok(read)
}

/// Passes on other servers' announcements until nobody wants them. One that is lost costs the time to the next look at
/// the log, nothing else.
async fn listen(url: String, own: String, announced: watch::Sender<()>) {
    while !announced.is_closed() {
        if let Err(problem) = announcements(&url, &own, &announced).await {
            tracing::warn!(%problem, "not listening for other servers; the log is still read every second");
        }
        tokio::time::sleep(RELISTEN).await;
    }
}

async fn announcements(url: &str, own: &str, announced: &watch::Sender<()>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    loop {
        tokio::select! {
            () = announced.closed() => return Ok(()),
            heard = listener.try_recv() => match heard? {
                Some(heard) if heard.payload() == own => {}
                // None: the connection broke and is made anew; what was announced meanwhile is lost, so look.
                Some(_) | None => announced.send_replace(()),
            },
        }
    }
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
