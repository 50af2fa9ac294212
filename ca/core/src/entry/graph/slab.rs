//! Values under small numbers, each found by its key too; what the numbers cost is why a million entries fit.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// The number of no value.
pub(super) const NONE: u32 = u32::MAX;

/// What is found by a part of itself.
pub(super) trait Keyed {
    type Key: Eq + Hash + ?Sized;

    fn key(&self) -> &Self::Key;
}

/// Values by number; a number is given again once its value is gone.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: RandomState,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new(), index: HashTable::new(), hasher: RandomState::new() }
    }
}

impl<T: Keyed> Slab<T> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The number of the value with this key.
    pub(super) fn find(&self, key: &T::Key) -> Option<u32> {
        let is_it = |at: &u32| self.value(*at).is_some_and(|value| value.key() == key);
        self.index.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// The value of this number.
    pub(super) fn value(&self, at: u32) -> Option<&T> {
        self.values.get(at as usize)?.as_ref()
    }

    /// The value of this number, to be changed; its key stays.
    pub(super) fn value_mut(&mut self, at: u32) -> Option<&mut T> {
        self.values.get_mut(at as usize)?.as_mut()
    }

    /// Adds a value whose key is not there; its number, [`NONE`] where no number is left.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let hash = self.hasher.hash_one(value.key());
        let at = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            u32::try_from(self.values.len() - 1).unwrap_or(NONE)
        });
        let Self { values, index, hasher, .. } = self;
        let Some(slot) = values.get_mut(at as usize).filter(|_| at != NONE) else { return NONE };
        *slot = Some(value);
        let hash_of =
            |at: &u32| values.get(*at as usize).and_then(Option::as_ref).map_or(0, |v| hasher.hash_one(v.key()));
        index.insert_unique(hash, at, hash_of);
        at
    }

    /// Takes the value of this number out.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let value = self.values.get_mut(at as usize)?.take()?;
        if let Ok(found) = self.index.find_entry(self.hasher.hash_one(value.key()), |other| *other == at) {
            found.remove();
        }
        self.free.push(at);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for String {
        type Key = str;

        fn key(&self) -> &str {
            self
        }
    }

    #[test]
    fn values_are_found_by_key_and_number_until_they_are_taken_out() {
        let mut slab = Slab::default();
        let numbers: Vec<u32> = (0..1000).map(|n| slab.insert(format!("v{n}"))).collect();
        for at in numbers.iter().skip(1).step_by(2) {
            slab.remove(*at);
        }
        for (n, at) in numbers.iter().enumerate() {
            let there = n % 2 == 0;
            assert_eq!(slab.find(&format!("v{n}")), there.then_some(*at));
            assert_eq!(slab.value(*at).is_some(), there);
        }
        assert_eq!(slab.len(), 500);
        let again = slab.insert("again".into());
        assert!(numbers.contains(&again), "a number is given again");
        assert_eq!(slab.find("again"), Some(again));
    }

    #[test]
    fn a_number_without_a_value_is_no_fault() {
        let mut slab: Slab<String> = Slab::default();
        assert_eq!(slab.value_mut(NONE), None);
        assert_eq!(slab.remove(0), None);
        assert_eq!((slab.value(7), slab.find("x")), (None, None));
    }
}
