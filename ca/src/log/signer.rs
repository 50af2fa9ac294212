//! The signer's task: follow, verify, write tiles, sign, store, show. In that order, and nothing is skipped.
//!
//! A server that does not sign follows all the same: it makes the same tiles from the database and shows the checkpoint that
//! the signer stored, if it is of the tree that it made itself. So the next signer goes on from what it saw, and each
//! server can prove to its nodes that a checkpoint continues the one before (docs/decisions/0084).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use chancery_core::log::{
    checkpoint::{Checkpoint, CheckpointError},
    note::{Note, NoteError},
    proof::Head,
};
use tokio::time::{Instant, timeout};

use super::{
    Shown,
    build::{BuildError, Builder},
    files::Folder,
    key::LogKey,
    lease::Lease,
    origin, trusted,
};
use crate::{
    claim,
    state::State,
    store::{Fact, Outcome, Refusal, StoreCheckpoint, StoreError, StoredCheckpoint},
};

/// Events read and appended at once.
const PAGE: u32 = 4096;
/// How long the last checkpoint of a clean stop may take.
const LAST_CALL: Duration = Duration::from_secs(4);
/// Before the next try.
const RETRY: Duration = Duration::from_secs(1);
/// From this long without a checkpoint on `/ready` says why.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a pass did not end in a checkpoint.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Another run signs, or another epoch began.
    #[error("another server signs the record now")]
    Overtaken,
    /// Later it may work: the next pass begins from what is stored.
    #[error("{0}")]
    Passing(String),
    /// The record is not what it was: nothing more is signed.
    #[error("{0}")]
    Tampered(String),
}

/// What follows a pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// Nothing more is signed.
    End,
    /// Another try, soon.
    Retry,
    /// Another pass once something happens.
    Wait,
}

/// Signs while it holds the lease, and follows while another one does.
pub struct Signer {
    state: Arc<State>,
    key: Arc<LogKey>,
    lease: Lease,
    work: Option<Work>,
    /// When a pass went well last.
    well: Instant,
    /// Another key that the operator was told of.
    warned: OnceLock<String>,
}

/// The epoch's log as far as it is built and stored.
struct Work {
    epoch: i64,
    folder: Folder,
    builder: Builder,
    /// The last checkpoint in the database.
    stored: Option<Head>,
    /// The last one in the folder, if its tiles are there.
    shown: Option<Head>,
}

/// A checkpoint, and whether a key that is trusted here signed it.
struct Opened {
    head: Head,
    by_trusted: bool,
}

impl Signer {
    /// Signs nothing before [`Signer::run`].
    pub fn new(state: Arc<State>, key: LogKey) -> Self {
        let (lease, well, warned) = (Lease::default(), Instant::now(), OnceLock::new());
        Self { state, key: Arc::new(key), lease, work: None, well, warned }
    }

    /// Until the last call, or until the record is found altered.
    pub async fn run(mut self) {
        let mut last = self.state.store.last_number();
        let word = self.state.log.last_call.clone();
        let interval = self.state.config.log.interval.0;
        loop {
            // What commits during the pass wakes the next one.
            last.mark_unchanged();
            let next = self.passed().await;
            let rest = async {
                match (next, self.lease.fence()) {
                    (Next::End, _) => std::future::pending().await,
                    (Next::Retry, _) => tokio::time::sleep(RETRY).await,
                    // Others' events wake nobody here; on a database with one server there are none.
                    (Next::Wait, Some(_)) if self.state.store.health().is_some() => tokio::time::sleep(interval).await,
                    (Next::Wait, Some(_)) => {
                        let _ = last.changed().await;
                        tokio::time::sleep(interval).await;
                    }
                    (Next::Wait, None) => tokio::time::sleep(claim::BEAT).await,
                }
            };
            tokio::select! {
                () = rest => {}
                () = word.cancelled() => {
                    if next != Next::End && timeout(LAST_CALL, self.passed()).await.is_err() {
                        tracing::warn!("no last checkpoint: the database or the log's folder did not answer in time");
                    }
                    break;
                }
            }
        }
        self.lease.leave(&self.state).await;
        self.state.log.ended.send_replace(true);
    }

    /// One pass, and what it came to.
    async fn passed(&mut self) -> Next {
        match self.pass().await {
            Ok(()) => {
                self.well = Instant::now();
                self.state.log.problem.send_replace(None);
                Next::Wait
            }
            Err(Trouble::Overtaken) => {
                tracing::info!("another server signs the record now");
                self.lease.lose();
                Next::Retry
            }
            Err(Trouble::Passing(why)) => {
                tracing::warn!(%why, "no checkpoint of the record; trying again");
                if self.well.elapsed() >= PATIENCE {
                    let told = format!("log: no checkpoint of the record for too long: {why}");
                    self.state.log.problem.send_replace(Some(told));
                }
                Next::Retry
            }
            Err(Trouble::Tampered(why)) => {
                tracing::error!(
                    %why,
                    "THE RECORD WAS ALTERED: nothing more is signed; keep the database and the log's folder as they are, \
                     run `chancery-ca audit verify`, and see docs/RECORD.md"
                );
                self.state.metrics.log_altered.set(1);
                self.state.log.problem.send_replace(Some(format!("log: the record was altered: {why}")));
                Next::End
            }
        }
    }

    async fn pass(&mut self) -> Result<(), Trouble> {
        if let Some(why) = self.state.log.disputed().borrow().clone() {
            return Err(Trouble::Tampered(why));
        }
        let end = self.state.store.log_end().await.map_err(passing)?;
        let key =
            self.key.verifier(&origin(&self.state.config, end.epoch)).map_err(|e| Trouble::Passing(e.to_string()))?;
        let held = self.lease.fence().is_some();
        let holds = self.lease.obtain(&self.state, &key.to_string()).await.map_err(passing)?;
        self.state.metrics.log_signer.set(i64::from(holds));
        let Some(fence) = self.lease.fence() else { return self.follow(end.epoch).await };
        if !held {
            // What was followed may be behind what the last signer stored.
            self.work = None;
        }
        // Whatever goes wrong with it, the next pass begins from what is stored.
        let mut work = match self.work.take().filter(|work| work.epoch == end.epoch) {
            Some(work) => work,
            None => self.load(end.epoch).await?,
        };
        let mut more = true;
        while more {
            (work, more) = self.grow(work, u64::MAX).await?;
        }
        self.work = Some(self.sign(fence, work).await?);
        Ok(())
    }

    /// Makes the tiles of the last checkpoint that the signer stored, and shows it, if they are of that tree.
    async fn follow(&mut self, epoch: i64) -> Result<(), Trouble> {
        let Some(stored) = self.state.store.last_checkpoint(epoch).await.map_err(passing)? else {
            self.work = None;
            return Ok(());
        };
        let opened = self.believed(&stored)?;
        let head = opened.head;
        let kept = self.work.take().filter(|work| work.epoch == epoch && work.builder.size() <= head.size);
        let mut work = match kept {
            Some(work) => work,
            None => self.load(epoch).await?,
        };
        if work.shown != Some(head) {
            work.builder.expect(head);
            let mut more = true;
            while more {
                (work, more) = self.grow(work, head.size).await?;
            }
            if work.builder.head() != head {
                let size = work.builder.size();
                return Err(Trouble::Tampered(format!(
                    "the last checkpoint is not of the first {size} events there are"
                )));
            }
            work = blocking(move || work.builder.write_parts().map(|()| work)).await??;
            work = self.show(work, head, stored.note.clone()).await?;
        }
        if opened.by_trusted {
            self.announce(&work, head, stored.note);
        }
        self.work = Some(work);
        Ok(())
    }

    /// Begins where the folder and the database say that the log ends, after looking whether they agree.
    async fn load(&self, epoch: i64) -> Result<Work, Trouble> {
        let folder = Folder::new(&self.state.config.log_dir(), epoch);
        let stored = match self.state.store.last_checkpoint(epoch).await.map_err(passing)? {
            Some(stored) => Some(self.believed(&stored)?.head),
            None => None,
        };
        let shown = folder.checkpoint().map_err(|e| {
            Trouble::Passing(format!("{}: {e}; give the CA's user access to it", folder.path().display()))
        })?;
        let shown =
            shown.map(|note| self.opened(&note, epoch).map(|opened| opened.head)).transpose().unwrap_or_else(|why| {
                tracing::warn!(folder = %folder.path().display(), %why, "the checkpoint there is not used");
                None
            });
        match (shown, stored) {
            (Some(shown), stored) if stored.is_none_or(|stored| stored.size < shown.size) => {
                return Err(Trouble::Tampered(format!(
                    "a checkpoint of {} events was shown, and the last one in the database is of {}: the database is an \
                     older one, or checkpoints were taken out of it",
                    shown.size,
                    stored.map_or(0, |stored| stored.size)
                )));
            }
            (Some(shown), Some(stored)) if shown.size == stored.size && shown.root != stored.root => {
                return Err(Trouble::Tampered(format!(
                    "the checkpoint of {} events in the database is another one than was shown",
                    stored.size
                )));
            }
            _ => {}
        }
        let expected = stored.filter(|stored| shown.is_none_or(|shown| shown.size < stored.size));
        let (own, at) = (folder.clone(), shown);
        let builder = blocking(move || Builder::resume(own, at, expected)).await?;
        let shown = at.filter(|at| builder.head() == *at);
        Ok(Work { epoch, folder, builder, stored, shown })
    }

    /// What a checkpoint of the database says, if it is signed and its columns say the same.
    fn believed(&self, stored: &StoredCheckpoint) -> Result<Opened, Trouble> {
        let opened = self.opened(&stored.note, stored.epoch).map_err(|why| {
            Trouble::Tampered(format!("the last checkpoint in the database, of {} events: {why}", stored.size))
        })?;
        let head = opened.head;
        if i64::try_from(head.size) != Ok(stored.size) || *stored.root != head.root {
            return Err(Trouble::Tampered(format!(
                "the last checkpoint in the database says {} events and is signed for {}",
                stored.size, head.size
            )));
        }
        Ok(opened)
    }

    /// A checkpoint that we, or a key that is trusted here, signed.
    ///
    /// Where no key is configured, another server's checkpoint is built on without its signature: what it says is
    /// compared with the events all the same, and `audit verify` does not take it (docs/decisions/0081).
    fn opened(&self, note: &[u8], epoch: i64) -> Result<Opened, CheckpointError> {
        let configured = trusted(&self.state.config);
        let keys: Vec<_> = configured.iter().copied().chain([self.key.public()]).collect();
        let origin = origin(&self.state.config, epoch);
        match Checkpoint::open(note, &origin, &keys) {
            Ok(checkpoint) => Ok(Opened { head: checkpoint.head, by_trusted: true }),
            Err(CheckpointError::Note(NoteError::Untrusted(by))) if configured.is_empty() => {
                self.warn_of(&by);
                let head = Checkpoint::parse(Note::parse(note)?.unverified_text())?.head;
                Ok(Opened { head, by_trusted: false })
            }
            Err(other) => Err(other),
        }
    }

    /// Once for each key: who follows sees it every three seconds.
    fn warn_of(&self, by: &str) {
        if self.warned.set(by.to_owned()).is_ok() {
            tracing::warn!(
                %by,
                "the last checkpoint was signed by another key: nodes are not told of it here; name the key in \
                 log.trusted_keys"
            );
        }
    }

    /// Takes the next events, up to a tree of `most`; whether there may be more.
    async fn grow(&self, mut work: Work, most: u64) -> Result<(Work, bool), Trouble> {
        let wanted = most.saturating_sub(work.builder.size()).min(u64::from(PAGE));
        let wanted = u32::try_from(wanted).unwrap_or(PAGE);
        if wanted == 0 {
            return Ok((work, false));
        }
        let events = self.state.store.leaves(work.epoch, work.builder.next() - 1, wanted).await.map_err(passing)?;
        if events.is_empty() {
            return Ok((work, false));
        }
        if self.state.shutdown.hard.is_cancelled() {
            return Err(Trouble::Passing("stopping".into()));
        }
        // A short answer is no end: others' events may follow.
        blocking(move || work.builder.append(&events).map(|()| (work, true)).map_err(Trouble::from)).await?
    }

    /// Signs the tree, unless nothing came to it.
    async fn sign(&self, fence: i64, work: Work) -> Result<Work, Trouble> {
        let head = work.builder.head();
        if let Some(missing) = work.stored.filter(|stored| stored.size > head.size) {
            return Err(Trouble::Tampered(format!(
                "the last checkpoint is of {} events, and there are {}: the newest were taken away",
                missing.size, head.size
            )));
        }
        if work.stored == Some(head) && work.shown == Some(head) && self.state.log.newest.borrow().is_some() {
            return Ok(work);
        }
        let checkpoint = Checkpoint { origin: origin(&self.state.config, work.epoch), head };
        let note = self.key.sign(&checkpoint).map_err(|e| Trouble::Passing(e.to_string()))?;
        let mut work = blocking(move || work.builder.write_parts().map(|()| work)).await??;
        if work.stored != Some(head) {
            self.store(fence, &work, head, &note).await?;
            work.stored = Some(head);
        }
        let work = self.show(work, head, note.clone()).await?;
        self.state.metrics.log_size.set(i64::try_from(head.size).unwrap_or(i64::MAX));
        self.state.metrics.log_checkpoints.inc();
        self.announce(&work, head, note);
        self.state.log.shown.send_replace(head.size);
        Ok(work)
    }

    /// Puts a checkpoint into the folder, where its tiles are.
    async fn show(&self, work: Work, head: Head, note: Vec<u8>) -> Result<Work, Trouble> {
        blocking(move || match work.folder.show(&note) {
            Ok(()) => Ok(Work { shown: Some(head), ..work }),
            Err(e) => Err(Trouble::Passing(format!("{}: {e}", work.folder.path().display()))),
        })
        .await?
    }

    /// Tells those who tell nodes, unless they know.
    fn announce(&self, work: &Work, head: Head, note: Vec<u8>) {
        let (epoch, folder) = (work.epoch, work.folder.clone());
        self.state.log.newest.send_if_modified(|newest| {
            let is_new = newest.as_ref().is_none_or(|newest| (newest.epoch, newest.head) != (epoch, head));
            if is_new {
                *newest = Some(Arc::new(Shown { epoch, head, note, folder }));
            }
            is_new
        });
    }

    /// Nobody sees a checkpoint that the database does not have.
    async fn store(&self, fence: i64, work: &Work, head: Head, note: &[u8]) -> Result<(), Trouble> {
        let (epoch, before, note) = (work.epoch, work.stored, note.to_vec());
        let fact = Fact::StoreCheckpoint(StoreCheckpoint { fence, epoch, before, head, note });
        match self.state.store.commit(fact).await.map_err(passing)? {
            Outcome::Done { .. } => Ok(()),
            Outcome::Refused(Refusal::CheckpointOther) => {
                Err(Trouble::Tampered("the last checkpoint in the database is not the one that was stored".into()))
            }
            Outcome::Refused(_) => Err(Trouble::Overtaken),
        }
    }
}

fn passing(error: StoreError) -> Trouble {
    Trouble::Passing(crate::run::chain(&error))
}

impl From<BuildError> for Trouble {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Tampered(what) => Self::Tampered(what),
            folder @ BuildError::Folder { .. } => Self::Passing(folder.to_string()),
        }
    }
}

/// Files are waited for on a thread of their own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    tokio::task::spawn_blocking(work).await.map_err(|died| Trouble::Passing(format!("writing died: {died}")))
}
