//! Streams that follow the view: one flag and one cursor each, no queue.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use chancery_core::{entry::Reach, node::Node, selector::Selectors};
use chancery_sdk::id::SpiffeId;
use tokio::sync::Notify;

use super::{View, registry::Concern};
use crate::problem::Problem;

/// Streams of one node at once: those of connections that nobody has noticed to be dead count too. Each may hold an
/// answer that the node does not read.
const MAX_OF_NODE: usize = 4;
/// No change waits.
const CLEAN: i64 = i64::MAX;

/// Every stream.
#[derive(Default)]
pub(super) struct Watchers {
    // Guards the list; held for one insert, removal or walk.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Watcher>>,
    by_node: HashMap<SpiffeId, Vec<u64>>,
}

/// One stream.
pub(super) struct Watcher {
    pub(super) node: SpiffeId,
    // Guards the node's selectors; replaced when it attests again.
    selectors: Mutex<Selectors>,
    /// Number of the first change that waits; [`CLEAN`] for none.
    dirty_from: AtomicI64,
    /// More than single changes: everything is to be sent again.
    wide: AtomicBool,
    /// The node opened another stream.
    over: AtomicBool,
    wake: Notify,
}

/// What waits for a stream.
pub(super) enum Waiting {
    Everything,
    /// Changes from this number on.
    From(i64),
    Nothing,
}

/// A stream's place among the others; given up when dropped.
pub struct Watching {
    pub(super) watcher: Arc<Watcher>,
    number: u64,
    pub(super) view: Arc<View>,
}

impl View {
    /// Lists a stream of this node; earlier ones of it are over.
    ///
    /// # Errors
    /// [`Problem::Exhausted`] while too many earlier ones are not closed yet.
    pub fn watch(self: &Arc<Self>, node: &Node) -> Result<Watching, Problem> {
        let watcher = Arc::new(Watcher {
            node: node.id.clone(),
            selectors: Mutex::new(node.selectors.clone()),
            dirty_from: AtomicI64::new(CLEAN),
            wide: AtomicBool::new(false),
            over: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let full = || Problem::Exhausted(format!("{MAX_OF_NODE} streams of this node are open; close them, or wait"));
        let number = self.watchers.insert(&watcher).ok_or_else(full)?;
        Ok(Watching { watcher, number, view: Arc::clone(self) })
    }
}

impl Watching {
    /// Waits until something concerns the node, or the stream is over.
    pub async fn concerned(&self) {
        self.watcher.wake.notified().await;
    }

    /// Whether the node opened another stream.
    pub fn is_over(&self) -> bool {
        self.watcher.over.load(Ordering::SeqCst)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.view.watchers.remove(self.number);
    }
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.lock().all.len()
    }

    fn insert(&self, watcher: &Arc<Watcher>) -> Option<u64> {
        let mut open = self.lock();
        if open.of(&watcher.node).count() >= MAX_OF_NODE {
            return None;
        }
        open.next += 1;
        let number = open.next;
        for earlier in open.of(&watcher.node) {
            earlier.over.store(true, Ordering::SeqCst);
            earlier.wake.notify_one();
        }
        open.by_node.entry(watcher.node.clone()).or_default().push(number);
        open.all.insert(number, Arc::clone(watcher));
        Some(number)
    }

    fn remove(&self, number: u64) {
        let mut open = self.lock();
        let Some(watcher) = open.all.remove(&number) else { return };
        if let Some(of_node) = open.by_node.get_mut(&watcher.node) {
            of_node.retain(|other| *other != number);
            if of_node.is_empty() {
                open.by_node.remove(&watcher.node);
            }
        }
    }

    /// Tells the streams that a change concerns. The view is locked for writing: none of them looks meanwhile.
    pub(super) fn tell(&self, concern: &Concern, number: i64) {
        let open = self.lock();
        match concern {
            Concern::All => open.all.values().for_each(|watcher| watcher.dirty(number)),
            Concern::Nobody => {}
            Concern::Some(reach) => open.concerned(reach, |watcher| watcher.dirty(number)),
            Concern::Wide(reach) => open.concerned(reach, Watcher::everything),
        }
    }

    /// The node has other selectors now.
    pub(super) fn moved(&self, node: &Node) {
        let open = self.lock();
        for watcher in open.of(&node.id) {
            *watcher.selectors.lock().unwrap_or_else(PoisonError::into_inner) = node.selectors.clone();
        }
    }

    /// Whoever follows takes full state.
    pub(super) fn reloaded(&self) {
        self.lock().all.values().for_each(|watcher| watcher.everything());
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn of(&self, node: &SpiffeId) -> impl Iterator<Item = &Arc<Watcher>> {
        self.by_node.get(node).into_iter().flatten().filter_map(|number| self.all.get(number))
    }

    fn concerned(&self, reach: &Reach, told: impl Fn(&Watcher)) {
        if reach.selectors.is_empty() {
            // Most changes name their nodes; no other stream is looked at.
            return reach.ids.iter().flat_map(|id| self.of(id)).for_each(|watcher| told(watcher));
        }
        self.all.values().filter(|watcher| watcher.is_concerned(reach)).for_each(|watcher| told(watcher));
    }
}

impl Watcher {
    fn is_concerned(&self, reach: &Reach) -> bool {
        reach.concerns(&self.node, &self.selectors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What waits; taken, so that the next change wakes again.
    pub(super) fn take(&self) -> Waiting {
        let from = self.dirty_from.swap(CLEAN, Ordering::SeqCst);
        match (self.wide.swap(false, Ordering::SeqCst), from) {
            (true, _) => Waiting::Everything,
            (false, CLEAN) => Waiting::Nothing,
            (false, from) => Waiting::From(from),
        }
    }

    fn dirty(&self, number: i64) {
        self.dirty_from.fetch_min(number, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn everything(&self) {
        self.wide.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}
