//! Public areas of the keys a node sends: elliptic-curve TPMT_PUBLIC.

use super::{
    constants::{ALG_ECC, ALG_NULL},
    templates,
    wire::{Reader, WireError, padded},
};
use crate::crypto::curve::on_p256;

/// Largest public area in bytes.
pub const MAX_PUBLIC_BYTES: usize = 1024;
/// Longest coordinate: P-521.
const MAX_COORDINATE: usize = 66;
/// Longest policy digest: SHA-512.
const MAX_POLICY: usize = 64;
/// TPMA_OBJECT bits that are reserved. Source: TPM 2.0 Library, part 2, 8.3.
const RESERVED_ATTRIBUTES: u32 = 0xfff0_f309;
/// DER SubjectPublicKeyInfo of P-256 up to the coordinates.
const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// An elliptic-curve TPMT_PUBLIC, borrowed from its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EccPublic<'a> {
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// TPM_ECC_CURVE.
    pub curve: u16,
    /// Coordinate; leading zeros may be missing.
    pub x: &'a [u8],
    /// Coordinate; leading zeros may be missing.
    pub y: &'a [u8],
}

/// A P-256 key of exactly one of our templates, its point on the curve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct P256Key {
    /// Coordinate.
    pub x: [u8; 32],
    /// Coordinate.
    pub y: [u8; 32],
}

impl P256Key {
    /// DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        [SPKI_P256, &self.x, &self.y].concat()
    }
}

/// Parses an elliptic-curve TPMT_PUBLIC to its last byte; other key types are refused as a field.
///
/// # Errors
/// [`WireError`]. Source: TPM 2.0 Library, part 2, 12.2.4.
pub fn parse(bytes: &[u8]) -> Result<EccPublic<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    if reader.u16()? != ALG_ECC {
        return Err(WireError::Field("type"));
    }
    reader.u16()?; // nameAlg
    let attributes = reader.u32()?;
    if attributes & RESERVED_ATTRIBUTES != 0 {
        return Err(WireError::Field("objectAttributes"));
    }
    reader.sized("authPolicy", MAX_POLICY)?;
    if reader.u16()? != ALG_NULL {
        reader.bytes(4)?; // symmetric: keyBits, mode
    }
    if reader.u16()? != ALG_NULL {
        reader.u16()?; // scheme: hashAlg
    }
    let curve = reader.u16()?;
    if reader.u16()? != ALG_NULL {
        reader.u16()?; // kdf: hashAlg
    }
    let x = reader.sized("unique.x", MAX_COORDINATE)?;
    let y = reader.sized("unique.y", MAX_COORDINATE)?;
    reader.end()?;
    Ok(EccPublic { attributes, curve, x, y })
}

/// The point, where `bytes` are exactly the attestation key's template with a point of P-256.
#[must_use]
pub fn attestation_key(bytes: &[u8]) -> Option<P256Key> {
    exactly(bytes, templates::attestation_key_public)
}

/// The point, where `bytes` are exactly the node key's template with a point of P-256.
#[must_use]
pub fn node_key(bytes: &[u8]) -> Option<P256Key> {
    exactly(bytes, templates::node_key_public)
}

/// Compares whole areas, so no field is forgotten: equality with the template, never "contains".
fn exactly(bytes: &[u8], template: fn(&[u8], &[u8]) -> Vec<u8>) -> Option<P256Key> {
    let public = parse(bytes).ok()?;
    let key = P256Key { x: padded(public.x)?, y: padded(public.y)? };
    (template(public.x, public.y) == bytes && on_p256(&key.x, &key.y)).then_some(key)
}
