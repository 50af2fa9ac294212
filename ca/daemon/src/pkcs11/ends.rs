//! Knows when every thread that may call the module is gone.
//!
//! A module has exit handlers of its own: one that runs them while a thread of ours is still leaving it may wait for ever
//! for a lock that the thread held. SoftHSM 2.6 was seen to.

use std::{
    convert::Infallible,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

/// Held by a thread while it lives.
pub(super) type Living = Sender<Infallible>;

/// The threads of a token.
pub(super) struct Ends {
    // Guards what new threads are given; empty once somebody waits.
    living: Mutex<Option<Living>>,
    // Guards the other end, which closes with the last of them.
    gone: Mutex<Receiver<Infallible>>,
}

impl Default for Ends {
    fn default() -> Self {
        let (living, gone) = channel();
        Self { living: Mutex::new(Some(living)), gone: Mutex::new(gone) }
    }
}

impl Ends {
    /// For one more thread; `None` once somebody waits.
    pub(super) fn living(&self) -> Option<Living> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for all of them, at most `patience`; whether none is left. One that hangs in the module is left behind.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        drop(self.living.lock().unwrap_or_else(PoisonError::into_inner).take());
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_last_and_no_longer_than_it_has_patience() {
        let ends = Ends::default();
        let (first, second) = (ends.living(), ends.living());
        drop(first);
        assert!(!ends.wait(Duration::from_millis(1)));
        assert!(ends.living().is_none());
        drop(second);
        assert!(ends.wait(Duration::from_secs(60)));
    }
}
