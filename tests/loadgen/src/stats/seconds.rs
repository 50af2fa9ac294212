//! Events by the second they happened in: how even a storm was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest storm: a day. What comes later counts into the last second.
const MOST: usize = 86_400;

/// Events in one-second buckets since a common moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seconds(Vec<u64>);

/// How even events were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Most in one second.
    pub peak: u64,
    /// Mean of the seconds from the first event's to the last one's.
    pub mean: f64,
    /// How many seconds that were.
    pub seconds: usize,
}

impl Seconds {
    /// Counts one event, so long after the common moment.
    pub fn record(&mut self, after: Duration) {
        let at = usize::try_from(after.as_secs()).unwrap_or(MOST).min(MOST - 1);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] += 1;
    }

    /// Counts what another one holds; both have the same common moment.
    pub fn merge(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// Events of each second.
    pub fn all(&self) -> &[u64] {
        &self.0
    }

    /// Peak and mean; `None` where nothing happened. Seconds without an event in between count.
    pub fn spread(&self) -> Option<Spread> {
        let first = self.0.iter().position(|n| *n > 0)?;
        let last = self.0.iter().rposition(|n| *n > 0)?;
        let window = &self.0[first..=last];
        let total: u64 = window.iter().sum();
        let peak = window.iter().copied().max()?;
        Some(Spread { peak, mean: total as f64 / window.len() as f64, seconds: window.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Seconds {
        let mut seconds = Seconds::default();
        millis.iter().for_each(|ms| seconds.record(Duration::from_millis(*ms)));
        seconds
    }

    #[test]
    fn events_fall_into_the_second_they_happened_in() {
        assert_eq!(of(&[0, 999, 1000, 3500]).all(), [2, 1, 0, 1]);
    }

    #[test]
    fn mean_is_over_the_seconds_from_first_to_last_and_empty_ones_between_count() {
        let spread = of(&[5_000, 5_100, 5_200, 8_000]).spread().unwrap();
        assert_eq!(spread, Spread { peak: 3, mean: 1.0, seconds: 4 });
        assert_eq!(of(&[]).spread(), None);
    }

    #[test]
    fn an_even_storm_has_a_peak_that_is_its_mean() {
        let spread = of(&(0..6_000).collect::<Vec<_>>()).spread().unwrap();
        assert!((spread.peak as f64 / spread.mean - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn buckets_of_two_processes_add_up() {
        let mut a = of(&[0, 2_000]);
        a.merge(&of(&[0, 4_000]));
        assert_eq!(a.all(), [2, 0, 1, 0, 1]);
        let mut short = of(&[0]);
        short.merge(&of(&[]));
        assert_eq!(short.all(), [1]);
    }

    #[test]
    fn what_comes_after_a_day_counts_into_its_last_second() {
        assert_eq!(of(&[1_000_000_000_000]).all().len(), MOST);
    }
}
