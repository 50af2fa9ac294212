//! Holds: an instance gets nothing new for a while, and peers refuse it meanwhile.
//!
//! A hold ends by itself: it is compared with the time, never taken off by a task. What a detector may do is capped here.

use chancery_sdk::time::UnixTime;
use thiserror::Error;

/// Longest hold: whoever needs more time holds again, or revokes.
pub const MAX_HOLD_SECS: i64 = 900;
/// Between two holds of detectors on one instance: one that is wrong again and again is not a ban.
pub const DETECTOR_REST_SECS: i64 = 86_400;
/// Of so many running instances of a class detectors may hold one at a time: 5 %. A class of fewer has none.
const ONE_OF: i64 = 20;

/// How long a hold lasts: 1 s to [`MAX_HOLD_SECS`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldSpan(i64);

/// A span that no hold may have.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a hold of {secs} s: it lasts 1 s to {MAX_HOLD_SECS} s; hold again to go on")]
pub struct HoldSpanError {
    /// Asked for.
    pub secs: i64,
}

impl HoldSpan {
    /// The longest there is.
    pub const LONGEST: Self = Self(MAX_HOLD_SECS);

    /// A span of `secs` seconds.
    ///
    /// # Errors
    /// [`HoldSpanError`].
    pub fn new(secs: i64) -> Result<Self, HoldSpanError> {
        if (1..=MAX_HOLD_SECS).contains(&secs) { Ok(Self(secs)) } else { Err(HoldSpanError { secs }) }
    }

    /// The end of a hold that begins at `now`; it is over at that second.
    pub fn until(self, now: UnixTime) -> UnixTime {
        now.plus(self.0)
    }
}

/// What is known where a detector wants to hold an instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct DetectorFacts {
    /// End of the instance's newest hold, whoever placed it.
    pub held_until: Option<UnixTime>,
    /// When a detector held it last.
    pub last_detected: Option<UnixTime>,
    /// Running instances of its class.
    pub running: i64,
    /// Of those, held by detectors now.
    pub held: i64,
}

/// Why a detector may not hold: its caps, whatever it has seen.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Cap {
    /// The class has as many as it may.
    #[error("detectors hold {held} of {running} running instances of the class: at most one in 20 at a time")]
    Class {
        /// Held by detectors now.
        held: i64,
        /// Running.
        running: i64,
    },
    /// It is held already; a detector neither shortens nor takes over what somebody else placed.
    #[error("the instance is held until {until} already")]
    Held {
        /// End of that hold.
        until: UnixTime,
    },
    /// A detector held it not long ago.
    #[error("a detector held the instance within the last day: again from {from} on")]
    Rest {
        /// The first second at which one may.
        from: UnixTime,
    },
}

/// Whether a detector may hold an instance at `now`.
///
/// # Errors
/// The first [`Cap`] that is reached.
pub fn may_detector_hold(facts: DetectorFacts, now: UnixTime) -> Result<(), Cap> {
    if let Some(until) = facts.held_until.filter(|until| *until > now) {
        return Err(Cap::Held { until });
    }
    let from = facts.last_detected.map(|at| at.plus(DETECTOR_REST_SECS));
    if let Some(from) = from.filter(|from| *from > now) {
        return Err(Cap::Rest { from });
    }
    match facts.held < facts.running / ONE_OF {
        true => Ok(()),
        false => Err(Cap::Class { held: facts.held, running: facts.running }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    #[test]
    fn a_hold_lasts_a_second_to_fifteen_minutes() {
        for secs in [i64::MIN, -1, 0, MAX_HOLD_SECS + 1, i64::MAX] {
            assert_eq!(HoldSpan::new(secs), Err(HoldSpanError { secs }));
        }
        assert_eq!(HoldSpan::new(1).map(|span| span.until(NOW)), Ok(NOW.plus(1)));
        assert_eq!(HoldSpan::new(MAX_HOLD_SECS), Ok(HoldSpan::LONGEST));
    }

    #[test]
    fn detectors_hold_at_most_one_in_twenty_of_a_class_and_none_of_a_small_one() {
        for running in 0..=200 {
            let may = |held| may_detector_hold(DetectorFacts { running, held, ..DetectorFacts::default() }, NOW);
            let most = (0..=running).find(|held| may(*held).is_err()).unwrap();
            assert!(most * 20 <= running && (most + 1) * 20 > running, "{most} of {running}");
            assert_eq!(may(most), Err(Cap::Class { held: most, running }));
        }
    }

    #[test]
    fn a_detector_holds_an_instance_once_a_day_and_takes_over_no_hold() {
        let free = DetectorFacts { running: 20, ..DetectorFacts::default() };
        let detected = |secs: i64| DetectorFacts { last_detected: Some(NOW.plus(-secs)), ..free };
        let held = |secs: i64| DetectorFacts { held_until: Some(NOW.plus(secs)), ..free };
        for (facts, want) in [
            (free, Ok(())),
            (detected(0), Err(Cap::Rest { from: NOW.plus(DETECTOR_REST_SECS) })),
            (detected(DETECTOR_REST_SECS - 1), Err(Cap::Rest { from: NOW.plus(1) })),
            (detected(DETECTOR_REST_SECS), Ok(())),
            (held(1), Err(Cap::Held { until: NOW.plus(1) })),
            (held(0), Ok(())),
        ] {
            assert_eq!(may_detector_hold(facts, NOW), want, "{facts:?}");
        }
    }
}
