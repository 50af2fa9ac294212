//! One running process for each server id: a second one on a copied `data_dir` is noticed, and so is the first.
//!
//! Two processes of one id would rotate, destroy and sign with the same keys, each as if it were alone. So every run
//! claims its server id in the database under a nonce of its own and keeps a counter going there; a transaction of a
//! run whose claim was taken over is refused by the store. No clock is compared: who finds another's claim looks
//! whether its counter moves. A lock file shows that an earlier run on this machine is dead. Source:
//! docs/decisions/0049.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    chance,
    store::{BeatClaim, Fact, Outcome, Refusal, ReleaseClaim, ServerClaim, Store, StoreError, TakeClaim},
};

/// The lock file in `data_dir`.
const FILE: &str = "running.lock";
/// Between two beats of a running server.
pub const BEAT: Duration = Duration::from_secs(3);
/// How a foreign claim is watched: for four beats, which is more than the grace of a shutdown and a beat.
const PATIENCE: Patience = Patience { watch: Duration::from_secs(12), look: Duration::from_secs(1) };
/// Differs with every start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Longest lock file that is read: a line for each start that did not come to its claim.
const MAX_FILE_BYTES: u64 = 1 << 16;

/// Why this process does not serve, or no longer.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// The lock file cannot be made, read or written.
    #[error("{path}: {source}; give the CA's user access to it", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("{path}: another process runs with this data_dir; stop it first", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Another run has the server id now.
    #[error(
        "server id {0}: another process took it over; two machines run with copies of one data_dir. \
         Start one of them with an empty data_dir"
    )]
    Overtaken(String),
    /// The system yields none.
    #[error("the system yields no randomness")]
    Randomness,
    /// The database.
    #[error("claim of the server id: {}", crate::run::chain(.0))]
    Store(#[from] StoreError),
    /// Another run of this server id is alive.
    #[error(
        "server id {0} is in use: another process with it is running on this database. Stop that one; or, where this \
         data_dir is a copy of its (a cloned disk), start here with an empty data_dir, or another server_id"
    )]
    Taken(String),
}

/// How long silence is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// In all.
    watch: Duration,
    /// Between two looks.
    look: Duration,
}

/// This run's claim.
#[derive(Debug)]
pub struct Claim {
    server: String,
    nonce: String,
    /// Guards the counter as it was last written; `None` where a commit left that open. Held while it is written.
    beat: AsyncMutex<Option<i64>>,
    overtaken: AtomicBool,
    /// Guards the lock; given up on leaving.
    lock: Mutex<Option<File>>,
}

impl Claim {
    /// Claims `server` for this process; waits where only time tells whether another one lives.
    ///
    /// # Errors
    /// [`ClaimError`]; then nothing was claimed.
    pub async fn take(data_dir: &Path, server: &str, store: &Store) -> Result<Self, ClaimError> {
        Self::take_after(PATIENCE, data_dir, server, store).await
    }

    async fn take_after(patience: Patience, data_dir: &Path, server: &str, store: &Store) -> Result<Self, ClaimError> {
        let mut lock = LockFile::open(data_dir)?;
        let nonce = chance::uuid_v4().map_err(|_| ClaimError::Randomness)?.to_string();
        let over = match store.server_claim(server).await? {
            Some(found) if !lock.proves_dead(&found.nonce) => Some(silent(patience, server, found, store).await?),
            found => found,
        };
        // Written before the claim, so that a crash in between leaves both runs provable.
        lock.note(&nonce)?;
        let take = TakeClaim { server: server.into(), nonce: nonce.clone(), over };
        if let Err(Refusal::Stale) = store.commit(Fact::TakeClaim(take)).await?.done() {
            return Err(ClaimError::Taken(server.into()));
        }
        lock.only(&nonce)?;
        Ok(Self {
            server: server.into(),
            nonce,
            beat: AsyncMutex::new(Some(0)),
            overtaken: AtomicBool::new(false),
            lock: Mutex::new(Some(lock.file)),
        })
    }

    /// Which run this is.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Shows that this run lives.
    ///
    /// # Errors
    /// [`ClaimError::Overtaken`]: from here on this process grants nothing; [`ClaimError::Store`].
    pub async fn beat(&self, store: &Store) -> Result<(), ClaimError> {
        let mut last = self.beat.lock().await;
        let beat = match *last {
            Some(beat) => beat,
            None => match store.server_claim(&self.server).await? {
                Some(found) if found.nonce == self.nonce => found.beat,
                Some(_) | None => return Err(self.overtaken()),
            },
        };
        *last = None;
        let fact = BeatClaim { server: self.server.clone(), nonce: self.nonce.clone(), beat };
        match store.commit(Fact::BeatClaim(fact)).await {
            Ok(Outcome::Done { .. }) => *last = Some(beat + 1),
            Ok(Outcome::Refused(_)) | Err(StoreError::Overtaken) => return Err(self.overtaken()),
            Err(problem) => return Err(problem.into()),
        }
        Ok(())
    }

    fn overtaken(&self) -> ClaimError {
        self.overtaken.store(true, Ordering::Relaxed);
        ClaimError::Overtaken(self.server.clone())
    }

    /// Gives the server id up and unlocks the folder; nothing can be committed any more.
    ///
    /// # Errors
    /// [`ClaimError::Overtaken`] where this run was, now or before.
    pub async fn release(&self, store: &Store) -> Result<(), ClaimError> {
        let fact = ReleaseClaim { server: self.server.clone(), nonce: self.nonce.clone() };
        let released = store.commit(Fact::ReleaseClaim(fact)).await;
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match released {
            _ if self.overtaken.load(Ordering::Relaxed) => Err(self.overtaken()),
            Ok(Outcome::Refused(_)) | Err(StoreError::Overtaken) => Err(self.overtaken()),
            // The next run finds the lock free, which is as good.
            Ok(Outcome::Done { .. }) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }
}

/// Watches a claim; answers it once it has been silent for long enough.
async fn silent(
    patience: Patience,
    server: &str,
    found: ServerClaim,
    store: &Store,
) -> Result<ServerClaim, ClaimError> {
    tracing::warn!(
        server,
        secs = patience.watch.as_secs(),
        "another run claimed this server id; watching whether it lives"
    );
    let mut watched = Duration::ZERO;
    while watched < patience.watch {
        tokio::time::sleep(patience.look).await;
        watched += patience.look;
        if store.server_claim(server).await?.as_ref() != Some(&found) {
            return Err(ClaimError::Taken(server.into()));
        }
    }
    Ok(found)
}

/// The folder's lock, and which runs had it.
struct LockFile {
    file: File,
    path: PathBuf,
    /// This boot of the machine and this very file: a copy of either is another.
    here: String,
    /// What the file says of earlier runs.
    text: String,
}

impl LockFile {
    fn open(data_dir: &Path) -> Result<Self, ClaimError> {
        let path = data_dir.join(FILE);
        let open = || {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let mut text = String::new();
            // What is no text proves nothing, and is written anew.
            let _ = Read::by_ref(&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text);
            let (boot, meta) = (std::fs::read_to_string(BOOT_ID)?, file.metadata()?);
            let here = format!("{} {} {}", boot.trim(), meta.dev(), meta.ino());
            Ok(Some((file, here, text)))
        };
        match open() {
            Ok(Some((file, here, text))) => Ok(Self { file, path, here, text }),
            Ok(None) => Err(ClaimError::Locked { path }),
            Err(source) => Err(ClaimError::File { path, source }),
        }
    }

    /// Whether the run of this nonce had this very lock since the machine started: we have it now, so it is dead.
    fn proves_dead(&self, nonce: &str) -> bool {
        self.text
            .lines()
            .any(|line| line.strip_prefix(&self.here).and_then(|rest| rest.strip_prefix(' ')) == Some(nonce))
    }

    /// Adds a run.
    fn note(&mut self, nonce: &str) -> Result<(), ClaimError> {
        let text = format!("{}{} {nonce}\n", self.text, self.here);
        self.write(text)
    }

    /// Forgets every other run.
    fn only(&mut self, nonce: &str) -> Result<(), ClaimError> {
        let text = format!("{} {nonce}\n", self.here);
        self.write(text)
    }

    /// In place: the lock is this file's.
    fn write(&mut self, text: String) -> Result<(), ClaimError> {
        let written = self.file.rewind().and_then(|()| {
            self.file.write_all(text.as_bytes())?;
            self.file.set_len(text.len() as u64)?;
            self.file.sync_all()
        });
        self.text = text;
        written.map_err(|source| ClaimError::File { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests;
