use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RsaKeyPair,
    },
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

/// A private key, DER PKCS#8; the bytes are wiped on drop and never printed.
#[derive(Clone)]
pub(super) struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    pub(super) fn new(pkcs8: &[u8]) -> Self {
        Self(Zeroizing::new(pkcs8.to_vec()))
    }

    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn der(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::Pkcs8(self.0.as_slice().into())
    }

    /// Computes the content of the subjectPublicKey BIT STRING that belongs to this key.
    ///
    /// `None` for bytes that are no PKCS#8 key of a kind that workloads use.
    pub(super) fn public_key_bits(&self) -> Option<Vec<u8>> {
        let pkcs8 = self.pkcs8();
        for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
            if let Ok(key) = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()) {
                return Some(key.public_key().as_ref().to_vec());
            }
        }
        if let Ok(key) = RsaKeyPair::from_pkcs8(pkcs8) {
            return Some(key.public_key().as_ref().to_vec());
        }
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        Some(key.public_key().as_ref().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private key]")
    }
}
