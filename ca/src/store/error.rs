use std::sync::Arc;

use thiserror::Error;

/// Why the store could not answer; a guard's no is an [`Outcome`](super::Outcome), not an error.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The database cannot be reached, or holds its locks for too long.
    #[error("database is away")]
    Away(#[source] Arc<sqlx::Error>),
    /// A database that lacks what this server has seen.
    #[error(
        "database {0}; it is a standby that was behind, or a restored backup. Go back to the newest one, or accept the \
         loss: stop every server, then `chancery-ca restore-accept --config FILE`"
    )]
    Behind(String),
    /// The connection broke while committing: the fact is durable or not, and a read will tell.
    #[error("connection to the database was lost while committing")]
    CommitUnknown(#[source] Arc<sqlx::Error>),
    /// A row that no version of this program wrote.
    #[error("{table} row {key}: {fault}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Primary key.
        key: String,
        /// What is wrong.
        fault: String,
    },
    /// The store was closed.
    #[error("store is closed")]
    Closed,
    /// No space is left for the database.
    #[error("database disk is full")]
    Full(#[source] Arc<sqlx::Error>),
    /// The database file cannot be made or read.
    #[error("database file {path}: {source}")]
    File {
        /// Path.
        path: String,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// Migrating did not work; the schema is as before the step that failed.
    #[error("migration")]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// Another run of this server took its claim over.
    #[error("another process serves under this server id; nothing is written any more")]
    Overtaken,
    /// The schema is not the one this program knows.
    #[error("database schema is version {found}, this program needs {needed}: {}", schema_advice(*found, *needed))]
    Schema {
        /// Newest version applied; 0 = empty.
        found: i64,
        /// Version of this program.
        needed: i64,
    },
    /// Any other SQL error.
    #[error("database")]
    Sql(#[source] Arc<sqlx::Error>),
    /// A database whose commits are not what this server promises.
    #[error("database {0}")]
    Unfit(String),
    /// Neither a path nor `sqlite:` nor `postgres://`.
    #[error("database '{scheme}:' is neither a path, sqlite:PATH nor postgres://")]
    Url {
        /// What stands before the colon; the rest may hold a password.
        scheme: String,
    },
}

/// A schema only moves forward.
fn schema_advice(found: i64, needed: i64) -> &'static str {
    if found > needed { "run the newer release that made it" } else { "run `chancery-ca migrate`" }
}

/// SQLSTATE classes of PostgreSQL that mean "away": connection, operator intervention, lock not available,
/// too many connections, and that a primary became a standby. Source: PostgreSQL manual, appendix A.
const AWAY: [&str; 5] = ["08", "57", "55", "53300", "25006"];
/// Those of them that speak of the server, so that another one may serve.
const ELSEWHERE: [&str; 3] = ["08", "57P", "25006"];
/// SQLSTATE disk_full; SQLITE_FULL.
const FULL: [&str; 2] = ["53100", "13"];
/// SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN and SQLITE_IOERR (primary codes).
const SQLITE_AWAY: [i64; 4] = [5, 6, 14, 10];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(db) => db.code().map(|c| c.into_owned()),
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => {
                return Self::Away(Arc::new(error));
            }
            sqlx::Error::PoolClosed => return Self::Closed,
            _ => None,
        };
        let Some(code) = code else { return Self::Sql(Arc::new(error)) };
        let sqlite = (code.len() != 5).then(|| code.parse::<i64>().unwrap_or(0) & 0xff);
        if FULL.contains(&code.as_str()) || sqlite == Some(13) {
            return Self::Full(Arc::new(error));
        }
        let away = match sqlite {
            Some(primary) => SQLITE_AWAY.contains(&primary),
            None => AWAY.iter().any(|prefix| code.starts_with(prefix)),
        };
        if away { Self::Away(Arc::new(error)) } else { Self::Sql(Arc::new(error)) }
    }
}

impl StoreError {
    /// Whether another server of the database may do better: this one is gone, silent or no primary any more.
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Away(error) | Self::CommitUnknown(error) => match &**error {
                sqlx::Error::Database(db) => {
                    db.code().is_some_and(|code| ELSEWHERE.iter().any(|class| code.starts_with(class)))
                }
                _ => true,
            },
            Self::Unfit(_) => true,
            _ => false,
        }
    }

    /// Whether each fact of a batch could fare better alone: no, where the database itself is the trouble.
    pub(super) fn is_of_one_fact(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Sql(_))
    }
}
