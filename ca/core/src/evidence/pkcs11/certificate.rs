//! Device certificates: an operator's enrolment CA vouches that it saw a key made in a token.
//!
//! How that CA looked is the operator's affair; what is proven is that it vouched, for this very key.

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, KeyUsage, ring as algorithms};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    crl::{self, Crls},
    trust::EnrolmentCa,
};
use crate::{
    evidence::{Refused, refuse},
    reason::Reason,
};

/// Most certificates of a chain, the leaf included.
pub const MAX_CERTIFICATES: usize = 4;
/// Longest subject serial number in bytes.
const MAX_SERIAL_BYTES: usize = 64;

const OID_SERIAL_NUMBER: &str = "2.5.4.5";

/// An enrolment CA vouches for a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vouched {
    /// SHA-256 of the enrolment CA's certificate.
    pub ca: [u8; 32],
    /// serialNumber of the subject; `None` where there is not exactly one that is plain.
    pub subject_serial: Option<String>,
}

/// Checks a chain (DER, leaf first, not empty) up to one of `cas`, for the key `spki` (DER).
///
/// With `crls` every certificate of the path needs its issuer's list, in force and signed by that issuer.
///
/// # Errors
/// [`Refused`] with the code of the first check that failed.
///
/// Source: RFC 5280, 6.1; docs/SOURCES.md, checks K3, K5, K6 and K7.
pub fn verify(
    chain: &[Vec<u8>],
    spki: &[u8],
    cas: &[EnrolmentCa],
    crls: Option<&Crls>,
    now: UnixTime,
) -> Result<Vouched, Refused> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return refuse(Reason::EvidenceMalformed, "there is no certificate");
    };
    let certificate = strict(leaf)?;
    for intermediate in intermediates {
        strict(intermediate)?;
    }
    if certificate.public_key().raw != spki {
        return refuse(Reason::KeyMismatch, "the device certificate is of another key");
    }
    profile(&certificate)?;
    let ca = path(leaf, intermediates, cas, crls, now)?;
    Ok(Vouched { ca, subject_serial: subject_serial(&certificate) })
}

/// One DER certificate, nothing after it, no extension twice.
fn strict(der: &[u8]) -> Result<X509Certificate<'_>, Refused> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.extensions_map().is_ok() => Ok(certificate),
        Ok(([], _)) => refuse(Reason::EvidenceMalformed, "a certificate has an extension twice"),
        Ok(_) => refuse(Reason::EvidenceMalformed, "a certificate has bytes after its end"),
        Err(_) => refuse(Reason::EvidenceMalformed, "a certificate does not parse"),
    }
}

/// What webpki does not ask: a leaf that signs, and only for client authentication.
fn profile(certificate: &X509Certificate<'_>) -> Result<(), Refused> {
    if certificate.is_ca() {
        return refuse(Reason::DeviceCertProfile, "the device certificate is a CA's");
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.digital_signature() && !usage.value.key_cert_sign() => {}
        Ok(_) => return refuse(Reason::DeviceCertProfile, "the key usage is not digitalSignature without keyCertSign"),
        Err(_) => return refuse(Reason::EvidenceMalformed, "the key usage does not parse"),
    }
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if usage.value.client_auth => Ok(()),
        Ok(_) => refuse(Reason::DeviceCertEku, "the extended key usage lacks clientAuth"),
        Err(_) => refuse(Reason::EvidenceMalformed, "the extended key usage does not parse"),
    }
}

/// The fingerprint of the CA that the path ends at.
fn path(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    cas: &[EnrolmentCa],
    crls: Option<&Crls>,
    now: UnixTime,
) -> Result<[u8; 32], Refused> {
    let usable: Vec<_> = cas.iter().filter(|ca| now <= ca.not_after).map(|ca| ca.anchor.clone()).collect();
    let input = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&input).map_err(path_error)?;
    let hints: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let seconds = std::time::Duration::from_secs(u64::try_from(now.0).unwrap_or(0));
    let at = rustls_pki_types::UnixTime::since_unix_epoch(seconds);
    let usage = KeyUsage::client_auth();
    let begun = crls.map(|crls| crls.begun(now));
    let revocation = match &begun {
        None => None,
        Some(begun) => match crl::strictly(begun) {
            None => return refuse(Reason::DeviceCertCrl, "no CRL of an enrolment CA is in force"),
            some => some,
        },
    };
    let path = leaf.verify_for_usage(SIGNATURES, &usable, &hints, at, usage, revocation, None).map_err(path_error)?;
    let vouching = cas.iter().find(|ca| now <= ca.not_after && ca.anchor == *path.anchor());
    match vouching {
        Some(ca) => Ok(ca.fingerprint),
        None => refuse(Reason::DeviceCertUntrusted, "the path ends at no enrolment CA"),
    }
}

/// Signatures under device certificates: no SHA-1.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

fn path_error(error: webpki::Error) -> Refused {
    use webpki::Error as E;
    let reason = match &error {
        E::CertRevoked => Reason::DeviceCertRevoked,
        E::CrlExpired { .. }
        | E::InvalidCrlSignatureForPublicKey
        | E::IssuerNotCrlSigner
        | E::UnknownRevocationStatus
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => Reason::DeviceCertCrl,
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Reason::DeviceCertValidity,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Reason::DeviceCertEku,
        E::CaUsedAsEndEntity | E::UnsupportedCriticalExtension => Reason::DeviceCertProfile,
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::UnsupportedCertVersion => Reason::EvidenceMalformed,
        _ => Reason::DeviceCertUntrusted,
    };
    Refused { reason, detail: format!("the device certificate is not vouched for: {error}") }
}

fn subject_serial(certificate: &X509Certificate<'_>) -> Option<String> {
    let attributes = certificate.subject().iter_attributes();
    let serials: Vec<_> = attributes.filter(|a| a.attr_type().to_id_string() == OID_SERIAL_NUMBER).collect();
    let [serial] = serials.as_slice() else { return None };
    let text = serial.as_str().ok()?;
    let plain = (1..=MAX_SERIAL_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| text.to_owned())
}
