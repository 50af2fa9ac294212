//! When to try again: at once the first time, then 1 s growing to 30 s, never in step with others.

use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

/// The first delay that is not zero.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay (conformance WE-26).
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Delays between attempts on one stream.
///
/// The first loss after good service is retried at once (WA-08), but not twice within
/// [`FIRST_DELAY`]: a server that answers and closes again and again must not be hammered.
/// A delay is shortened by up to a quarter at random.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// When the last retry without delay was granted.
    at_once: Option<Instant>,
}

impl Backoff {
    /// The delay after losing a connection or the server's `Unavailable`.
    pub(super) fn after_loss(&mut self) -> Duration {
        let now = Instant::now();
        let rested = self.at_once.is_none_or(|at| now.duration_since(at) >= FIRST_DELAY);
        if self.failures == 0 && rested {
            self.at_once = Some(now);
            self.failures = 1;
            return Duration::ZERO;
        }
        self.failures = self.failures.max(1);
        self.grown()
    }

    /// The delay after `PermissionDenied`: never zero, since nothing changes by asking at once.
    pub(super) fn after_denial(&mut self) -> Duration {
        self.failures = self.failures.max(1);
        self.grown()
    }

    /// Begins anew, after a good message.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn grown(&mut self) -> Duration {
        let delay = FIRST_DELAY.saturating_mul(1 << (self.failures - 1).min(5)).min(MAX_DELAY);
        self.failures = self.failures.saturating_add(1);
        delay - delay.mul_f64(chance() / 4.0)
    }
}

/// Evenly spread in 0..1; 0 when the system gives no randomness, which costs only the spread.
fn chance() -> f64 {
    let mut byte = [0u8];
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 256.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(delay: Duration, secs: u64) -> bool {
        delay <= Duration::from_secs(secs) && delay >= Duration::from_millis(secs * 750)
    }

    #[tokio::test(start_paused = true)]
    async fn we_26_delays_grow_from_one_second_to_thirty() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after_loss(), Duration::ZERO);
        for secs in [1, 2, 4, 8, 16, 30, 30, 30] {
            let delay = backoff.after_loss();
            assert!(near(delay, secs), "{delay:?} is not about {secs} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wa_08_the_first_retry_is_immediate_but_not_twice_in_a_second() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after_loss(), Duration::ZERO);
        backoff.succeeded();
        assert!(near(backoff.after_loss(), 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        backoff.succeeded();
        assert_eq!(backoff.after_loss(), Duration::ZERO);
    }

    #[test]
    fn we_28_a_denial_is_never_retried_at_once() {
        let mut backoff = Backoff::default();
        assert!(near(backoff.after_denial(), 1));
        assert!(near(backoff.after_denial(), 2));
    }
}
