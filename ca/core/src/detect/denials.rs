//! A burst of denials: an instance for which so much is asked in vain within a window that somebody is trying things.

use std::collections::{BTreeSet, VecDeque};

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::{Evidence, QUIET_SECS, counts, recent::Recent};

/// Most denials that a burst may be configured to have: so many times are kept for each instance.
pub const MAX_DENIALS: u32 = 100;
/// Instances told apart; twice as many rows at most, of at most 1 KiB each. A node runs 256, so it takes many nodes to push
/// others out.
const MAX_INSTANCES: usize = 4096;

/// Who was denied lately.
#[derive(Debug)]
pub struct Denials {
    rows: Recent<Row>,
    burst: usize,
    window_secs: i64,
}

#[derive(Debug, Default)]
struct Row {
    /// The newest last, at most a burst of them.
    times: VecDeque<UnixTime>,
    quiet_until: Option<UnixTime>,
}

impl Denials {
    /// Tells of `burst` denials (1 to [`MAX_DENIALS`]) within `window_secs`.
    pub fn new(burst: u32, window_secs: i64) -> Self {
        let burst = usize::try_from(burst.clamp(1, MAX_DENIALS)).unwrap_or(1);
        Self { rows: Recent::new(MAX_INSTANCES), burst, window_secs: window_secs.max(1) }
    }

    /// Something was denied to the instance's own node; what that shows, if anything.
    pub fn denied(&mut self, id: &SpiffeId, at: UnixTime) -> Option<Evidence> {
        let row = self.rows.row(id);
        if row.quiet_until.is_some_and(|until| counts(until.plus(-QUIET_SECS), at, QUIET_SECS)) {
            return None;
        }
        row.times.retain(|then| counts(*then, at, self.window_secs));
        row.times.push_back(at);
        if row.times.len() < self.burst {
            return None;
        }
        row.quiet_until = Some(at.plus(QUIET_SECS));
        let times = std::mem::take(&mut row.times);
        Some(Evidence {
            count: u64::try_from(times.len()).unwrap_or(u64::MAX),
            first: times.iter().copied().min().unwrap_or(at),
            last: at,
            places: BTreeSet::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/agent/a/{n}")).unwrap()
    }

    #[test]
    fn a_burst_is_told_once_and_slow_denials_never() {
        let mut denials = Denials::new(3, 60);
        let mut denied = |at| denials.denied(&id(1), UnixTime(at));
        assert_eq!([denied(0), denied(30), denied(60), denied(90)], [None, None, None, None]);
        let want = Evidence { count: 3, first: UnixTime(60), last: UnixTime(119), places: BTreeSet::new() };
        assert_eq!(denied(119), Some(want));
        assert!((120..419).all(|at| denied(at).is_none()), "five minutes of quiet");
        assert_eq!((denied(419), denied(420)), (None, None));
        assert!(denied(421).is_some(), "it goes on");
    }

    #[test]
    fn denials_of_others_count_for_nothing() {
        let mut denials = Denials::new(2, 60);
        assert!((0..50_000).all(|n| denials.denied(&id(n), UnixTime(0)).is_none()));
        assert!(denials.rows.len() <= 2 * MAX_INSTANCES);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_makes_a_burst_nor_silences_for_long() {
        let mut denials = Denials::new(2, 60);
        assert_eq!(denials.denied(&id(1), UnixTime(10_000)), None);
        assert_eq!(denials.denied(&id(1), UnixTime(1_000)), None, "the one from the future is forgotten");
        assert!(denials.denied(&id(1), UnixTime(1_001)).is_some());
        assert_eq!(denials.denied(&id(1), UnixTime(0)), None);
        assert!(denials.denied(&id(1), UnixTime(1)).is_some());
    }

    /// By the definition: told at the first denial that is the last of a burst within the window.
    #[test]
    fn the_first_word_comes_with_the_first_burst() {
        const RESTS: [i64; 4] = [0, 1, 29, 31];
        for (burst, pattern) in (1..=4).flat_map(|burst| (0..4_usize.pow(7)).map(move |pattern| (burst, pattern))) {
            let (mut denials, mut at, mut times) = (Denials::new(burst, 60), 0, Vec::new());
            for place in 0..7 {
                at += RESTS[pattern / 4_usize.pow(place) % 4];
                times.push(at);
                let within = times.iter().filter(|then| at - **then < 60).count();
                let evidence = denials.denied(&id(1), UnixTime(at));
                assert_eq!(evidence.is_some(), within >= burst as usize, "{burst} within {times:?}");
                if evidence.is_some() {
                    break;
                }
            }
        }
    }
}
