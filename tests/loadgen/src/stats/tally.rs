//! What a phase counted.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Latency, Seconds};

/// What one call came to: how many things it brought (SVIDs, entries), or a word for its failure.
pub type Outcome = Result<u64, String>;

/// Counts of one task, one process or a whole phase; they add up.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Tally {
    /// Calls that succeeded.
    pub calls: u64,
    /// Things they brought.
    pub items: u64,
    /// Latencies by what was timed.
    pub latencies: BTreeMap<String, Latency>,
    /// Failures by word; each is one call.
    pub errors: BTreeMap<String, u64>,
    /// Other counts.
    pub counts: BTreeMap<String, u64>,
    /// Events by second, where a phase looks at them.
    pub seconds: Seconds,
}

impl Tally {
    /// Counts a call: its latency where it succeeded, its word where it failed.
    pub fn call(&mut self, name: &str, latency: Duration, outcome: Outcome) {
        match outcome {
            Ok(items) => {
                self.calls += 1;
                self.items += items;
                self.time(name, latency);
            }
            Err(word) => *self.errors.entry(word).or_default() += 1,
        }
    }

    /// Records a latency.
    pub fn time(&mut self, name: &str, latency: Duration) {
        match self.latencies.get_mut(name) {
            Some(known) => known.record(latency),
            None => self.latencies.entry(name.to_owned()).or_default().record(latency),
        }
    }

    /// Adds to a count.
    pub fn count(&mut self, name: &str, more: u64) {
        *self.counts.entry(name.to_owned()).or_default() += more;
    }

    /// How often `name` was timed.
    pub fn times(&self, name: &str) -> u64 {
        self.latencies.get(name).map_or(0, Latency::count)
    }

    /// How many calls failed.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.items += other.items;
        for (name, latency) in &other.latencies {
            self.latencies.entry(name.clone()).or_default().merge(latency);
        }
        for (theirs, mine) in [(&other.errors, &mut self.errors), (&other.counts, &mut self.counts)] {
            for (name, count) in theirs {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
        self.seconds.merge(&other.seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_has_no_latency_and_brings_nothing() {
        let mut tally = Tally::default();
        tally.call("issue", Duration::from_millis(1), Ok(32));
        tally.call("issue", Duration::from_millis(9), Err("Unavailable".into()));
        assert_eq!((tally.items, tally.calls, tally.times("issue"), tally.failures()), (32, 1, 1, 1));
    }

    #[test]
    fn tallies_add_up() {
        let mut a = Tally::default();
        a.call("sync", Duration::from_millis(1), Ok(1));
        a.count("dials", 2);
        a.seconds.record(Duration::ZERO);
        let mut b = a.clone();
        b.call("sync", Duration::from_millis(1), Err("Lost".into()));
        b.merge(&a);
        assert_eq!((b.items, b.calls, b.times("sync"), b.counts["dials"], b.failures()), (2, 2, 2, 4, 1));
        assert_eq!(b.seconds.all(), [2]);
    }
}
