//! The list of revocations, and who is held, as verifiers and live connections hold it.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    revocation::{Hold, Revocation, Revocations},
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
    // Guards whose turn it is to replace the list; held for one change.
    turn: Mutex<()>,
    /// Counts changes.
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
        let mut new = Vec::new();
        self.change(|list| {
            new = list.add(rows, now);
            !new.is_empty()
        });
        new
    }

    /// Takes the newest word on some holds; whether anything is different.
    pub fn hold(&self, told: Vec<Hold>, now: UnixTime) -> bool {
        !told.is_empty() && self.change(|list| list.hold(told, now))
    }

    /// Lets go of every hold but those of `told`; whether anything is different.
    pub fn hold_only(&self, told: Vec<Hold>, now: UnixTime) -> bool {
        self.change(|list| list.hold_only(told, now))
    }

    /// Replaces the list where `alter` says that it is another one now.
    fn change(&self, alter: impl FnOnce(&mut Revocations) -> bool) -> bool {
        let turn = self.inner.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Revocations::clone(&self.inner.list.load());
        let changed = alter(&mut list);
        if changed {
            self.inner.list.store(Arc::new(list));
        }
        drop(turn);
        if changed {
            self.inner.changed.send_modify(|changed| *changed += 1);
        }
        changed
    }

    /// The list of now.
    pub fn list(&self) -> Arc<Revocations> {
        self.inner.list.load_full()
    }

    /// Sees a new number after each change.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }
}

impl Default for LiveRevocations {
    fn default() -> Self {
        Self::new()
    }
}
