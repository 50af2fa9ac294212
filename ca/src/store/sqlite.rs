//! What is SQLite's alone: the file, its pragmas, one writer.

#[allow(clippy::duplicate_mod, reason = "one SQL text, two drivers")]
#[path = "sql/mod.rs"]
mod sql;

pub(super) use sql::*;

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, sync::Arc, time::Duration};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;

use super::{Accepted, LastTree, Message, Migrated, Progress, Seen, StoreError};

type Db = sqlx::Sqlite;

/// One server writes: nobody is to be told.
const ANNOUNCE: Option<&str> = None;
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations/sqlite");
/// Takes the write lock at once: a transaction that reads first could not upgrade.
const BEGIN: &str = "BEGIN IMMEDIATE";
/// A commit is durable by the pragmas of [`options`]; there is nobody it waits for.
const TAKE: &str = "UPDATE counter SET next = next WHERE id = 0 RETURNING epoch, next, '', '', 0";
/// How long a writer waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);
/// Most memory for pages that the writer touches, in KiB by its sign: keys come in no order, and a page that is not there is
/// read again for each.
const CACHE: &str = "-65536";
/// Pages (of 4 KiB) of the write-ahead log between two checkpoints: a page that changed often meanwhile is copied once.
const CHECKPOINT: &str = "4000";
/// Rows read ahead of whoever asked: with few, reader and asker wake each other for each handful.
const ROWS: usize = 1000;
/// Readers at once; WAL lets them run beside the writer.
const READERS: u32 = 4;

/// The committer's way to the database: the one connection that writes.
pub(super) struct Writer(SqlitePool);

impl Writer {
    fn pool(&self) -> (u64, SqlitePool) {
        (0, self.0.clone())
    }

    async fn within<T>(&self, transaction: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        transaction.await
    }

    async fn replaced(&self, _generation: u64) {
        std::future::pending().await
    }

    fn failed(&self, _generation: u64, _error: &StoreError) {}

    fn allows(&self, _synchronous_commit: &str, _standby_names: &str, _now: i64) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(super) async fn open(
    path: &str,
    server: &str,
    inbox: mpsc::Receiver<Message>,
    progress: Progress,
) -> Result<SqlitePool, StoreError> {
    let write = writer(path).await?;
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .connect_lazy_with(options(path).read_only(true).row_buffer_size(ROWS));
    commit::start(Writer(write), &read, server, inbox, progress).await?;
    Ok(read)
}

pub(super) async fn migrate(path: &str) -> Result<Migrated, StoreError> {
    create(path)?;
    let pool = writer(path).await?;
    let done = schema::migrate(&pool).await;
    pool.close().await;
    done
}

pub(super) async fn accept_restore(
    path: &str,
    server: &str,
    seen: Option<&Seen>,
    tree: Option<LastTree>,
) -> Result<Accepted, StoreError> {
    let pool = writer(path).await?;
    let done = restore::accept(&pool, server, seen, tree).await;
    pool.close().await;
    done
}

/// One connection for ever: SQLite has one writer anyway.
async fn writer(path: &str) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
    let options = options(path).pragma("cache_size", CACHE).pragma("wal_autocheckpoint", CHECKPOINT);
    Ok(pool.connect_with(options).await?)
}

fn options(path: &str) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
}

/// The database holds everything the CA knows: nobody else may read it. SQLite gives its side files the same mode.
fn create(path: &str) -> Result<(), StoreError> {
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map(drop).map_err(|source| StoreError::File { path: path.into(), source: Arc::new(source) })
}
