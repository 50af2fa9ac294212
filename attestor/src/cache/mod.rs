//! What this node may hand out right now: entries, classes, SVIDs and bundles, as one snapshot that changes whole.
//!
//! [`Cache`] is written by `sync` alone and read by `api` and `explain`. It asks nobody and decides nothing but
//! which entries and classes a set of selectors matches. A process's instance is not in here: see `instance`.

mod bundles;
mod crls;
mod key;
mod svid;
mod view;

pub use bundles::Bundles;
pub use crls::Crls;
pub use key::{FreshKey, fresh_key};
pub use svid::Svid;
pub(crate) use view::EntrySvid;
pub use view::View;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use chancery_sdk::time::UnixTime;
use tokio::sync::{Notify, watch};

/// The snapshot, and who used what of it.
pub struct Cache {
    view: watch::Sender<Arc<View>>,
    /// Guards entry ID -> last use; held for a look-up, an insertion or a sweep.
    used: Mutex<BTreeMap<String, UnixTime>>,
    /// Told when an entry is used whose SVID is not there.
    pub(crate) wanted: Notify,
}

impl Cache {
    /// Nothing yet: [`View::ready`] is false.
    pub fn new() -> Self {
        Self { view: watch::Sender::new(Arc::default()), used: Mutex::default(), wanted: Notify::new() }
    }

    /// The snapshot of now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the snapshot.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Replaces the snapshot.
    pub(crate) fn publish(&self, view: View) {
        self.view.send_replace(Arc::new(view));
    }

    /// Notes that entries are in use; asks for the SVIDs that are not there.
    pub fn touch<'a>(&self, view: &View, ids: impl Iterator<Item = &'a str>, now: UnixTime) {
        let mut missing = false;
        {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            for id in ids {
                missing |= !view.svids.contains_key(id);
                match used.get_mut(id) {
                    Some(at) => *at = now,
                    None => {
                        used.insert(id.to_owned(), now);
                    }
                }
            }
        }
        if missing {
            self.wanted.notify_one();
        }
    }

    /// When each entry was last used; forgets entries that are gone.
    pub(crate) fn used(&self, view: &View) -> BTreeMap<String, UnixTime> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|id, _| view.entries.contains_key(id));
        used.clone()
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}
