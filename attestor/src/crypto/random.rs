use ring::rand::{SecureRandom, SystemRandom};

use super::SignError;

/// `N` random bytes.
///
/// # Errors
/// [`SignError`] where the system has no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], SignError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SignError("no randomness".into()))?;
    Ok(bytes)
}

/// A number in [0, 1) for jitter; 0.5 where the system has no randomness, since jitter is no secret.
pub fn fraction() -> f64 {
    let bytes = random::<4>().unwrap_or([0x80, 0, 0, 0]);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
