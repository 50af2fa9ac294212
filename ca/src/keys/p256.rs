//! A P-256 key in this process's memory.

use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use zeroize::Zeroizing;

use super::{KeyError, Signer};

/// A P-256 key in this process's memory.
pub(super) struct P256Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

/// Makes a key; PKCS#8 DER.
pub(super) fn generate() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        .map_err(|_| KeyError::Randomness)
}

impl P256Key {
    /// Reads PKCS#8 DER; `None` when it is no P-256 key.
    pub(super) fn parse(pkcs8: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random).ok()?;
        Some(Self { pair, random })
    }
}

impl Signer for P256Key {
    fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.pair.sign(&self.random, message).map(|s| s.as_ref().to_vec()).map_err(|_| KeyError::Sign)
    }
}

impl fmt::Debug for P256Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("P256Key")
    }
}
