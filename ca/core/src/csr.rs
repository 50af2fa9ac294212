//! Certificate signing requests: the public key and the proof that its holder asked, nothing else.
//!
//! Names and extensions asked for are ignored, never refused; the one decision that reads them
//! (minting for a local operator) takes [`Asked`]. Every byte is hostile: bounded before parsing.

use chancery_sdk::id::{IdError, SpiffeId};
use ring::{
    digest::{SHA256, digest},
    signature::{self, UnparsedPublicKey, VerificationAlgorithm},
};
use thiserror::Error;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};

/// Largest request in bytes; one with an 8192-bit RSA key and a dozen names has about 3 KiB.
pub const MAX_CSR_BYTES: usize = 16 * 1024;
/// Most names of one kind read from a request.
pub const MAX_NAMES: usize = 64;

const OID_EC: &str = "1.2.840.10045.2.1";
const OID_RSA: &str = "1.2.840.113549.1.1.1";

// AlgorithmIdentifiers as DER; a key is taken only when its SubjectPublicKeyInfo is byte for byte what
// these make, so that one key has one hash.
const ALG_P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
const ALG_P384: &[u8] =
    &[0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ALG_RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// A public key whose private half signed the request it came in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Csr {
    spki: Vec<u8>,
    spki_sha256: [u8; 32],
    kind: KeyKind,
}

/// Families of keys that leaves may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// RSA, 2048 to 8192 bits.
    Rsa,
}

/// Names a request asks for; only minting reads them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// URI names in order; usually one.
    pub uris: Vec<String>,
    /// DNS names in order.
    pub dns_names: Vec<String>,
    /// Subject attributes in order: dotted OID and text.
    pub subject: Vec<(String, String)>,
}

/// Why a request is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CsrError {
    /// Not one PKCS#10 structure.
    #[error("the CSR is not one DER-encoded PKCS#10 request")]
    Malformed,
    /// A name that is neither text nor parsable.
    #[error("the CSR asks for a name that is not readable")]
    Name,
    /// The self-signature does not fit the key and the exact bytes.
    #[error("the CSR's self-signature is wrong, or its key is weak (RSA below 2048 or above 8192 bits)")]
    Signature,
    /// Above [`MAX_CSR_BYTES`].
    #[error("the CSR of {len} bytes exceeds {MAX_CSR_BYTES} bytes")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// More names of one kind than [`MAX_NAMES`].
    #[error("the CSR asks for more than {MAX_NAMES} names of one kind")]
    TooManyNames,
    /// Another algorithm or curve, or an encoding of a key that is not the canonical one.
    #[error("the CSR's key must be P-256, P-384 or RSA of at least 2048 bits, canonically encoded")]
    UnsupportedKey,
    /// A signature algorithm that does not belong to the key.
    #[error("the CSR is signed with {0}, allowed are ECDSA and RSA PKCS#1 with SHA-256, SHA-384 or SHA-512")]
    UnsupportedSignature(String),
}

impl Csr {
    /// Parses a request and checks its self-signature over the exact CertificationRequestInfo bytes.
    ///
    /// # Errors
    /// [`CsrError`] naming what is wrong.
    ///
    /// Source: RFC 2986; conformance XS-50; ARCHITECTURE, "no path without proof of possession".
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        let request = parse(der)?;
        let info = &request.certification_request_info;
        let (kind, key) = key_of(&info.subject_pki)?;
        if request.signature_value.unused_bits != 0 {
            return Err(CsrError::Malformed);
        }
        let algorithm = algorithm_of(kind, &request.signature_algorithm.algorithm.to_id_string())?;
        UnparsedPublicKey::new(algorithm, key)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| CsrError::Signature)?;
        Ok(Self { spki: info.subject_pki.raw.to_vec(), spki_sha256: sha256(info.subject_pki.raw), kind })
    }

    /// The key: DER SubjectPublicKeyInfo, canonical.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`Self::spki_der`].
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }

    /// The key's family.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
}

impl Asked {
    /// Reads the names asked for in a request; says nothing about the signature.
    ///
    /// # Errors
    /// [`CsrError`] where a name is unreadable or there are too many.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        let request = parse(der)?;
        let mut asked = Self::default();
        for attribute in request.certification_request_info.subject.iter_attributes() {
            let text = attribute.as_str().map_err(|_| CsrError::Name)?;
            asked.subject.push((attribute.attr_type().to_id_string(), text.to_owned()));
        }
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(dns) => asked.dns_names.push((*dns).to_owned()),
                    GeneralName::URI(uri) => asked.uris.push((*uri).to_owned()),
                    _ => {} // other kinds are never issued
                }
            }
        }
        if asked.uris.len().max(asked.dns_names.len()).max(asked.subject.len()) > MAX_NAMES {
            return Err(CsrError::TooManyNames);
        }
        Ok(asked)
    }

    /// The one SPIFFE ID asked for.
    ///
    /// # Errors
    /// `None` inside `Err` where there is not exactly one URI name, else why it is no SPIFFE ID.
    pub fn spiffe_id(&self) -> Result<SpiffeId, Option<IdError>> {
        match self.uris.as_slice() {
            [uri] => SpiffeId::parse(uri).map_err(Some),
            _ => Err(None),
        }
    }
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, CsrError> {
    if der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge { len: der.len() });
    }
    match X509CertificationRequest::from_der(der) {
        Ok((rest, request)) if rest.is_empty() && der.starts_with(&[0x30]) => Ok(request),
        _ => Err(CsrError::Malformed),
    }
}

/// The key's family and the bytes ring verifies with: an uncompressed point, or DER RSAPublicKey.
///
/// # Errors
/// [`CsrError::UnsupportedKey`], also where the encoding is not the canonical one.
pub(crate) fn key_of<'a>(spki: &'a SubjectPublicKeyInfo<'_>) -> Result<(KeyKind, &'a [u8]), CsrError> {
    let key: &[u8] = &spki.subject_public_key.data;
    let (kind, algorithm) = match spki.algorithm.algorithm.to_id_string().as_str() {
        OID_EC if key.len() == 65 => (KeyKind::P256, ALG_P256),
        OID_EC if key.len() == 97 => (KeyKind::P384, ALG_P384),
        OID_RSA => (KeyKind::Rsa, ALG_RSA),
        _ => return Err(CsrError::UnsupportedKey),
    };
    if spki.raw != canonical_spki(algorithm, key) {
        return Err(CsrError::UnsupportedKey);
    }
    Ok((kind, key))
}

fn algorithm_of(kind: KeyKind, oid: &str) -> Result<&'static dyn VerificationAlgorithm, CsrError> {
    Ok(match (kind, oid) {
        (KeyKind::P256, "1.2.840.10045.4.3.2") => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, "1.2.840.10045.4.3.3") => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P384, "1.2.840.10045.4.3.2") => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, "1.2.840.10045.4.3.3") => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::Rsa, "1.2.840.113549.1.1.11") => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa, "1.2.840.113549.1.1.12") => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa, "1.2.840.113549.1.1.13") => &signature::RSA_PKCS1_2048_8192_SHA512,
        (_, other) => return Err(CsrError::UnsupportedSignature(other.into())),
    })
}

fn canonical_spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0x03];
    push_len(&mut bits, key.len().saturating_add(1));
    bits.push(0);
    bits.extend_from_slice(key);
    let mut spki = vec![0x30];
    push_len(&mut spki, algorithm.len().saturating_add(bits.len()));
    spki.extend_from_slice(algorithm);
    spki.extend_from_slice(&bits);
    spki
}

/// Canonical SubjectPublicKeyInfo of an RSA key; both numbers are positive, big-endian, without leading zeros.
pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let (mut numbers, mut key) = (Vec::new(), vec![0x30]);
    for number in [modulus, exponent] {
        let sign = usize::from(number.first().is_some_and(|first| first & 0x80 != 0));
        numbers.push(0x02);
        push_len(&mut numbers, number.len().saturating_add(sign));
        numbers.extend(std::iter::repeat_n(0, sign));
        numbers.extend_from_slice(number);
    }
    push_len(&mut key, numbers.len());
    key.extend_from_slice(&numbers);
    canonical_spki(ALG_RSA, &key)
}

/// DER length; values here are below 64 KiB because requests are.
fn push_len(out: &mut Vec<u8>, len: usize) {
    match len {
        0..0x80 => out.push(len as u8),
        0x80..0x100 => out.extend([0x81, len as u8]),
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
