//! Latencies in an HDR histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

/// Significant digits kept: quantiles are within 0.1 % of what was recorded.
const DIGITS: u8 = 3;
/// Longest latency told apart, in nanoseconds; longer ones count as this.
const LONGEST: u64 = 3_600_000_000_000;

/// Latencies in nanoseconds, up to an hour.
///
/// Coordinated omission is not mended afterwards: whoever records an open loop counts from the moment a call was due
/// ([`crate::pace`]), so calls that a stalled server held back are in here with the time they waited.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS);
        Self { histogram: histogram.expect("bounds and digits are within what the crate takes") }
    }
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.add(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST), 1);
    }

    /// Counts what another one holds.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The quantile in microseconds; 0 when nothing was recorded.
    pub fn micros(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }

    /// What goes into a line of output, in microseconds.
    pub fn shape(&self) -> serde_json::Value {
        serde_json::json!({
            "count": self.count(),
            "mean": round(self.histogram.mean() / 1e3),
            "p50": round(self.micros(0.5)),
            "p90": round(self.micros(0.9)),
            "p99": round(self.micros(0.99)),
            "p999": round(self.micros(0.999)),
            "max": round(self.histogram.max() as f64 / 1e3),
        })
    }

    fn add(&mut self, nanos: u64, times: u64) {
        self.histogram.saturating_record_n(nanos.clamp(1, LONGEST), times);
    }
}

/// One digit after the point: a tenth of a microsecond.
fn round(micros: f64) -> f64 {
    (micros * 10.0).round() / 10.0
}

/// Another process's histogram travels as nanoseconds -> count; it loses nothing that the digits had not lost.
impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for step in self.histogram.iter_recorded() {
            map.serialize_entry(&step.value_iterated_to(), &step.count_at_value())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latency = Self::default();
        for (nanos, times) in std::collections::BTreeMap::<u64, u64>::deserialize(deserializer)? {
            latency.add(nanos, times);
        }
        Ok(latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::default();
        millis.into_iter().for_each(|ms| latency.record(Duration::from_millis(ms)));
        latency
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let latency = of(1..=1000);
        for (quantile, want) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let got = latency.micros(quantile);
            assert!((got - want).abs() / want <= 0.001, "{quantile}: {got}");
        }
    }

    #[test]
    fn a_histogram_survives_the_way_to_another_process_and_adds_up() {
        let (a, b) = (of([1, 2, 3]), of([100]));
        let sent = serde_json::to_string(&a).unwrap();
        let mut got: Latency = serde_json::from_str(&sent).unwrap();
        assert_eq!((got.count(), got.micros(0.5)), (3, a.micros(0.5)));
        got.merge(&b);
        assert_eq!(got.count(), 4);
        assert!(got.micros(1.0) >= 100_000.0);
    }

    #[test]
    fn what_is_longer_than_an_hour_counts_as_an_hour() {
        let mut latency = of([]);
        latency.record(Duration::from_secs(90_000));
        assert_eq!(latency.count(), 1);
        assert!((latency.micros(1.0) - 3.6e9).abs() / 3.6e9 <= 0.001);
    }
}
