//! What is PostgreSQL's alone: sessions and their time limits.

#[allow(clippy::duplicate_mod, reason = "one SQL text, two drivers")]
#[path = "sql/mod.rs"]
mod sql;

pub(super) use sql::*;

use std::{sync::Arc, time::Duration};

use chancery_daemon::clock;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{Accepted, LastTree, Message, Migrated, Progress, Require, Seen, StoreError, durable, primary::Primary};

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
/// How long a transaction may take before its connection is given up. What it came to is then not known.
const COMMIT: Duration = Duration::from_secs(15);
/// How long the one connection of a command may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Times a migration is tried where running servers hold what it needs.
const MIGRATE_TRIES: u32 = 20;
/// Between two questions whether the listening connection still lives.
const HEARS: Duration = Duration::from_secs(15);
/// What a commit is worth may change under us: the transaction itself says on what terms it commits.
const TAKE: &str = "UPDATE counter SET next = next WHERE id = 0 RETURNING epoch, next, \
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
    extract(epoch FROM clock_timestamp())::bigint";

/// The committer's way to the database.
pub(super) struct Writer(Arc<Primary>);

impl Writer {
    /// Connections to write by, and their generation.
    fn pool(&self) -> (u64, PgPool) {
        let line = self.0.line();
        (line.generation, line.writes.clone())
    }

    /// A transaction with its deadline; one that has none may hang with its network.
    async fn within<T>(&self, transaction: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let silent = || sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut));
        timeout(COMMIT, transaction).await.unwrap_or_else(|_| Err(StoreError::CommitUnknown(Arc::new(silent()))))
    }

    /// Waits until the connections of this generation are given up.
    async fn replaced(&self, generation: u64) {
        self.0.replaced(generation).await;
    }

    fn failed(&self, generation: u64, error: &StoreError) {
        self.0.failed(generation, error);
    }

    /// Whether a commit on these terms, at this time of the database, is what was promised.
    fn allows(&self, synchronous_commit: &str, standby_names: &str, now: i64) -> Result<(), StoreError> {
        let promised = durable::commits(self.0.require(), synchronous_commit, standby_names);
        promised.and_then(|()| durable::agrees(now, clock::now())).map_err(StoreError::Unfit)
    }
}

pub(super) async fn open(
    url: &str,
    server: &str,
    (require, known): (Require, Option<&Seen>),
    inbox: mpsc::Receiver<Message>,
    progress: Progress,
) -> Result<Arc<Primary>, StoreError> {
    let primary = Primary::find(url, require, known, progress.last.subscribe()).await?;
    let (announced, own) = (progress.announced.clone(), server.to_owned());
    let reads = primary.line().reads.clone();
    commit::start(Writer(Arc::clone(&primary)), &reads, server, inbox, progress).await?;
    let closed = announced.clone();
    tokio::spawn(Arc::clone(&primary).keep(async move { closed.closed().await }));
    tokio::spawn(listen(Arc::clone(&primary), own, announced));
    Ok(primary)
}

/// Passes on other servers' announcements until nobody wants them. One that is lost costs the time to the next look at
/// the log, nothing else.
async fn listen(primary: Arc<Primary>, own: String, announced: watch::Sender<()>) {
    while !announced.is_closed() {
        if let Err(problem) = announcements(&primary, &own, &announced).await {
            tracing::warn!(%problem, "not listening for other servers; the log is still read every second");
        }
        tokio::time::sleep(RELISTEN).await;
    }
}

/// Until the connections are replaced, or this one is silent.
async fn announcements(primary: &Primary, own: &str, announced: &watch::Sender<()>) -> Result<(), sqlx::Error> {
    let mut generation = primary.generation();
    generation.mark_unchanged();
    let one = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).acquire_timeout(CONNECT);
    let pool = one.connect_lazy_with(primary.line().options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        tokio::select! {
            () = announced.closed() => return Ok(()),
            _ = generation.changed() => return Ok(()),
            heard = listener.try_recv() => match heard? {
                Some(heard) if heard.payload() == own => {}
                // None: the connection broke and is made anew; what was announced meanwhile is lost, so look.
                Some(_) | None => announced.send_replace(()),
            },
            () = tokio::time::sleep(HEARS) => match timeout(CONNECT, listener.listen(CHANNEL)).await {
                Ok(heard) => heard?,
                Err(_) => return Ok(()),
            },
        }
    }
}

pub(super) async fn migrate(url: &str) -> Result<Migrated, StoreError> {
    let pool = one(url).await?;
    let mut tries = 0;
    let done = loop {
        tries += 1;
        match schema::migrate(&pool).await {
            // Running servers lock the same tables, for moments and in their own order. A step is one transaction.
            Err(StoreError::Migration(error)) if tries < MIGRATE_TRIES && is_in_the_way(&error) => {
                tracing::info!(tries, "running servers were in the way of a migration; trying again");
            }
            done => break done,
        }
    };
    pool.close().await;
    done
}

/// SQLSTATE lock_not_available, deadlock_detected.
fn is_in_the_way(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError::{Execute, ExecuteMigration};
    let (Execute(error) | ExecuteMigration(error, _)) = error else { return false };
    error.as_database_error().and_then(|db| db.code()).is_some_and(|code| ["55P03", "40P01"].contains(&&*code))
}

pub(super) async fn accept_restore(
    url: &str,
    server: &str,
    seen: Option<&Seen>,
    tree: Option<LastTree>,
) -> Result<Accepted, StoreError> {
    let pool = one(url).await?;
    let done = restore::accept(&pool, server, seen, tree).await;
    pool.close().await;
    done
}

/// One connection to the primary, for a command that needs no more.
async fn one(url: &str) -> Result<PgPool, StoreError> {
    // Nothing was committed by a command: it compares nothing.
    let (_, committed) = watch::channel(-1);
    let primary = Primary::find(url, Require::Durable, None, committed).await?;
    // A step may take its time over a large table; that it waits for a lock holds up everybody behind it.
    let options = primary.line().options.clone().options([("statement_timeout", "0")]);
    Ok(PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT).connect_with(options).await?)
}
