//! What nodes are told of the log: its newest checkpoint, and that it continues the one they keep.
//!
//! Nodes are the log's first witnesses. One proof is made for everybody each time something is told, not more often than
//! `log.witness_interval`; a node that keeps another checkpoint gets one of its own, made from a few tiles. Where nothing
//! is committed nothing is told. Called by the stream of each node (`grpc/watch.rs`). Source: docs/decisions/0084.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_core::log::{
    Hash,
    checkpoint::Checkpoint,
    note::Note,
    proof::{self, Head},
};
use chancery_daemon::jitter::jittered;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Shown, origin};
use crate::state::State;

/// Longest note taken of a node; ours are of 250 bytes.
pub const MAX_NOTE_BYTES: usize = 8 * 1024;
/// Different proofs remembered with one checkpoint: nodes that came back keep one of the last few.
const MAX_PROOFS: usize = 64;

/// A checkpoint as it is told.
#[derive(Debug)]
pub struct Told {
    shown: Arc<Shown>,
    /// From which size: the proof. Guarded for a look-up or an insertion.
    proofs: Mutex<BTreeMap<u64, Vec<Hash>>>,
}

/// A checkpoint for one node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForNode {
    /// The signed note.
    pub note: Vec<u8>,
    /// Where the proof begins; 0 for none.
    pub from: u64,
    /// That the tree begins with that one.
    pub consistency: Vec<Hash>,
}

impl Told {
    fn of(shown: Arc<Shown>) -> Arc<Self> {
        Arc::new(Self { shown, proofs: Mutex::default() })
    }

    /// Proves that this tree begins with that of `from` events, of which there are no more.
    async fn proof(self: &Arc<Self>, from: u64) -> Result<Vec<Hash>, String> {
        let known = || self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proof) = known().get(&from) {
            return Ok(proof.clone());
        }
        let told = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let shown = &told.shown;
            proof::consistency(from, shown.head.size, |tile| shown.folder.read(tile)).map_err(|e| e.to_string())
        });
        let proof = made.await.map_err(|died| died.to_string())??;
        let mut proofs = known();
        if proofs.len() < MAX_PROOFS {
            proofs.insert(from, proof.clone());
        }
        Ok(proof)
    }
}

/// Tells the newest checkpoint from time to time, until the end.
pub(super) async fn tell(state: Arc<State>) {
    let mut newest = state.log.newest.subscribe();
    let interval = state.config.log.witness_interval.0;
    let tells = async {
        // The sender is part of the state.
        while newest.changed().await.is_ok() {
            let Some(shown) = newest.borrow_and_update().clone() else { continue };
            let before = state.log.told.borrow().as_ref().map(|told| (told.shown.epoch, told.shown.head.size));
            let told = Told::of(shown);
            // Most nodes keep the one before.
            if let Some((_, size)) =
                before.filter(|(epoch, size)| *epoch == told.shown.epoch && *size <= told.shown.head.size)
                && let Err(why) = told.proof(size).await
            {
                tracing::warn!(%why, "nodes are not told of the newest checkpoint: its tiles cannot be read");
                sleep(interval).await;
                newest.mark_changed();
                continue;
            }
            state.log.told.send_replace(Some(told));
            sleep(interval).await;
        }
    };
    tokio::select! {
        () = tells => {}
        () = state.shutdown.soft.cancelled() => {}
    }
}

/// What one node keeps, and what it is to be told.
pub struct Witnessing {
    state: Arc<State>,
    told: watch::Receiver<Option<Arc<Told>>>,
    /// The log and the size of what it keeps.
    keeps: Option<(i64, u64)>,
    /// When it is told: not all nodes in one moment.
    due: Option<Instant>,
}

impl Witnessing {
    /// Of a node that keeps this signed note; whatever makes no sense is as none.
    pub fn new(state: &Arc<State>, kept: &[u8]) -> Self {
        let keeps = head_of(state, kept).map(|(epoch, head)| (epoch, head.size));
        let told = state.log.told.subscribe();
        let due = told.borrow().is_some().then(Instant::now);
        Self { state: Arc::clone(state), told, keeps, due }
    }

    /// Waits until there is something to tell; may be called again when it was not waited for to the end.
    pub async fn next(&mut self) -> ForNode {
        loop {
            let due = match self.due {
                Some(due) => due,
                None => {
                    if self.told.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    *self.due.insert(Instant::now() + spread(self.state.config.log.witness_interval.0))
                }
            };
            sleep_until(due).await;
            let told = self.told.borrow_and_update().clone();
            let found = match told {
                Some(told) => self.for_node(&told).await,
                None => None,
            };
            self.due = None;
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn for_node(&mut self, told: &Arc<Told>) -> Option<ForNode> {
        let Shown { epoch, head, note, .. } = &*told.shown;
        let from = match self.keeps {
            Some((of, size)) if of == *epoch && size <= head.size => size,
            // Ours may be behind what another server signed; where it is not, the node has to see it.
            Some((of, size)) if of == *epoch && self.is_known(*epoch, size).await => return None,
            _ => 0,
        };
        let consistency = match told.proof(from).await {
            Ok(proof) => proof,
            Err(why) => {
                tracing::warn!(%why, "a node is not told of the newest checkpoint: its tiles cannot be read");
                return None;
            }
        };
        self.keeps = Some((*epoch, head.size));
        Some(ForNode { note: note.clone(), from, consistency })
    }

    /// Whether the database has a checkpoint of so many events.
    async fn is_known(&self, epoch: i64, size: u64) -> bool {
        match self.state.store.last_checkpoint(epoch).await {
            Ok(stored) => stored.is_some_and(|stored| u64::try_from(stored.size).is_ok_and(|stored| stored >= size)),
            Err(_) => true, // nothing is known: wait
        }
    }
}

/// The log and the tree that a note claims, if it is one of this trust domain's.
pub(super) fn head_of(state: &State, note: &[u8]) -> Option<(i64, Head)> {
    if note.is_empty() || note.len() > MAX_NOTE_BYTES {
        return None;
    }
    let claimed = Checkpoint::parse(Note::parse(note).ok()?.unverified_text()).ok()?;
    let epoch = claimed.origin.rsplit_once('/')?.1.parse().ok()?;
    (origin(&state.config, epoch) == claimed.origin).then_some((epoch, claimed.head))
}

/// A part of a quarter of the interval.
fn spread(interval: Duration) -> Duration {
    jittered(interval).saturating_sub(interval * 3 / 4)
}
