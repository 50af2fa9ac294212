//! Events by the second they happened in: how even a storm was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest storm: a day. What comes later counts into the last second.
const MOST: usize = 86_400;

/// Events in one-second buckets since a common moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seconds {
    buckets: Vec<u64>,
    /// Microseconds from the common moment to the first event and to the last one.
    ends: Option<(u64, u64)>,
}

/// How even events were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Most in one bucket.
    pub peak: u64,
    /// Events a second from the first to the last; of all of them, where that is less than a second.
    pub mean: f64,
}

impl Seconds {
    /// Counts one event, so long after the common moment.
    pub fn record(&mut self, after: Duration) {
        let at = usize::try_from(after.as_secs()).unwrap_or(MOST).min(MOST - 1);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.widen((micros, micros));
    }

    /// Counts what another one holds; both have the same common moment.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        if let Some(ends) = other.ends {
            self.widen(ends);
        }
    }

    /// Events of each second.
    pub fn all(&self) -> &[u64] {
        &self.buckets
    }

    /// Peak and mean; `None` where nothing happened.
    ///
    /// The mean is over the time itself, not over buckets: the last of those is seldom a whole second, and would make
    /// an even storm look uneven.
    pub fn spread(&self) -> Option<Spread> {
        let (first, last) = self.ends?;
        let total: u64 = self.buckets.iter().sum();
        let peak = self.buckets.iter().copied().max()?;
        let secs = Duration::from_micros(last - first).as_secs_f64().max(1.0);
        // A storm of about a second that two buckets share has no whole second to be compared with.
        Some(Spread { peak, mean: (total as f64 / secs).min(peak as f64) })
    }

    fn widen(&mut self, (first, last): (u64, u64)) {
        self.ends = Some(self.ends.map_or((first, last), |(begin, end)| (begin.min(first), end.max(last))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Seconds {
        let mut seconds = Seconds::default();
        millis.into_iter().for_each(|ms| seconds.record(Duration::from_millis(ms)));
        seconds
    }

    #[test]
    fn events_fall_into_the_second_they_happened_in() {
        assert_eq!(of([0, 999, 1000, 3500]).all(), [2, 1, 0, 1]);
    }

    #[test]
    fn mean_is_over_the_time_from_first_to_last() {
        assert_eq!(of([5_000, 5_100, 5_200, 7_000]).spread(), Some(Spread { peak: 3, mean: 2.0 }));
        assert_eq!(of([100, 200, 300]).spread(), Some(Spread { peak: 3, mean: 3.0 }), "less than a second");
        assert_eq!(of([]).spread(), None);
    }

    #[test]
    fn a_mean_is_never_above_the_peak() {
        let spread = of((800..1_200).step_by(2)).spread().unwrap();
        assert_eq!(spread, Spread { peak: 100, mean: 100.0 });
    }

    /// It once was over buckets: a thousand even events and one late by a millisecond had a ratio of 1.26.
    #[test]
    fn an_even_storm_has_a_peak_that_is_its_mean_wherever_it_ends() {
        for end in [4_000, 4_001, 4_500] {
            let spread = of((0..=end).step_by(4)).spread().unwrap();
            assert!((spread.peak as f64 / spread.mean - 1.0).abs() < 0.01, "{end}: {spread:?}");
        }
    }

    #[test]
    fn buckets_of_two_processes_add_up() {
        let mut a = of([0, 2_000]);
        a.merge(&of([0, 4_000]));
        assert_eq!(a.all(), [2, 0, 1, 0, 1]);
        assert_eq!(a.spread(), Some(Spread { peak: 2, mean: 1.0 }));
        let mut short = of([0]);
        short.merge(&of([]));
        assert_eq!(short, of([0]));
    }

    #[test]
    fn what_comes_after_a_day_counts_into_its_last_second() {
        assert_eq!(of([1_000_000_000_000]).all().len(), MOST);
    }
}
