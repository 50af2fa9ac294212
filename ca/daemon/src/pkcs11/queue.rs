//! Waiting calls: two lanes, both bounded.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{error::TokenError, seat::Seat};

/// Calls of the first lane that may wait; only the process itself makes them.
const MAX_FIRST: usize = 64;

/// Which lane a call waits in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lane {
    /// Signatures.
    Bulk,
    /// Health, recovery and the making and finding of keys.
    First,
}

/// A call: the work, and the last moment at which it is begun.
pub(super) struct Job {
    pub until: Instant,
    /// How long the module may take for it before it counts as hung.
    pub patience: std::time::Duration,
    /// Answers to whoever waits; `None` when it is too late to begin.
    pub work: Box<dyn FnOnce(Option<&mut Seat>) + Send>,
}

/// The queue of one token.
pub(super) struct Queue {
    // Guards both lanes; held for a push or a pop.
    lanes: Mutex<Lanes>,
    filled: Condvar,
    limit: usize,
}

#[derive(Default)]
struct Lanes {
    first: VecDeque<Job>,
    bulk: VecDeque<Job>,
    closed: bool,
    /// Threads that wait for a call.
    idle: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { lanes: Mutex::default(), filled: Condvar::new(), limit }
    }

    pub(super) fn push(&self, lane: Lane, job: Job) -> Result<(), TokenError> {
        let mut lanes = self.lock();
        let closed = lanes.closed;
        let (lane, limit) = match lane {
            Lane::Bulk => (&mut lanes.bulk, self.limit),
            Lane::First => (&mut lanes.first, MAX_FIRST),
        };
        if closed {
            return Err(TokenError::Unavailable("closing".into()));
        }
        if lane.len() >= limit {
            return Err(TokenError::Overloaded(lane.len()));
        }
        lane.push_back(job);
        // A wake-up costs a system call; threads at work come back by themselves.
        let idle = lanes.idle > 0;
        drop(lanes);
        if idle {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// The next call; `None` when no more will come.
    pub(super) fn pop(&self) -> Option<Job> {
        let mut lanes = self.lock();
        loop {
            if lanes.closed {
                return None;
            }
            if let Some(job) = lanes.first.pop_front() {
                return Some(job);
            }
            if let Some(job) = lanes.bulk.pop_front() {
                return Some(job);
            }
            lanes.idle += 1;
            lanes = self.filled.wait(lanes).unwrap_or_else(PoisonError::into_inner);
            lanes.idle -= 1;
        }
    }

    /// Lets the threads end. Whoever waits gets no answer but the end of its channel.
    pub(super) fn close(&self) {
        let mut lanes = self.lock();
        lanes.closed = true;
        lanes.first.clear();
        lanes.bulk.clear();
        drop(lanes);
        self.filled.notify_all();
    }

    /// Calls waiting.
    pub(super) fn len(&self) -> usize {
        let lanes = self.lock();
        lanes.first.len() + lanes.bulk.len()
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
