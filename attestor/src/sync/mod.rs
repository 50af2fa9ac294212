//! Keeps the cache what the CA says: follows its stream, and has SVIDs issued as the plan tells.
//!
//! A server without a stream (SPIRE's, or ours of an earlier release) is polled; so is ours for a caller that matches nothing, who must not wait for a push.
//! One task writes the cache, so a snapshot never mixes two answers. While the CA is away nothing is dropped but
//! what has ended; when the node has no standing everything is dropped at once. Called by `api::serve`.

mod ask;
mod feed;
mod issue;
mod poll;

pub use ask::{Ask, SyncFailed};

use std::{sync::Arc, time::Duration};

use chancery_daemon::clock::Clock;
use chancery_sdk::{time::UnixTime, tls::LiveRevocations};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::feed::{Feed, State};
use crate::{
    ca::{CaError, Told},
    cache::{Cache, View},
    crypto::fraction,
    identity::IdentityWatch,
    instance::Instances,
    metrics::WorkloadMetrics,
    plan::{Rotation, longest_wait},
    taint::Taints,
    upstream::Upstream,
    witness::Witness,
};

/// Least time between the starts of two polls, however many callers match nothing.
const LEAST_GAP: Duration = Duration::from_millis(250);
/// Longest wait before a stream that broke is opened again.
const REOPEN: Duration = Duration::from_millis(500);
/// Longest wait between tries of a CA that does not answer: a fleet comes back within this, and not at once.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Growth of the wait with each try that fails (SPIRE's).
const GROWTH: f64 = 1.5;

/// The task that writes the cache.
pub struct Syncer {
    upstream: Arc<dyn Upstream>,
    cache: Arc<Cache>,
    identity: IdentityWatch,
    ask: Arc<Ask>,
    instances: Instances,
    interval: Duration,
    rotation: Arc<Rotation>,
    taints: Arc<Taints>,
    clock: Clock,
    metrics: WorkloadMetrics,
    revoked: LiveRevocations,
    witness: Witness,
    state: State,
}

/// What the syncer works with.
pub struct Parts {
    /// The CA.
    pub upstream: Arc<dyn Upstream>,
    /// What it writes.
    pub cache: Arc<Cache>,
    /// Whether the node has standing.
    pub identity: IdentityWatch,
    /// Callers that want a poll.
    pub ask: Arc<Ask>,
    /// Told of instances that the CA ended.
    pub instances: Instances,
    /// Between two polls of a CA without a stream, and between two tries to open one.
    pub interval: Duration,
    /// Spreads rotations.
    pub rotation: Arc<Rotation>,
    /// Tainted authorities.
    pub taints: Arc<Taints>,
    /// Now.
    pub clock: Clock,
    /// Counted.
    pub metrics: WorkloadMetrics,
    /// What the CA tells of revocations; it outlives the node's standing, for it grants nothing.
    pub revoked: LiveRevocations,
    /// Keeps the CA's checkpoints; it outlives the node's standing likewise.
    pub witness: Witness,
}

/// Why the task woke up.
enum Wake {
    /// Somebody asked for a poll.
    Asked,
    /// An SVID is due, has ended, or is wanted.
    Issue,
    /// The node's identity changed.
    Node,
    /// The stream told something, or is over.
    Pushed(Option<Result<Told, CaError>>),
    Stop,
    /// Time to poll, or to open the stream.
    Turn,
}

impl Syncer {
    /// A syncer that has heard nothing yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            upstream,
            cache,
            identity,
            ask,
            instances,
            interval,
            rotation,
            taints,
            clock,
            metrics,
            revoked,
            witness,
        } = parts;
        Self {
            upstream,
            cache,
            identity,
            ask,
            instances,
            interval,
            rotation,
            taints,
            clock,
            metrics,
            revoked,
            witness,
            state: State::default(),
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut feed = Feed::default();
        let mut failures = 0;
        let mut began = Instant::now();
        let mut next = began;
        loop {
            match self.wait(&mut feed, &stop, next, began + LEAST_GAP).await {
                Wake::Stop => return,
                Wake::Node if self.identity.borrow_and_update().is_none() => {
                    (feed, self.state) = (Feed::default(), State::default());
                    self.cache.publish(View::default());
                }
                // Standing again: the cache is empty, so ask at once.
                Wake::Node if !self.cache.view().ready() => next = Instant::now(),
                Wake::Node => {}
                Wake::Issue => self.issue().await,
                Wake::Asked => {
                    began = Instant::now();
                    self.poll_once().await;
                    self.issue().await;
                }
                Wake::Pushed(item) => {
                    let was_live = feed.is_live();
                    let live = self.pushed(&mut feed, item);
                    self.metrics.synced(live.then(|| (self.clock)()));
                    failures = if live || was_live { 0 } else { failures + 1 };
                    next = Instant::now()
                        + match (live, was_live) {
                            (true, _) => self.interval,
                            // The CA, or one of its servers, went away: at once to the next, and not all together.
                            (false, true) => REOPEN.mul_f64(fraction()),
                            // Its first answer was none: asking faster makes it no better.
                            (false, false) => self.pause(failures),
                        };
                    self.issue().await;
                }
                Wake::Turn => {
                    let now = Instant::now();
                    let ok = self.turn(&mut feed).await;
                    if matches!(feed, Feed::Polled { .. }) {
                        began = now;
                    }
                    failures = if ok { 0 } else { failures + 1 };
                    next = now + self.pause(failures);
                }
            }
            self.metrics.identities.set(i64::try_from(self.cache.view().svids.len()).unwrap_or(i64::MAX));
        }
    }

    /// Opens the stream, or polls where there is none; whether the CA answers.
    async fn turn(&mut self, feed: &mut Feed) -> bool {
        if feed.may_stream(self.upstream.servers().connections()) {
            *feed = Feed::Closed;
        }
        if matches!(feed, Feed::Closed) && !self.open_feed(feed).await {
            self.metrics.synced(None);
            return false;
        }
        let answers = match feed {
            Feed::Polled { .. } => self.poll_once().await,
            // Nothing came, and the connection answers its pings: nothing has changed.
            Feed::Open(..) if feed.is_live() => {
                self.metrics.synced(Some((self.clock)()));
                true
            }
            Feed::Open(..) | Feed::Closed => true,
        };
        // What is overdue is tried again, too.
        self.issue().await;
        answers
    }

    /// Waits for whatever comes first. A turn begins at `next`; a poll when asked for, but not before `earliest`.
    async fn wait(&mut self, feed: &mut Feed, stop: &CancellationToken, next: Instant, earliest: Instant) -> Wake {
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
            told = feed.next() => Wake::Pushed(told),
            () = sleep_until(next), if standing => Wake::Turn,
            () = asked, if standing => Wake::Asked,
            () = self.cache.wanted.notified(), if standing => Wake::Issue,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Wake::Issue,
        }
    }

    async fn poll_once(&mut self) -> bool {
        let number = self.ask.begin();
        let ok = self.poll().await;
        self.metrics.synced(ok.then(|| (self.clock)()));
        self.ask.finish(number, ok);
        ok
    }

    /// `sync_interval` with 10 % of jitter. While the CA does not answer: any part of a wait that grows, but not of one in
    /// which an SVID would end.
    fn pause(&self, failures: u32) -> Duration {
        if failures == 0 {
            return self.interval.mul_f64(0.9 + 0.2 * fraction()).max(Duration::from_millis(1));
        }
        let grown = self.interval.mul_f64(GROWTH.powi(failures.min(16).cast_signed()));
        let longest = grown.min(LONGEST_WAIT.max(self.interval)).min(self.longest_wait());
        longest.mul_f64(fraction()).max(LEAST_GAP.min(self.interval))
    }

    /// As [`longest_wait`] of the SVID that ends first.
    fn longest_wait(&self) -> Duration {
        let now = (self.clock)();
        let ends = self.cache.view().svids.values().map(|e| e.svid.expires_at).filter(|at| *at > now).min();
        ends.map_or(Duration::MAX, |at| longest_wait(now, at))
    }

    /// When the next SVID is due or ends. What is overdue waits for the next turn: then the CA was away.
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
