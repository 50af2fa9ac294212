//! Entries and classes in memory: it may refuse, only the committing transaction may grant.
//!
//! One read of the store serves every request of a second. What this server changes is seen at once; what
//! another server changes, within that second.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use chancery_core::{class::Class, entry::Graph};
use chancery_sdk::time::UnixTime;
use tokio::sync::Mutex;

use crate::store::{Store, StoreError};

/// The view, shared by every request.
#[derive(Debug, Default)]
pub struct View {
    changes: AtomicU64,
    /// Snapshot of the newest read; replaced whole.
    newest: ArcSwapOption<Snapshot>,
    /// Guards nothing but the work: one reader at a time asks the store. Held over that await, hence tokio's.
    reading: Mutex<()>,
}

/// One read of the store.
#[derive(Debug)]
pub struct Snapshot {
    /// Entries, arranged.
    pub graph: Graph,
    /// Classes, by name.
    pub classes: Vec<Class>,
    read_at: UnixTime,
    changes: u64,
}

impl View {
    /// Makes the next look read the store again; called after every change this server commits.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// What is registered, at most a second old.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be asked: nothing is granted from an old view then.
    pub async fn now(&self, store: &Store, now: UnixTime) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(fresh) = self.fresh(now) {
            return Ok(fresh);
        }
        let _one = self.reading.lock().await;
        if let Some(fresh) = self.fresh(now) {
            return Ok(fresh);
        }
        // Counted before the read: a change during it makes the snapshot old at once.
        let changes = self.changes.load(Ordering::SeqCst);
        let graph = Graph::new(store.entries().await?);
        let classes = store.classes().await?;
        let snapshot = Arc::new(Snapshot { graph, classes, read_at: now, changes });
        self.newest.store(Some(Arc::clone(&snapshot)));
        Ok(snapshot)
    }

    fn fresh(&self, now: UnixTime) -> Option<Arc<Snapshot>> {
        let newest = self.newest.load_full()?;
        let same = newest.read_at == now && newest.changes == self.changes.load(Ordering::SeqCst);
        same.then_some(newest)
    }
}
