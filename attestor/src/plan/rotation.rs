use std::time::Duration;

use chancery_sdk::time::UnixTime;
use ring::hmac;

/// Earliest rotation, in thousandths of a life.
const EARLIEST: i64 = 400;
/// Latest rotation, in thousandths of a life.
const LATEST: i64 = 650;

/// The key that spreads rotations, chosen once for each run.
pub struct Rotation(hmac::Key);

impl Rotation {
    /// From 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The place of `leaf` (DER) among all others, 0 to 65,535.
    pub fn spread(&self, leaf: &[u8]) -> u16 {
        let tag = hmac::sign(&self.0, leaf);
        tag.as_ref().iter().take(2).fold(0, |n, b| n << 8 | u16::from(*b))
    }
}

/// Longest window in which what a tainted authority signed is replaced, seconds; 10,000 nodes ask 170 times a second.
const TAINT_WINDOW_SECS: i64 = 60;

/// When an SVID is replaced whose authority is known to be tainted `since`: within a quarter of what is left of its
/// life, by `spread`, so that a fleet does not come at once.
pub fn taint_due(since: UnixTime, expires_at: UnixTime, spread: u16) -> UnixTime {
    let window = (expires_at.since(since) / 4).clamp(0, TAINT_WINDOW_SECS);
    since.plus(window * i64::from(spread) / i64::from(u16::MAX))
}

/// Tries for a successor that still fit when one fails: an outage that is over is noticed before the SVID's end.
const TRIES_LEFT: u32 = 4;
/// Least of what [`longest_wait`] answers.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait between two tries for a successor while an SVID is held: a part of what is left of it. None is set
/// once it has ended.
pub fn longest_wait(now: UnixTime, expires_at: UnixTime) -> Duration {
    match u64::try_from(expires_at.since(now)) {
        Ok(left) if left > 0 => (Duration::from_secs(left) / TRIES_LEFT).max(LEAST_WAIT),
        Ok(_) | Err(_) => Duration::MAX,
    }
}

/// 40 to 65 % into the life, by `spread` (0 = earliest).
///
/// Source: ARCHITECTURE, Identities: rotation due once, so that a fleet issued together does not renew together.
pub fn due_at(issued_at: UnixTime, expires_at: UnixTime, spread: u16) -> UnixTime {
    let life = expires_at.since(issued_at).max(0);
    // Not rounded to a thousandth first: of an hour that is 3.6 s, and a fleet would come in steps of it.
    let most = i128::from(u16::MAX);
    let part = i128::from(EARLIEST) * most + i128::from(LATEST - EARLIEST) * i128::from(spread);
    issued_at.plus(i64::try_from(i128::from(life) * part / (1000 * most)).unwrap_or(i64::MAX))
}
