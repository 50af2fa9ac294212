//! Keeps the cache what the CA says: polls, and has SVIDs issued as the plan tells.
//!
//! One task writes the cache, so a snapshot never mixes two answers. While the CA is away nothing is dropped but
//! what has ended; when the node has no standing everything is dropped at once. Called by `api::serve`.

mod ask;
mod issue;
mod poll;

pub use ask::{Ask, SyncFailed};

use std::{sync::Arc, time::Duration};

use chancery_daemon::clock::Clock;
use chancery_sdk::time::UnixTime;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    cache::{Cache, View},
    crypto::fraction,
    identity::IdentityWatch,
    metrics::WorkloadMetrics,
    plan::Rotation,
    taint::Taints,
    upstream::Upstream,
};

/// Least time between the starts of two polls, however many callers match nothing.
const LEAST_GAP: Duration = Duration::from_millis(250);
/// Longest wait between polls of a CA that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Growth of the wait with each poll that fails (SPIRE's).
const GROWTH: f64 = 1.5;

/// The task that writes the cache.
pub struct Syncer {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) identity: IdentityWatch,
    pub(crate) ask: Arc<Ask>,
    pub(crate) interval: Duration,
    pub(crate) rotation: Arc<Rotation>,
    pub(crate) taints: Arc<Taints>,
    pub(crate) clock: Clock,
    pub(crate) metrics: WorkloadMetrics,
}

/// Why the task woke up.
enum Wake {
    /// An SVID is due, has ended, or is wanted.
    Issue,
    /// The node's identity changed.
    Node,
    /// Time for a poll, or somebody asked for one.
    Poll,
    Stop,
}

impl Syncer {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        let mut began = Instant::now();
        let mut next = began;
        loop {
            match self.wait(&stop, next, began + LEAST_GAP).await {
                Wake::Stop => return,
                Wake::Node if self.identity.borrow_and_update().is_none() => self.cache.publish(View::default()),
                // Standing again: the cache is empty, so poll at once.
                Wake::Node if !self.cache.view().ready() => next = Instant::now(),
                Wake::Node => {}
                Wake::Issue => self.issue().await,
                Wake::Poll => {
                    began = Instant::now();
                    let ok = self.poll_once().await;
                    failures = if ok { 0 } else { failures + 1 };
                    next = began + self.pause(failures);
                    self.issue().await;
                }
            }
            self.metrics.identities.set(i64::try_from(self.cache.view().svids.len()).unwrap_or(i64::MAX));
        }
    }

    /// Waits for whatever comes first. A poll begins at `next`, or when asked for, but not before `earliest`.
    async fn wait(&mut self, stop: &CancellationToken, next: Instant, earliest: Instant) -> Wake {
        let due = self.next_due();
        let standing = self.identity.borrow().is_some();
        let asked = async {
            self.ask.wanted().await;
            sleep_until(earliest).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Wake::Stop,
            changed = self.identity.changed() => if changed.is_ok() { Wake::Node } else { Wake::Stop },
            () = sleep_until(next), if standing => Wake::Poll,
            () = asked, if standing => Wake::Poll,
            () = self.cache.wanted.notified(), if standing => Wake::Issue,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Issue,
        }
    }

    async fn poll_once(&self) -> bool {
        let number = self.ask.begin();
        let ok = self.poll().await;
        self.metrics.synced(ok.then(|| (self.clock)()));
        self.ask.finish(number, ok);
        ok
    }

    /// `sync_interval` with 10 % of jitter, growing while the CA does not answer.
    fn pause(&self, failures: u32) -> Duration {
        let jitter = 0.9 + 0.2 * fraction();
        let factor = GROWTH.powi(failures.min(16).cast_signed());
        self.interval.mul_f64(jitter).max(Duration::from_millis(1)).mul_f64(factor).min(LONGEST_WAIT.max(self.interval))
    }

    /// When the next SVID is due or ends. What is overdue waits for the next poll: then the CA was away.
    fn next_due(&self) -> Option<Instant> {
        let now = (self.clock)();
        let view = self.cache.view();
        let times = view.svids.values().flat_map(|e| [self.taints.due(&e.svid), e.svid.expires_at]);
        times.filter(|at| *at > now).min().map(|at| Instant::now() + until(now, at))
    }
}

/// The wait from `now` to `at`.
pub(crate) fn until(now: UnixTime, at: UnixTime) -> Duration {
    Duration::from_secs(u64::try_from(at.since(now)).unwrap_or(0))
}
