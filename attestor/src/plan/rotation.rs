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

    /// When the successor of `leaf` (DER), issued at `issued_at`, is due.
    pub fn due(&self, leaf: &[u8], issued_at: UnixTime, expires_at: UnixTime) -> UnixTime {
        let tag = hmac::sign(&self.0, leaf);
        let spread = tag.as_ref().iter().take(2).fold(0, |n, b| n << 8 | u16::from(*b));
        due_at(issued_at, expires_at, spread)
    }
}

/// 40 to 65 % into the life, by `spread` (0 = earliest).
///
/// Source: ARCHITECTURE, Identities: rotation due once, so that a fleet issued together does not renew together.
pub fn due_at(issued_at: UnixTime, expires_at: UnixTime, spread: u16) -> UnixTime {
    let life = expires_at.since(issued_at).max(0);
    let thousandths = EARLIEST + (LATEST - EARLIEST) * i64::from(spread) / i64::from(u16::MAX);
    issued_at.plus(life.saturating_mul(thousandths) / 1000)
}
