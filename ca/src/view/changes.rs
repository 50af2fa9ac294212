//! The newest changes, so that a node that was away gets the difference.

use std::{collections::VecDeque, sync::Arc};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

use super::{Cursor, held::Held};
use crate::store::Revoked;

/// Changes that are kept; about 8 MB of entries' IDs.
const KEPT: usize = 65_536;

/// What changed, without what it is now.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Change {
    Bundle(TrustDomain),
    Class(String),
    Crl(String),
    Ended {
        node: SpiffeId,
        instance: SpiffeId,
    },
    Entry(String),
    Held(Held),
    Node(SpiffeId),
    Executable(String),
    Revoked(Arc<Revoked>),
    /// More than one thing: whoever was away takes full state.
    Wide,
}

/// A change and its place in the log.
#[derive(Clone, Debug)]
pub(super) struct Numbered {
    pub number: i64,
    pub hash: [u8; 32],
    /// When it was committed, of a revocation.
    pub revoked_at: Option<UnixTime>,
    pub change: Change,
}

/// The newest [`KEPT`] changes, in the order of the log.
#[derive(Debug)]
pub(super) struct Changes {
    kept: VecDeque<Numbered>,
    /// The event before the first that is kept: everything after it is there.
    since: i64,
    /// Its hash; empty where there is no event.
    hash: Vec<u8>,
}

impl Changes {
    /// None yet; what is older than the event `since` is not known.
    pub(super) fn after(since: i64, hash: Vec<u8>) -> Self {
        Self { kept: VecDeque::new(), since, hash }
    }

    pub(super) fn push(&mut self, numbered: Numbered) {
        if self.kept.len() == KEPT
            && let Some(oldest) = self.kept.pop_front()
        {
            (self.since, self.hash) = (oldest.number, oldest.hash.to_vec());
        }
        self.kept.push_back(numbered);
    }

    /// Where a reader of everything is.
    pub(super) fn cursor(&self, epoch: i64) -> Cursor {
        match self.kept.back() {
            Some(last) => Cursor { epoch, number: last.number, hash: last.hash.to_vec() },
            None => Cursor { epoch, number: self.since, hash: self.hash.clone() },
        }
    }

    /// Whether the difference since `cursor` is known: it names one of our events with its very hash.
    pub(super) fn resumes(&self, cursor: &Cursor) -> bool {
        if cursor.number == self.since {
            return cursor.hash == self.hash;
        }
        let at = self.kept.partition_point(|kept| kept.number < cursor.number);
        self.kept.get(at).is_some_and(|kept| kept.number == cursor.number && kept.hash[..] == cursor.hash[..])
    }

    /// Whether every change from `number` on is still there.
    pub(super) fn has_from(&self, number: i64) -> bool {
        number > self.since
    }

    /// Changes with a number above `number`, in order.
    pub(super) fn above(&self, number: i64) -> impl Iterator<Item = &Numbered> {
        let at = self.kept.partition_point(|kept| kept.number <= number);
        self.kept.range(at..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_known_to_be_missing() {
        let mut changes = Changes::after(0, Vec::new());
        let kept = i64::try_from(KEPT).unwrap();
        for number in 1..=kept {
            changes.push(Numbered { number, hash: [0; 32], revoked_at: None, change: Change::Wide });
        }
        assert!(changes.has_from(1));
        for number in kept + 1..=kept + 10 {
            changes.push(Numbered { number, hash: [0; 32], revoked_at: None, change: Change::Wide });
        }
        assert!(!changes.has_from(10) && changes.has_from(11));
        assert_eq!(changes.above(10).count(), KEPT);
    }
}
