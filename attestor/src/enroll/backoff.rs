use std::time::Duration;

use crate::crypto::fraction;

/// Longest first wait, and longest wait at all.
const FIRST: Duration = Duration::from_millis(500);
const LAST: Duration = Duration::from_secs(60);
/// Wait of a banned node: only an operator can help, so it asks seldom.
const BANNED: Duration = Duration::from_secs(300);

/// Waits between attempts: full jitter under a limit that doubles, so that a fleet does not return as one.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure, at most `longest`; a wait that is cut does not make the next one grow.
    pub(super) fn next(&mut self, longest: Duration) -> Duration {
        let limit = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        if limit > longest {
            return longest.mul_f64(fraction());
        }
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(fraction())
    }

    /// The wait of a banned node.
    pub(super) fn banned(&mut self) -> Duration {
        BANNED.mul_f64(0.5 + fraction() / 2.0)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(Duration::MAX)).collect();
        assert!(waits[0] <= FIRST && waits.iter().all(|w| *w <= LAST));
        assert!(waits.iter().any(|w| *w > Duration::from_secs(10)));
        assert!(waits[20..].windows(2).any(|pair| pair[0] != pair[1]));
        backoff.reset();
        assert!(backoff.next(Duration::MAX) <= FIRST);
    }

    #[test]
    fn waits_that_are_cut_do_not_grow() {
        let mut backoff = Backoff::default();
        assert!((0..40).all(|_| backoff.next(FIRST) <= FIRST));
        // The first growth is still to come.
        assert!(backoff.next(Duration::MAX) <= FIRST * 2);
    }
}
