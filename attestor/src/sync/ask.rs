use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::watch;

/// Longest wait of a caller for a poll; an unreachable CA takes longer to say so.
const PATIENCE: Duration = Duration::from_secs(5);

/// The CA was not heard, so whether something new is there is not known.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[error("the CA does not answer")]
pub struct SyncFailed;

/// Lets callers ask for a poll at once. Any number of them share one.
pub struct Ask {
    /// Number of the newest poll that somebody waits for.
    wanted: watch::Sender<u64>,
    begun: AtomicU64,
    /// Number of the newest poll that ended, and whether it succeeded.
    finished: watch::Sender<(u64, bool)>,
}

impl Ask {
    /// Nothing was polled yet.
    pub fn new() -> Self {
        Self { wanted: watch::Sender::new(0), begun: AtomicU64::new(0), finished: watch::Sender::new((0, false)) }
    }

    /// Waits for a poll that begins after this call.
    ///
    /// # Errors
    /// [`SyncFailed`] where it fails, or none ends within 5 s.
    pub async fn fresh(&self) -> Result<(), SyncFailed> {
        let mut finished = self.finished.subscribe();
        let number = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.send_modify(|wanted| *wanted = number.max(*wanted));
        let done = tokio::time::timeout(PATIENCE, finished.wait_for(|(n, _)| *n >= number)).await;
        match done {
            Ok(Ok(outcome)) if outcome.1 => Ok(()),
            _ => Err(SyncFailed),
        }
    }

    /// Waits until somebody wants a poll that has not begun.
    pub(super) async fn wanted(&self) {
        // The sender is ours, so the channel does not close.
        let _ = self.wanted.subscribe().wait_for(|wanted| *wanted > self.begun.load(Ordering::SeqCst)).await;
    }

    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn finish(&self, number: u64, ok: bool) {
        self.finished.send_replace((number, ok));
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self::new()
    }
}
