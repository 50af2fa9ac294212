//! What this server committed in the last second or two, for those who follow the log right behind it.
//!
//! Handing rows over from the database costs more than signing a tree of them. Where another server's events lie
//! between, there is nothing here and the database is read.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::StoredEvent;

/// Bytes of events that are kept at most.
const MAX_BYTES: usize = 8 << 20;

/// A stretch of events without a gap, up to the newest that this server committed.
#[derive(Debug, Default)]
pub(super) struct Recent {
    // Guards the stretch; held for a copy, never over an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<StoredEvent>,
    bytes: usize,
    /// Of these, how many were there when it was last asked to age.
    old: usize,
}

impl Recent {
    /// Keeps what was committed. What does not continue the rest replaces it.
    pub(super) fn push(&self, events: Vec<StoredEvent>) {
        let mut kept = self.lock();
        let continues =
            |last: &StoredEvent, first: &StoredEvent| (last.epoch, last.number + 1) == (first.epoch, first.number);
        if let (Some(last), Some(first)) = (kept.events.back(), events.first())
            && !continues(last, first)
        {
            *kept = Kept::default();
        }
        kept.bytes += events.iter().map(|event| event.bytes.len()).sum::<usize>();
        kept.events.extend(events);
        while kept.bytes > MAX_BYTES {
            kept.drop_first();
        }
    }

    /// Nothing is known any more of what is in the database.
    pub(super) fn forget(&self) {
        *self.lock() = Kept::default();
    }

    /// Drops what was there already when this was last called.
    pub(super) fn age(&self) {
        let mut kept = self.lock();
        for _ in 0..kept.old {
            kept.drop_first();
        }
        kept.old = kept.events.len();
    }

    /// At most `limit` events of the epoch after this number, where the first of them is here.
    pub(super) fn after(&self, epoch: i64, after: i64, limit: u32) -> Option<Vec<StoredEvent>> {
        let kept = self.lock();
        let first = kept.events.front().filter(|first| first.epoch == epoch)?.number;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        (skip < kept.events.len()).then(|| kept.events.iter().skip(skip).take(limit).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn drop_first(&mut self) {
        if let Some(first) = self.events.pop_front() {
            self.bytes -= first.bytes.len();
        }
        self.old = self.old.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(numbers: std::ops::Range<i64>) -> Vec<StoredEvent> {
        let one = |number| StoredEvent { epoch: 1, number, bytes: vec![0; 1 << 10], hash: [0; 32] };
        numbers.map(one).collect()
    }

    fn numbers(recent: &Recent, after: i64, limit: u32) -> Option<Vec<i64>> {
        Some(recent.after(1, after, limit)?.into_iter().map(|event| event.number).collect())
    }

    #[test]
    fn only_what_is_here_from_the_first_on_is_answered() {
        let recent = Recent::default();
        assert_eq!(numbers(&recent, -1, 10), None);
        recent.push(events(5..8));
        recent.push(events(8..9));
        assert_eq!(numbers(&recent, 3, 10), None, "the first is missing");
        assert_eq!(numbers(&recent, 4, 10), Some(vec![5, 6, 7, 8]));
        assert_eq!(numbers(&recent, 5, 2), Some(vec![6, 7]));
        assert_eq!(numbers(&recent, 8, 10), None, "the database may have more");
        assert_eq!(recent.after(2, 4, 10), None, "another epoch");
    }

    #[test]
    fn a_gap_and_a_failed_commit_begin_anew() {
        let recent = Recent::default();
        recent.push(events(0..3));
        recent.push(events(4..6));
        assert_eq!(numbers(&recent, 2, 10), None);
        assert_eq!(numbers(&recent, 3, 10), Some(vec![4, 5]));
        recent.forget();
        assert_eq!(numbers(&recent, 3, 10), None);
    }

    #[test]
    fn what_is_kept_is_bounded_by_bytes_and_by_age() {
        let recent = Recent::default();
        recent.push(events(0..10_000));
        let first = 10_000 - i64::try_from(MAX_BYTES >> 10).unwrap();
        assert_eq!(numbers(&recent, first - 2, 1), None);
        assert_eq!(numbers(&recent, first - 1, 1), Some(vec![first]));
        recent.age();
        assert_eq!(numbers(&recent, first - 1, 1), Some(vec![first]), "seen once");
        recent.push(events(10_000..10_001));
        recent.age();
        assert_eq!(numbers(&recent, 9_998, 1), None);
        assert_eq!(numbers(&recent, 9_999, 1), Some(vec![10_000]));
    }
}
