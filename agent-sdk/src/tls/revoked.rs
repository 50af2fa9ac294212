//! The list of revocations as verifiers and live connections hold it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    revocation::{Revocation, Revocations},
    time::UnixTime,
};

/// A list that grows while it is used: later handshakes see later rows, and live connections are woken. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveRevocations {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    list: ArcSwap<Revocations>,
    // Guards whose turn it is to replace the list; held for one addition.
    turn: Mutex<()>,
    /// Counts additions.
    changed: watch::Sender<u64>,
}

impl LiveRevocations {
    /// An empty list.
    pub fn new() -> Self {
        let inner = Inner { list: ArcSwap::default(), turn: Mutex::default(), changed: watch::Sender::new(0) };
        Self { inner: Arc::new(inner) }
    }

    /// Adds rows, those that have ended at `now` left out; answers those that were not there.
    pub fn add(&self, rows: Vec<Revocation>, now: UnixTime) -> Vec<Arc<Revocation>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let turn = self.inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Revocations::clone(&self.inner.list.load());
        let new = list.add(rows, now);
        if !new.is_empty() {
            self.inner.list.store(Arc::new(list));
        }
        drop(turn);
        if !new.is_empty() {
            self.inner.changed.send_modify(|changed| *changed += 1);
        }
        new
    }

    /// The list of now.
    pub fn list(&self) -> Arc<Revocations> {
        self.inner.list.load_full()
    }

    /// Sees a new number after each addition.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

impl Default for LiveRevocations {
    fn default() -> Self {
        Self::new()
    }
}
