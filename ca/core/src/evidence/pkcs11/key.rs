//! Attestation keys: P-256, P-384, or RSA of 2048 to 4096 bits with exponent 65537.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_parser::{prelude::FromDer, public_key::RSAPublicKey, x509::SubjectPublicKeyInfo};

use crate::{
    crypto::{curve, sha256, weak},
    csr::{self, KeyKind},
    evidence::{Refused, refuse},
    reason::Reason,
};

/// Largest SubjectPublicKeyInfo in bytes; RSA-4096 has 550.
pub const MAX_SPKI_BYTES: usize = 600;
/// Largest signature in bytes: RSA-4096.
pub const MAX_SIGNATURE_BYTES: usize = 512;
/// Sizes of RSA moduli, bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key that may attest: of an allowed kind, on its curve, in its one encoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestationKey {
    spki: Vec<u8>,
    hash: [u8; 32],
    kind: KeyKind,
    /// An uncompressed point, or DER RSAPublicKey.
    raw: Vec<u8>,
}

impl AttestationKey {
    /// Reads a DER SubjectPublicKeyInfo, nothing after it.
    ///
    /// # Errors
    /// [`Refused`] with EVIDENCE_TOO_LARGE, EVIDENCE_MALFORMED or KEY_WEAK.
    pub fn parse(spki: &[u8]) -> Result<Self, Refused> {
        if spki.len() > MAX_SPKI_BYTES {
            return refuse(
                Reason::EvidenceTooLarge,
                format!("key of {} bytes exceeds {MAX_SPKI_BYTES} bytes", spki.len()),
            );
        }
        let Ok(([], parsed)) = SubjectPublicKeyInfo::from_der(spki) else {
            return refuse(Reason::EvidenceMalformed, "the key is not one DER SubjectPublicKeyInfo");
        };
        let Ok((kind, raw)) = csr::key_of(&parsed) else {
            return refuse(
                Reason::KeyWeak,
                "the key must be P-256, P-384 or RSA, canonically encoded with an uncompressed point",
            );
        };
        sound(kind, raw).or_else(|detail| refuse(Reason::KeyWeak, detail))?;
        Ok(Self { spki: spki.to_vec(), hash: sha256(&[spki]), kind, raw: raw.to_vec() })
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki`]: what is enrolled, and the node's ID.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Whether `signature` over `message` is this key's, by the one algorithm that the key has.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::P384 => &ECDSA_P384_SHA384_ASN1,
            KeyKind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.raw).verify(message, signature).is_ok()
    }
}

fn sound(kind: KeyKind, raw: &[u8]) -> Result<(), String> {
    let on_curve = match kind {
        KeyKind::P256 => point(raw).is_some_and(|(x, y)| curve::on_p256(&x, &y)),
        KeyKind::P384 => point(raw).is_some_and(|(x, y)| curve::on_p384(&x, &y)),
        KeyKind::Rsa => return rsa(raw),
    };
    if on_curve { Ok(()) } else { Err("the point is not on its curve".into()) }
}

fn point<const N: usize>(raw: &[u8]) -> Option<([u8; N], [u8; N])> {
    let (4, coordinates) = raw.split_first().map(|(form, rest)| (*form, rest))? else { return None };
    let (x, y) = coordinates.split_at_checked(N)?;
    Some((x.try_into().ok()?, y.try_into().ok()?))
}

fn rsa(raw: &[u8]) -> Result<(), String> {
    let Ok(([], key)) = RSAPublicKey::from_der(raw) else { return Err("the RSA key does not parse".into()) };
    let (modulus, negative) = match key.modulus {
        [0, rest @ ..] => (rest, false),
        all => (all, all.first().is_some_and(|top| top & 0x80 != 0)),
    };
    let bits = modulus.first().map_or(0, |top| modulus.len() * 8 - top.leading_zeros() as usize);
    if negative || !RSA_BITS.contains(&bits) {
        return Err(format!("an RSA modulus of {bits} bits; 2048 to 4096 are allowed"));
    }
    if key.exponent != [1, 0, 1] {
        return Err("the RSA exponent is not 65537".into());
    }
    if modulus.last().is_none_or(|low| low & 1 == 0) || weak::is_roca(modulus) {
        return Err("the RSA modulus is of a flawed generator (CVE-2017-15361)".into());
    }
    Ok(())
}
