//! Waits that differ, so that many who began together do not come back in one moment.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Between three quarters of `rest` and the whole.
pub fn jittered(rest: Duration) -> Duration {
    let part = u32::try_from(RandomState::new().hash_one(0_u8) % 256).unwrap_or(0);
    rest * 3 / 4 + rest / 1024 * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_within_their_bounds_and_differ() {
        let rest = Duration::from_secs(1024);
        let waits: Vec<_> = (0..64).map(|_| jittered(rest)).collect();
        assert!(waits.iter().all(|wait| (rest * 3 / 4..=rest).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
