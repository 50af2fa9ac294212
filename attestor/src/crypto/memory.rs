use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use zeroize::Zeroizing;

use super::{NodeKey, POINT_BYTES, SignError};

/// A P-256 key in memory; for nodes that have no hardware to keep it.
pub struct MemoryKey {
    pair: EcdsaKeyPair,
    point: [u8; POINT_BYTES],
    pkcs8: Zeroizing<Vec<u8>>,
}

impl MemoryKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`SignError`] where the system has no randomness.
    pub fn generate() -> Result<Self, SignError> {
        let wrong = |_| SignError("no randomness".into());
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).map_err(wrong)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// Loads a key from DER PKCS#8.
    ///
    /// # Errors
    /// [`SignError`] where it is no P-256 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
            .map_err(|e| SignError(format!("not a P-256 key: {e}")))?;
        let point = pair.public_key().as_ref().try_into().map_err(|_| SignError("not a P-256 point".into()))?;
        Ok(Self { pair, point, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    /// DER PKCS#8, for the state file only.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

impl std::fmt::Debug for MemoryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[key in memory]")
    }
}

impl NodeKey for MemoryKey {
    fn point(&self) -> &[u8; POINT_BYTES] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| SignError("no randomness".into()))?;
        Ok(signature.as_ref().to_vec())
    }
}
