//! A table of what was seen lately, by instance, of bounded size: what nobody asks for goes first.

use std::collections::HashMap;

use chancery_sdk::id::SpiffeId;

/// Rows by instance, in two generations: what is asked for moves to the young one, and when that is full the old one goes.
#[derive(Debug)]
pub(super) struct Recent<T> {
    young: HashMap<SpiffeId, T>,
    old: HashMap<SpiffeId, T>,
    most: usize,
}

impl<T: Default> Recent<T> {
    /// Keeps at least the `most` rows asked for last, and at most twice as many.
    pub(super) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most: most.max(1) }
    }

    /// The row of the instance; an empty one where there is none.
    pub(super) fn row(&mut self, id: &SpiffeId) -> &mut T {
        if !self.young.contains_key(id) {
            let row = self.old.remove(id).unwrap_or_default();
            if self.young.len() >= self.most {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(id.clone(), row);
        }
        self.young.entry(id.clone()).or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/agent/a/{n}")).unwrap()
    }

    #[test]
    fn a_table_is_bounded_and_forgets_what_was_asked_for_longest_ago() {
        let mut table: Recent<usize> = Recent::new(100);
        for n in 0..10_000 {
            *table.row(&id(n)) = n;
            // One that is asked for all the time stays.
            *table.row(&id(0)) = 7;
            assert!(table.len() <= 200, "{}", table.len());
        }
        assert_eq!(*table.row(&id(0)), 7);
        assert_eq!(*table.row(&id(9_950)), 9_950, "one of the last hundred");
        assert_eq!(*table.row(&id(5)), 0, "one of long ago");
    }
}
