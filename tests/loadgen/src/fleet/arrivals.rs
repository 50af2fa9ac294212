use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::moment::Moment;

/// When which node first saw which clocked entry.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    // Guards the moments; held for one look or insert, never over an await.
    seen: Mutex<HashMap<String, BTreeMap<usize, Moment>>>,
    more: Notify,
}

impl Arrivals {
    /// Takes note; only the first sight counts.
    pub(super) fn note(&self, path: &str, node: usize, at: Moment) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(path) {
            Some(known) if known.contains_key(&node) => return,
            Some(known) => drop(known.insert(node, at)),
            None => drop(seen.insert(path.to_owned(), BTreeMap::from([(node, at)]))),
        }
        drop(seen);
        self.more.notify_waiters();
    }

    /// Waits until `enough` of the sights of an entry; answers them.
    pub(super) async fn wait(
        &self,
        path: &str,
        enough: impl Fn(&BTreeMap<usize, Moment>) -> bool,
    ) -> BTreeMap<usize, Moment> {
        loop {
            // Listening begins before looking: what comes in between wakes us.
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let seen = self.of(path);
            if enough(&seen) {
                return seen;
            }
            more.await;
        }
    }

    /// The sights of an entry so far.
    pub(super) fn of(&self, path: &str) -> BTreeMap<usize, Moment> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_first_sight_counts_and_a_waiter_is_woken_by_the_last_one() {
        let arrivals = Arc::new(Arrivals::default());
        let waiting = tokio::spawn({
            let arrivals = Arc::clone(&arrivals);
            async move { arrivals.wait("/e", |seen| seen.len() == 2).await }
        });
        let first = Moment::now();
        arrivals.note("/e", 0, first);
        arrivals.note("/e", 0, first.plus(std::time::Duration::from_secs(1)));
        arrivals.note("/other", 1, first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        arrivals.note("/e", 1, first);
        assert_eq!(waiting.await.unwrap(), BTreeMap::from([(0, first), (1, first)]));
    }
}
