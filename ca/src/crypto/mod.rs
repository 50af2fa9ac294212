//! The CA's primitives beyond signing with authorities: fresh keys, fresh numbers, TPM credentials.

pub mod make_credential;

use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

/// What stands before the 65 bytes of a P-256 point in a SubjectPublicKeyInfo.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A fresh P-256 key of this process.
pub struct KeyPair {
    /// PKCS#8, DER.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
}

impl KeyPair {
    /// Makes a key; `None` without randomness.
    pub fn generate() -> Option<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).ok()?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).ok()?;
        let spki = P256_SPKI_PREFIX.iter().chain(pair.public_key().as_ref()).copied().collect();
        Some(Self { pkcs8: Zeroizing::new(document.as_ref().to_vec()), spki })
    }
}

/// Fresh random bytes; `None` without randomness.
pub fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// A fresh positive serial number of at most 16 octets.
pub fn serial() -> Option<[u8; 16]> {
    let mut serial = [0; 16];
    while serial == [0; 16] {
        serial = random()?;
    }
    Some(serial)
}
