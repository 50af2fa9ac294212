//! How fast the instances of a class may begin: a runaway parent cannot fill the record.
//!
//! The key is the class a proven node asked for, never a claim of a stranger. Bursts are one second's worth.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chancery_core::class::ClassName;

/// One token, in thousandths: the bucket fills once a millisecond.
const TOKEN: u64 = 1000;

/// Token buckets by class.
#[derive(Debug)]
pub struct Rates {
    per_second: u64,
    // Guards the buckets; held for one look-up, never over an await. As many as there are classes.
    buckets: Mutex<HashMap<ClassName, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    filled: u64,
    at_millis: u64,
}

impl Rates {
    /// `per_second` begins of each class; the first second's worth may come at once.
    pub fn new(per_second: usize) -> Self {
        Self { per_second: u64::try_from(per_second).unwrap_or(u64::MAX), buckets: Mutex::default() }
    }

    /// Takes one begin of `class`; `false` when this second's are taken.
    pub fn take(&self, class: &ClassName, now_millis: u64) -> bool {
        let full = self.per_second.saturating_mul(TOKEN);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(class.clone()).or_insert(Bucket { filled: full, at_millis: now_millis });
        let passed = now_millis.saturating_sub(bucket.at_millis);
        bucket.filled = bucket.filled.saturating_add(passed.saturating_mul(self.per_second)).min(full);
        bucket.at_millis = now_millis;
        let enough = bucket.filled >= TOKEN;
        if enough {
            bucket.filled -= TOKEN;
        }
        enough
    }

    /// A begin that was taken did not come about.
    pub fn give_back(&self, class: &ClassName) {
        let full = self.per_second.saturating_mul(TOKEN);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(class) {
            bucket.filled = bucket.filled.saturating_add(TOKEN).min(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_begins_at_its_rate_and_does_not_slow_another() {
        let (rates, a, b) = (Rates::new(2), ClassName::new("a").unwrap(), ClassName::new("b").unwrap());
        assert!(rates.take(&a, 0) && rates.take(&a, 0) && !rates.take(&a, 0));
        assert!(rates.take(&b, 0));
        assert!(!rates.take(&a, 499));
        rates.give_back(&b);
        assert!(rates.take(&b, 0) && rates.take(&b, 0) && !rates.take(&b, 0), "what came to nothing was not taken");
        assert!(rates.take(&a, 500) && !rates.take(&a, 500));
        assert!(
            rates.take(&a, 60_000) && rates.take(&a, 60_000) && !rates.take(&a, 60_000),
            "no more than a second's worth"
        );
    }
}
