use zeroize::Zeroizing;

use crate::crypto::{MemoryKey, SignError, csr};

/// A workload's new key and the proof that we hold it.
pub struct FreshKey {
    /// DER PKCS#8.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// DER PKCS#10.
    pub csr: Vec<u8>,
}

/// Makes `count` P-256 keys and their CSRs, on a thread where that may take its time.
///
/// # Errors
/// [`SignError`] where the system has no randomness.
pub async fn fresh_key(count: usize) -> Result<Vec<FreshKey>, SignError> {
    let make = move || {
        let one = |_| {
            let key = MemoryKey::generate()?;
            Ok(FreshKey { csr: csr(&key)?, pkcs8: Zeroizing::new(key.pkcs8().to_vec()) })
        };
        (0..count).map(one).collect()
    };
    tokio::task::spawn_blocking(make).await.unwrap_or_else(|e| Err(SignError(e.to_string())))
}
