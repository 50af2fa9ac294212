//! The key templates that are admitted, as TPMT_PUBLIC wire bytes.
//!
//! The attestor makes its keys from them; the verifier rebuilds an EK from them and compares AK and node
//! key with them for equality. Source: TCG EK Credential Profile 2.5, annex B; TCG TPM 2.0 Provisioning
//! Guidance, 7.5.1 (storage root key).

use super::constants::{
    ALG_AES, ALG_CFB, ALG_ECC, ALG_ECDSA, ALG_NULL, ALG_RSA, ALG_SHA256, ALG_SHA384, CURVE_P256, CURVE_P384,
};
use crate::crypto::sha256;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign; nothing else.
pub const AK_ATTRIBUTES: u32 = 0x0005_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign; nothing else.
pub const NODE_KEY_ATTRIBUTES: u32 = 0x0004_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt.
pub const STORAGE_ATTRIBUTES: u32 = 0x0003_0472;
/// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
pub const EK_LOW_ATTRIBUTES: u32 = 0x0003_00b2;
/// As [`EK_LOW_ATTRIBUTES`], and userWithAuth.
pub const EK_HIGH_ATTRIBUTES: u32 = 0x0003_00f2;

/// PolicySecret(endorsement) under SHA-256: the policy of low-range EKs.
pub const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7,
    0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];
/// PolicyOR of PolicySecret(endorsement) and PolicyAuthorizeNV under SHA-384: the policy of the P-384 EK.
pub const POLICY_B_SHA384: [u8; 48] = [
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48,
    0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09, 0x69, 0x96,
    0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
];

/// EK algorithms we accept; a node has one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum EkKind {
    /// NIST P-256, low range (template L-2, certificate at NV 0x01c0000a).
    P256,
    /// NIST P-384, high range (template H-3, certificate at NV 0x01c00016).
    P384,
    /// RSA of 2048 bits, low range (template L-1, certificate at NV 0x01c00002).
    Rsa2048,
}

impl EkKind {
    /// The word in the record and on the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Rsa2048 => "rsa2048",
        }
    }
}

/// The public key inside an EK; coordinates and modulus big-endian at full length.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EkKey {
    /// A point on P-256.
    P256 {
        /// Coordinate.
        x: [u8; 32],
        /// Coordinate.
        y: [u8; 32],
    },
    /// A point on P-384.
    P384 {
        /// Coordinate.
        x: [u8; 48],
        /// Coordinate.
        y: [u8; 48],
    },
    /// RSA with exponent 65537.
    Rsa2048 {
        /// Modulus, highest bit set.
        modulus: [u8; 256],
    },
}

impl EkKey {
    /// Its algorithm.
    pub fn kind(&self) -> EkKind {
        match self {
            Self::P256 { .. } => EkKind::P256,
            Self::P384 { .. } => EkKind::P384,
            Self::Rsa2048 { .. } => EkKind::Rsa2048,
        }
    }
}

/// The template to create the EK of a TPM with: `unique` as TCG's default says.
#[must_use]
pub fn ek_template(kind: EkKind) -> Vec<u8> {
    match kind {
        EkKind::P256 => ek_p256(&[0; 32], &[0; 32]),
        EkKind::P384 => ek_p384(&[], &[]),
        EkKind::Rsa2048 => ek_rsa2048(&[0; 256]),
    }
}

/// The public area the TPM must hold for this EK: only `unique` differs from the template, so a key from
/// a certificate gives the whole EK, and no EK area from the client is ever used.
#[must_use]
pub fn ek_public(key: &EkKey) -> Vec<u8> {
    match key {
        EkKey::P256 { x, y } => ek_p256(x, y),
        EkKey::P384 { x, y } => ek_p384(x, y),
        EkKey::Rsa2048 { modulus } => ek_rsa2048(modulus),
    }
}

/// The attestation key's template: a P-256 primary of the endorsement hierarchy.
///
/// `unique_x` only separates keys of one TPM, see [`attestation_key_unique`].
#[must_use]
pub fn attestation_key_template(unique_x: &[u8; 32]) -> Vec<u8> {
    signing_p256(AK_ATTRIBUTES, unique_x, &[])
}

/// The `unique.x` of the attestation key for one trust domain: H(len‖"chancery-node-ak" ‖ len‖domain ‖ epoch).
///
/// Another `epoch` gives the same TPM another key.
#[must_use]
pub fn attestation_key_unique(trust_domain: &str, epoch: u32) -> [u8; 32] {
    const LABEL: &[u8] = b"chancery-node-ak";
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let domain = trust_domain.as_bytes();
    sha256(&[len(LABEL).as_slice(), LABEL, &len(domain), domain, &epoch.to_be_bytes()])
}

/// The node key's template: a P-256 signing key, child of [`storage_parent_template`].
#[must_use]
pub fn node_key_template() -> Vec<u8> {
    signing_p256(NODE_KEY_ATTRIBUTES, &[], &[])
}

/// The storage root key's template: a P-256 primary of the owner hierarchy.
#[must_use]
pub fn storage_parent_template() -> Vec<u8> {
    let mut out = head(ALG_ECC, ALG_SHA256, STORAGE_ATTRIBUTES, &[]);
    words(&mut out, &[ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL]);
    sized(&mut out, &[0; 32]);
    sized(&mut out, &[0; 32]);
    out
}

/// The admitted attestation key with this point.
pub(crate) fn attestation_key_public(x: &[u8], y: &[u8]) -> Vec<u8> {
    signing_p256(AK_ATTRIBUTES, x, y)
}

/// The admitted node key with this point.
pub(crate) fn node_key_public(x: &[u8], y: &[u8]) -> Vec<u8> {
    signing_p256(NODE_KEY_ATTRIBUTES, x, y)
}

/// Symmetric none, scheme ECDSA with SHA-256 (TLS 1.3 wants no other from P-256), no KDF, no policy.
fn signing_p256(attributes: u32, x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = head(ALG_ECC, ALG_SHA256, attributes, &[]);
    words(&mut out, &[ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL]);
    sized(&mut out, x);
    sized(&mut out, y);
    out
}

fn ek_rsa2048(modulus: &[u8; 256]) -> Vec<u8> {
    let mut out = head(ALG_RSA, ALG_SHA256, EK_LOW_ATTRIBUTES, &POLICY_A);
    words(&mut out, &[ALG_AES, 128, ALG_CFB, ALG_NULL, 2048, 0, 0]); // exponent 0 stands for 65537
    sized(&mut out, modulus);
    out
}

fn ek_p256(x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = head(ALG_ECC, ALG_SHA256, EK_LOW_ATTRIBUTES, &POLICY_A);
    words(&mut out, &[ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL]);
    sized(&mut out, x);
    sized(&mut out, y);
    out
}

fn ek_p384(x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = head(ALG_ECC, ALG_SHA384, EK_HIGH_ATTRIBUTES, &POLICY_B_SHA384);
    words(&mut out, &[ALG_AES, 256, ALG_CFB, ALG_NULL, CURVE_P384, ALG_NULL]);
    sized(&mut out, x);
    sized(&mut out, y);
    out
}

fn head(kind: u16, name_alg: u16, attributes: u32, policy: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    words(&mut out, &[kind, name_alg]);
    out.extend_from_slice(&attributes.to_be_bytes());
    sized(&mut out, policy);
    out
}

fn words(out: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// A TPM2B; everything written here is at most 256 bytes long.
fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}
