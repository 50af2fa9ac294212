//! Endorsement keys: what a certificate, or a bare public key, says about one.
//!
//! Source: TCG EK Credential Profile 2.5, section 3; check numbers C2 to C5 of the threat model.

use chancery_sdk::time::UnixTime;
use rustls_pki_types::CertificateDer;
use webpki::{EndEntityCert, KeyUsage, ring as algorithms};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    public_key::RSAPublicKey,
    x509::SubjectPublicKeyInfo,
};

use super::{
    templates::EkKey,
    trust::{Anchor, Manufacturer},
};
use crate::{
    crypto::sha256,
    evidence::{Refused, refuse},
    reason::Reason,
};

/// Largest EK certificate in bytes; known ones have 0.7 to 2 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// Most intermediates sent along.
pub const MAX_INTERMEDIATES: usize = 3;
/// Longest model or version text, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 128;

const OID_MANUFACTURER: &str = "2.23.133.2.1";
const OID_MODEL: &str = "2.23.133.2.2";
const OID_VERSION: &str = "2.23.133.2.3";
const OID_EKU_EK: &str = "2.23.133.8.1";
const OID_EKU_PLATFORM: &str = "2.23.133.8.2";
const EKU_EK_DER: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
const OID_EC: &str = "1.2.840.10045.2.1";
const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_RSA: &str = "1.2.840.113549.1.1.1";
const OID_RSA_OAEP: &str = "1.2.840.113549.1.1.7"; // older vendors mark the key by its use

/// An endorsement key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ek {
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub hash: [u8; 32],
    /// The key.
    pub key: EkKey,
}

/// Reads a bare endorsement key: DER SubjectPublicKeyInfo.
///
/// # Errors
/// [`Refused`] with EVIDENCE_MALFORMED, EVIDENCE_TOO_LARGE or EK_WEAK.
pub fn parse_public(der: &[u8]) -> Result<Ek, Refused> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        return refuse(
            Reason::EvidenceTooLarge,
            format!("EK of {} bytes exceeds {MAX_CERTIFICATE_BYTES} bytes", der.len()),
        );
    }
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => ek_of(&spki),
        _ => refuse(Reason::EvidenceMalformed, "the EK is not one DER SubjectPublicKeyInfo"),
    }
}

/// An EK certificate whose content is right; its issuer is not yet checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EkCertificate<'a> {
    /// The key.
    pub ek: Ek,
    /// From the certificate's subjectAltName.
    pub manufacturer: Manufacturer,
    /// From the certificate's subjectAltName.
    pub model: String,
    /// From the certificate's subjectAltName.
    pub version: String,
    der: &'a [u8],
}

/// Reads an EK certificate (DER, nothing after it) and checks all that does not need an issuer or a clock.
///
/// # Errors
/// [`Refused`] with the code of the first check that failed.
pub fn parse(der: &[u8]) -> Result<EkCertificate<'_>, Refused> {
    if der.len() > MAX_CERTIFICATE_BYTES {
        let detail = format!("EK certificate of {} bytes exceeds {MAX_CERTIFICATE_BYTES} bytes", der.len());
        return refuse(Reason::EvidenceTooLarge, detail);
    }
    let certificate = match X509Certificate::from_der(der) {
        Ok(([], certificate)) => certificate,
        _ => return refuse(Reason::EvidenceMalformed, "the EK certificate is not one DER certificate"),
    };
    profile(&certificate)?;
    let ek = ek_of(certificate.public_key())?;
    key_usage(&certificate, &ek.key)?;
    let (manufacturer, model, version) = device(&certificate)?;
    Ok(EkCertificate { ek, manufacturer, model, version, der })
}

impl EkCertificate<'_> {
    /// Checks validity, critical extensions (unknown ones are refused) and chain; the anchor that vouches for it.
    ///
    /// `intermediates` are DER, hints only, at most [`MAX_INTERMEDIATES`].
    ///
    /// # Errors
    /// [`Refused`] with EK_VALIDITY, EK_UNTRUSTED, EK_EKU, EK_CRITICAL_EXT or EK_SAN.
    pub fn verify<'t>(
        &self,
        intermediates: &[Vec<u8>],
        anchors: &'t [Anchor],
        now: UnixTime,
    ) -> Result<&'t Anchor, Refused> {
        let usable: Vec<_> = anchors.iter().filter(|a| now <= a.not_after).map(|a| a.anchor.clone()).collect();
        let input = CertificateDer::from(self.der);
        let leaf = EndEntityCert::try_from(&input).map_err(chain_error)?;
        let hints: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let usage = KeyUsage::required_if_present(EKU_EK_DER); // the leaf's own is checked in `profile`
        let at = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            u64::try_from(now.0).unwrap_or(0),
        ));
        let path = leaf.verify_for_usage(SIGNATURES, &usable, &hints, at, usage, None, None).map_err(chain_error)?;
        let vouching = || anchors.iter().filter(|a| now <= a.not_after && a.anchor == *path.anchor());
        match vouching().find(|a| a.manufacturer == self.manufacturer) {
            Some(anchor) => Ok(anchor),
            None => {
                let allowed = vouching().next().map_or_else(String::new, |a| a.manufacturer.to_string());
                refuse(Reason::EkSan, format!("manufacturer {} but the anchor is {allowed}'s", self.manufacturer))
            }
        }
    }
}

/// Signatures under EK certificates: no SHA-1.
const SIGNATURES: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

fn chain_error(error: webpki::Error) -> Refused {
    use webpki::Error as E;
    let reason = match &error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Reason::EkValidity,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Reason::EkEku,
        E::UnsupportedCriticalExtension => Reason::EkCriticalExt,
        E::CaUsedAsEndEntity => Reason::EkProfile,
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::UnsupportedCertVersion => Reason::EvidenceMalformed,
        _ => Reason::EkUntrusted,
    };
    Refused { reason, detail: format!("the EK certificate is not vouched for: {error}") }
}

fn profile(certificate: &X509Certificate<'_>) -> Result<(), Refused> {
    if certificate.is_ca() {
        return refuse(Reason::EkProfile, "the certificate is a CA's");
    }
    let usages: Vec<_> = match certificate.extended_key_usage() {
        Ok(Some(eku)) => eku.value.other.iter().map(|oid| oid.to_id_string()).collect(),
        Ok(None) => return refuse(Reason::EkEku, "the certificate has no extended key usage"),
        Err(_) => return refuse(Reason::EvidenceMalformed, "the extended key usage is doubled or unreadable"),
    };
    if usages.iter().any(|oid| oid == OID_EKU_EK) {
        return Ok(());
    }
    if usages.iter().any(|oid| oid == OID_EKU_PLATFORM) {
        return refuse(Reason::EkProfile, "the certificate is a platform certificate");
    }
    refuse(Reason::EkEku, format!("the extended key usage is not {OID_EKU_EK}"))
}

fn key_usage(certificate: &X509Certificate<'_>, key: &EkKey) -> Result<(), Refused> {
    let usage = match certificate.key_usage() {
        Ok(Some(usage)) => usage.value,
        Ok(None) => return Ok(()),
        Err(_) => return refuse(Reason::EvidenceMalformed, "the key usage is doubled or unreadable"),
    };
    let fits = match key {
        EkKey::P256 { .. } | EkKey::P384 { .. } => usage.key_agreement(),
        EkKey::Rsa2048 { .. } => usage.key_encipherment(),
    };
    if fits { Ok(()) } else { refuse(Reason::EkProfile, "the key usage does not fit an endorsement key") }
}

/// Exactly one each of manufacturer, model and version, wherever the directory names hold them.
fn device(certificate: &X509Certificate<'_>) -> Result<(Manufacturer, String, String), Refused> {
    let (mut makers, mut models, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
        let directory = names.general_names.iter().filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        });
        for attribute in directory.flat_map(|name| name.iter_attributes()) {
            let list = match attribute.attr_type().to_id_string().as_str() {
                OID_MANUFACTURER => &mut makers,
                OID_MODEL => &mut models,
                OID_VERSION => &mut versions,
                _ => continue,
            };
            list.push(attribute.as_str().unwrap_or_default().to_owned());
        }
    }
    let ([maker], [model], [version]) = (makers.as_slice(), models.as_slice(), versions.as_slice()) else {
        let detail = format!(
            "{} manufacturers, {} models, {} versions; one each is wanted",
            makers.len(),
            models.len(),
            versions.len()
        );
        return refuse(Reason::EkSan, detail);
    };
    let plain = |text: &String| (1..=MAX_ATTRIBUTE_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if !plain(model) || !plain(version) {
        return refuse(Reason::EkSan, "model or version is empty, too long or not printable");
    }
    match maker.parse() {
        Ok(maker) => Ok((maker, model.clone(), version.clone())),
        Err(error) => refuse(Reason::EkSan, format!("{error}")),
    }
}

fn ek_of(spki: &SubjectPublicKeyInfo<'_>) -> Result<Ek, Refused> {
    let bits: &[u8] = &spki.subject_public_key.data;
    let key = match spki.algorithm.algorithm.to_id_string().as_str() {
        OID_EC => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|oid| oid.to_id_string());
            ec_key(curve.as_deref(), bits)
        }
        OID_RSA | OID_RSA_OAEP => rsa_key(bits),
        _ => None,
    };
    match key {
        Some(key) => Ok(Ek { hash: sha256(&[spki.raw]), key }),
        None => refuse(Reason::EkWeak, "the EK must be RSA-2048 with exponent 65537, P-256 or P-384"),
    }
}

fn ec_key(curve: Option<&str>, point: &[u8]) -> Option<EkKey> {
    let (4, coordinates) = point.split_first().map(|(form, rest)| (*form, rest))? else { return None };
    let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
    match curve? {
        OID_P256 => Some(EkKey::P256 { x: x.try_into().ok()?, y: y.try_into().ok()? }),
        OID_P384 => Some(EkKey::P384 { x: x.try_into().ok()?, y: y.try_into().ok()? }),
        _ => None,
    }
}

fn rsa_key(bits: &[u8]) -> Option<EkKey> {
    let (rest, key) = RSAPublicKey::from_der(bits).ok()?;
    let [0, modulus @ ..] = key.modulus else { return None };
    let modulus: [u8; 256] = modulus.try_into().ok()?;
    let full = modulus.first().is_some_and(|top| top & 0x80 != 0) && modulus.last().is_some_and(|low| low & 1 == 1);
    (rest.is_empty() && full && key.exponent == [1, 0, 1]).then_some(EkKey::Rsa2048 { modulus })
}
