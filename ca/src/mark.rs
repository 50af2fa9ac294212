//! How far this server has seen its database come, in a file beside it: a restored old database is noticed.
//!
//! Rows of an old backup call keys active that rotated out since, and do not know those that sign now. Started on such
//! a database the CA would go back on bans, tokens and rotations without a word. So it refuses until an operator says
//! that this is meant. Source: docs/decisions/0022.

use std::{
    io,
    path::{Path, PathBuf},
};

use chancery_sdk::time::UnixTime;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::store::{Seen, Store, StoreError};

/// The file in `data_dir`.
const FILE: &str = "database_mark.json";
/// Seconds between two writings while nothing but issuance goes on.
const REST_SECS: i64 = 10;

/// Why the database is not used.
#[derive(Debug, Error)]
pub enum MarkError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; give the CA's user access to it", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path}: {source}; remove the file if the database is known to be the newest", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The database is behind what this server saw.
    #[error(
        "database is older than what this server has seen of it: event {} of epoch {} is {found}; \
         restore a newer backup, or accept the loss with `chancery-ca restore-accept --config FILE`: nodes then attest again",
        seen.number, seen.epoch
    )]
    Restored {
        /// What was seen.
        seen: Seen,
        /// `missing` or `another one`.
        found: &'static str,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps the file current.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// Guards what was written last; held while it is written.
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    number: i64,
    sequence: u64,
    at: UnixTime,
}

impl Keeper {
    /// For the file in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), last: Mutex::default() }
    }

    /// Compares the database with the file; fine where there is none.
    ///
    /// # Errors
    /// [`MarkError::Restored`].
    pub async fn check(&self, store: &Store) -> Result<(), MarkError> {
        let Some(seen) = self.read()? else { return Ok(()) };
        let epoch = store.bundle_revision().await?.epoch;
        if epoch > seen.epoch {
            return Ok(());
        }
        let found = if epoch < seen.epoch { None } else { event(store, seen.number).await? };
        match found {
            Some(event) if event.hash == seen.hash => Ok(()),
            Some(_) => Err(MarkError::Restored { seen, found: "another one" }),
            None => Err(MarkError::Restored { seen, found: "missing" }),
        }
    }

    /// What was seen last; `None` before the first start.
    ///
    /// # Errors
    /// [`MarkError::File`], [`MarkError::Malformed`].
    pub fn read(&self) -> Result<Option<Seen>, MarkError> {
        match std::fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MarkError::File { path: self.path.clone(), source }),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(seen) => Ok(Some(seen)),
                Err(source) => Err(MarkError::Malformed { path: self.path.clone(), source }),
            },
        }
    }

    /// Writes down the newest event: at once when the bundle changed, else every ten seconds.
    ///
    /// # Errors
    /// [`MarkError`]; what was written stays.
    pub async fn keep(&self, store: &Store, sequence: u64, now: UnixTime) -> Result<(), MarkError> {
        let mut last = self.last.lock().await;
        let number = *store.last_number().borrow();
        let due = sequence != last.sequence || now.since(last.at) >= REST_SECS;
        if number < 0 || number == last.number || !due {
            return Ok(());
        }
        let Some(mark) = event(store, number).await? else { return Ok(()) };
        let bytes =
            serde_json::to_vec(&mark).map_err(|source| MarkError::Malformed { path: self.path.clone(), source })?;
        let path = self.path.clone();
        let write = move || chancery_daemon::file::write_atomic(&path, &bytes, 0o600);
        let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|source| MarkError::File { path: self.path.clone(), source })?;
        *last = Last { number, sequence, at: now };
        Ok(())
    }
}

async fn event(store: &Store, number: i64) -> Result<Option<Seen>, StoreError> {
    let found = store.events(Some(number - 1), 1).await?.into_iter().find(|e| e.number == number);
    Ok(found.map(|e| Seen { epoch: e.epoch, number: e.number, hash: hex::encode(e.hash) }))
}

#[cfg(test)]
mod tests;
