//! What is registered, in memory: it may refuse, only the committing transaction may grant.
//!
//! Follows the log: [`View::follow`] reads what was committed since and applies it, whichever server wrote it. A view
//! that was not confirmed within [`BOUND`] says so and answers nobody. Called by the gate and the use cases.

mod changes;
mod delta;
mod follow;
mod held;
mod instances;
mod registry;
mod revoked;
mod watchers;

pub use self::{
    delta::{Delta, Offered},
    held::Held,
    instances::Running,
    registry::Registry,
    watchers::Watching,
};

pub use crate::store::{Revoked, StoredCrl, What};

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use chancery_sdk::time::UnixTime;
use tokio::sync::{Mutex as AsyncMutex, watch};

use self::{changes::Changes, watchers::Watchers};
use crate::{
    live::LivePeers,
    problem::Problem,
    store::{Store, StoreError},
};

/// How old the view may be and still let somebody in.
pub const BOUND: Duration = Duration::from_secs(5);
/// Between two looks at the log that nothing woke: the net under lost wake-ups.
const TICK: Duration = Duration::from_secs(1);

/// Where in the log a reader is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cursor {
    /// The log.
    pub epoch: i64,
    /// The last change that was applied; -1 = none.
    pub number: i64,
    /// That event's hash; empty for none.
    pub hash: Vec<u8>,
}

/// The view, shared by every request.
pub struct View {
    store: Store,
    live: Arc<LivePeers>,
    // Guards what is registered; held for a look-up or for one batch of changes, never over an await.
    shared: RwLock<Shared>,
    // Guards whose turn it is to read the log; held over those reads, hence tokio's. When the newest pass began.
    pass: AsyncMutex<Option<Instant>>,
    // Guards the time of the last confirmation.
    confirmed: Mutex<Instant>,
    watchers: Watchers,
    /// How often certificates came onto the list.
    revoked: watch::Sender<u64>,
    /// Told when a CA's list is a new one.
    listed: watch::Sender<()>,
}

/// What is known, and up to which number.
#[derive(Debug)]
struct Shared {
    registry: Registry,
    changes: Changes,
    epoch: i64,
    /// Newest number that was looked at; everything below it is applied.
    applied: i64,
}

impl View {
    /// Reads everything once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(store: &Store, live: &Arc<LivePeers>) -> Result<Arc<Self>, StoreError> {
        let began = Instant::now();
        let shared = follow::load(store).await?;
        let view = Arc::new(Self {
            store: store.clone(),
            live: Arc::clone(live),
            shared: RwLock::new(shared),
            pass: AsyncMutex::new(None),
            confirmed: Mutex::new(began),
            watchers: Watchers::default(),
            revoked: watch::Sender::default(),
            listed: watch::Sender::default(),
        });
        let told = Arc::downgrade(&view);
        store.on_commit(move |committed| {
            if let Some(view) = told.upgrade() {
                view.committed(committed);
            }
        });
        Ok(view)
    }

    /// What is registered, if it is fresh enough to let somebody in.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] where the log could not be read for longer than [`BOUND`].
    pub fn look<T>(&self, at: impl FnOnce(&Registry) -> T) -> Result<T, Problem> {
        if !self.is_fresh() {
            let text = "this server has not been able to read the database for too long: ask another one, or again";
            return Err(Problem::Unavailable(text.into()));
        }
        Ok(at(&self.read().registry))
    }

    /// Whether the log was read lately enough.
    pub fn is_fresh(&self) -> bool {
        self.age() <= BOUND
    }

    /// Since when the view may lack something.
    pub fn age(&self) -> Duration {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Changes when certificates come onto the list of what is revoked.
    pub fn revoked(&self) -> watch::Receiver<u64> {
        self.revoked.subscribe()
    }

    /// Changes when a CA's certificate revocation list is a new one.
    pub fn listed(&self) -> watch::Receiver<()> {
        self.listed.subscribe()
    }

    /// The newest list of every CA whose certificates may be valid. However old the view: each says itself until when it holds.
    pub fn crls(&self, now: UnixTime) -> Vec<Arc<StoredCrl>> {
        self.read().registry.crls(now).cloned().collect()
    }

    /// Streams that follow.
    pub fn watching(&self) -> usize {
        self.watchers.len()
    }

    /// Makes sure that what this server committed is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn caught_up(&self) -> Result<(), StoreError> {
        let last = *self.store.moved().borrow();
        let applied = self.read().applied;
        if applied >= last { Ok(()) } else { self.follow().await }
    }

    /// Makes sure that everything up to the event `number` is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reached(&self, number: i64) -> Result<(), StoreError> {
        if self.read().applied >= number { Ok(()) } else { self.follow().await }
    }

    fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("age", &self.age()).field("watching", &self.watching()).finish_non_exhaustive()
    }
}
