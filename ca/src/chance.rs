//! Chance, drawn in the shell and handed to decisions as arguments.

use chancery_daemon::clock;
use uuid::{Builder, Uuid};

use crate::{crypto, problem::Problem};

/// `N` random bytes.
///
/// # Errors
/// [`Problem::Internal`] where the system yields none.
pub fn bytes<const N: usize>() -> Result<[u8; N], Problem> {
    crypto::random().ok_or_else(no_randomness)
}

/// A certificate's serial number.
///
/// # Errors
/// As [`bytes`].
pub fn serial() -> Result<[u8; 16], Problem> {
    crypto::serial().ok_or_else(no_randomness)
}

fn no_randomness() -> Problem {
    Problem::Internal("the system yields no randomness".into())
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
