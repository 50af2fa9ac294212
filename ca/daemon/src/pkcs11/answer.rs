//! The answer of one call: given once by a thread of the token, waited for by whoever asked.
//!
//! Cheaper than a channel: whoever waits parks at once, since no token answers within a spin, and is woken once.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::{self, Thread},
    time::Instant,
};

/// What a call will answer.
struct Slot<T> {
    // Guards the answer; held to put it there or to take it.
    given: Mutex<Given<T>>,
}

enum Given<T> {
    Not,
    Answer(T),
    /// Whoever could answer is gone.
    Never,
}

/// For the thread that answers; dropped unused, the call has no answer.
pub(super) struct Giver<T> {
    slot: Arc<Slot<T>>,
    waits: Thread,
}

/// For whoever asked.
pub(super) struct Waiter<T> {
    slot: Arc<Slot<T>>,
}

/// Both ends; only this thread may wait.
pub(super) fn pair<T>() -> (Giver<T>, Waiter<T>) {
    let slot = Arc::new(Slot { given: Mutex::new(Given::Not) });
    (Giver { slot: Arc::clone(&slot), waits: thread::current() }, Waiter { slot })
}

impl<T> Giver<T> {
    pub(super) fn give(self, answer: T) {
        self.put(Given::Answer(answer));
    }

    fn put(&self, what: Given<T>) {
        *self.slot.given.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.waits.unpark();
    }
}

impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        let unanswered = matches!(*self.slot.given.lock().unwrap_or_else(PoisonError::into_inner), Given::Not);
        if unanswered {
            self.put(Given::Never);
        }
    }
}

impl<T> Waiter<T> {
    /// The answer; `None` when there will be none, or none came until then.
    pub(super) fn wait(self, until: Instant) -> Option<T> {
        loop {
            let given =
                std::mem::replace(&mut *self.slot.given.lock().unwrap_or_else(PoisonError::into_inner), Given::Not);
            match given {
                Given::Answer(answer) => return Some(answer),
                Given::Never => return None,
                Given::Not => {}
            }
            // A wake-up may be an old one: the slot decides.
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            thread::park_timeout(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn what_another_thread_gives_is_what_is_waited_for() {
        let (giver, waiter) = pair();
        let other = thread::spawn(move || giver.give(7));
        assert_eq!(waiter.wait(soon()), Some(7));
        other.join().unwrap();
    }

    #[test]
    fn a_giver_that_is_gone_ends_the_wait_at_once() {
        let (giver, waiter) = pair::<u8>();
        drop(giver);
        assert_eq!(waiter.wait(soon()), None);
    }

    #[test]
    fn the_wait_ends_at_its_moment_and_an_old_wake_up_is_no_answer() {
        let (giver, waiter) = pair::<u8>();
        thread::current().unpark();
        assert_eq!(waiter.wait(Instant::now() + Duration::from_millis(5)), None);
        // Whoever answers late finds nobody, and no harm is done.
        giver.give(1);
    }
}
