//! Chance, drawn in the shell and handed to decisions as arguments.

use chancery_daemon::clock;
use ring::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use crate::problem::Problem;

/// `N` random bytes.
///
/// # Errors
/// [`Problem::Internal`] where the system yields none.
pub fn bytes<const N: usize>() -> Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Problem::Internal("the system yields no randomness".into()))?;
    Ok(bytes)
}

/// A certificate's serial number.
///
/// # Errors
/// As [`bytes`].
pub fn serial() -> Result<[u8; 16], Problem> {
    bytes()
}

/// A version 4 UUID, for entry IDs and token IDs.
///
/// # Errors
/// As [`bytes`].
pub fn uuid_v4() -> Result<Uuid, Problem> {
    Ok(Builder::from_random_bytes(bytes()?).into_uuid())
}

/// A version 7 UUID, for instances: sorted by the time they began.
///
/// # Errors
/// As [`bytes`].
pub fn uuid_v7() -> Result<Uuid, Problem> {
    Ok(Builder::from_unix_timestamp_millis(clock::now_millis(), &bytes()?).into_uuid())
}
