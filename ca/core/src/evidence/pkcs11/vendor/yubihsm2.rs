//! YubiHSM 2: a certificate per key, made by the device's factory attestation key.
//!
//! Key certificate <- device certificate (object 0) <- Yubico's sub-CA <- pinned root, and no other shape.
//! An attested key may itself be able to sign certificates or raw digests, so its owner can make what looks
//! like one more link: only a real path validator with the shape fixed refuses that.
//!
//! The certificates are dated 2017 to 2071 whenever they were made: they say nothing about time.
//! Source: Yubico, "YubiHSM 2 attestation"; the extensions were read from real devices.

use std::time::Duration;

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, KeyUsage, ring as algorithms};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{Claims, Firmware, PinnedRoots, Refused, Tri, Vendor, refuse, tlv};
use crate::reason::Reason;

/// Key, device and sub-CA; the sub-CA may be the operator's copy.
const MAX_CERTIFICATES: usize = 3;
/// Links between the key's certificate and the root.
const LINKS: usize = 2;
const EKU_ANY_DER: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// What Yubico's certificates are signed with; the elliptic ones are for roots of operators' own making.
const SIGNATURES: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

// Extensions under Yubico's arc 1.3.6.1.4.1.41482.4.
const FIRMWARE: &str = "1.3.6.1.4.1.41482.4.1";
const SERIAL: &str = "1.3.6.1.4.1.41482.4.2";
const ORIGIN: &str = "1.3.6.1.4.1.41482.4.3";
const CAPABILITIES: &str = "1.3.6.1.4.1.41482.4.5";
const OBJECT_ID: &str = "1.3.6.1.4.1.41482.4.6";

const TAG_INTEGER: u16 = 0x02;
const TAG_BIT_STRING: u16 = 0x03;
const TAG_OCTET_STRING: u16 = 0x04;

/// Made in the device; every other value, alone or with it, says the key came from outside.
const ORIGIN_GENERATED: u8 = 0x01;
/// Capability bit `exportable-under-wrap`, counted from the last bit of the eight big-endian bytes.
const CAPABILITY_EXPORTABLE: u64 = 1 << 16;

/// Verifies chain, shape and claims; `evidence` is concatenated DER, `key_spki` DER.
pub(super) fn verify(evidence: &[u8], key_spki: &[u8], roots: &PinnedRoots, now: UnixTime) -> Result<Claims, Refused> {
    let certificates = split(evidence)?;
    let [(key_der, key), (device_der, device), sub_cas @ ..] = certificates.as_slice() else {
        return refuse(Reason::EvidenceMalformed, "the certificates of key and device are not both there");
    };
    let sub_cas: Vec<_> = sub_cas.iter().map(|(der, _)| CertificateDer::from(*der)).collect();
    check_path(key_der, device_der, &sub_cas, roots, now)?;
    if key.public_key().raw != key_spki {
        return refuse(Reason::VendorKey, "the evidence is about another key than the one that must sign");
    }
    let serial = serial(key)?;
    if serial != self::serial(device)? {
        return refuse(Reason::VendorClaim, "the key's certificate names another device than the device's own");
    }
    read_claims(key, serial)
}

fn read_claims(key: &X509Certificate<'_>, serial: u64) -> Result<Claims, Refused> {
    let [firmware_major, firmware_minor, firmware_patch] = octets(key, FIRMWARE, TAG_OCTET_STRING)?;
    let [0, origin] = octets(key, ORIGIN, TAG_BIT_STRING)? else {
        return refuse(Reason::VendorClaim, "the origin has unused bits");
    };
    let [0, capabilities @ ..] = octets::<9>(key, CAPABILITIES, TAG_BIT_STRING)? else {
        return refuse(Reason::VendorClaim, "the capabilities have unused bits");
    };
    if number(key, OBJECT_ID)? == 0 {
        return refuse(Reason::VendorClaim, "the key is object 0, the device's own attestation key");
    }
    let exportable = u64::from_be_bytes(capabilities) & CAPABILITY_EXPORTABLE != 0;
    Ok(Claims {
        vendor: Vendor::YubiHsm2,
        serial: serial.to_string(),
        firmware: Some(Firmware([firmware_major, firmware_minor, firmware_patch])),
        generated: if origin == ORIGIN_GENERATED { Tri::Yes } else { Tri::No },
        exportable: if exportable { Tri::Yes } else { Tri::No },
    })
}

/// Splits concatenated DER into at most [`MAX_CERTIFICATES`] certificates, nothing left over.
fn split(evidence: &[u8]) -> Result<Vec<(&[u8], X509Certificate<'_>)>, Refused> {
    let (mut rest, mut found) = (evidence, Vec::with_capacity(MAX_CERTIFICATES));
    while !rest.is_empty() {
        if found.len() == MAX_CERTIFICATES {
            let detail = format!("more than {MAX_CERTIFICATES} certificates: key, device and sub-CA are wanted");
            return refuse(Reason::EvidenceMalformed, detail);
        }
        let Ok((after, certificate)) = X509Certificate::from_der(rest) else {
            return refuse(
                Reason::EvidenceMalformed,
                format!("certificate {} is not DER", found.len().saturating_add(1)),
            );
        };
        let (der, _) = rest.split_at(rest.len().saturating_sub(after.len()));
        found.push((der, certificate));
        rest = after;
    }
    Ok(found)
}

/// RFC 5280 path validation up to a pinned root, over exactly the device sent and one sub-CA.
fn check_path(
    key: &[u8],
    device: &[u8],
    sub_cas: &[CertificateDer<'_>],
    roots: &PinnedRoots,
    now: UnixTime,
) -> Result<(), Refused> {
    let anchors = roots.yubihsm2_at(now);
    let own = roots.yubihsm2_sub_cas().iter();
    let hints: Vec<_> =
        std::iter::once(CertificateDer::from(device)).chain(sub_cas.iter().chain(own).cloned()).collect();
    let input = CertificateDer::from(key);
    let leaf = EndEntityCert::try_from(&input).map_err(path_error)?;
    let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.0).unwrap_or(0)));
    let usage = KeyUsage::required_if_present(EKU_ANY_DER); // no certificate of Yubico's has one
    let path = leaf.verify_for_usage(SIGNATURES, &anchors, &hints, at, usage, None, None).map_err(path_error)?;
    let links: Vec<_> = path.intermediate_certificates().map(|link| link.der()).collect();
    let shaped = links.len() == LINKS && links.first().is_some_and(|first| first.as_ref() == device);
    if !shaped {
        let detail = format!("{} certificates between key and root, device and sub-CA are wanted", links.len());
        return refuse(Reason::VendorChain, detail);
    }
    if sub_cas.iter().any(|sent| links.get(1).is_none_or(|used| used != sent)) {
        return refuse(Reason::VendorChain, "the sub-CA sent is not the one of the path");
    }
    for link in &links {
        may_sign(link)?;
    }
    Ok(())
}

/// keyUsage of a signer, which webpki leaves to its caller.
fn may_sign(der: &[u8]) -> Result<(), Refused> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return refuse(Reason::EvidenceMalformed, "a signer's certificate is not DER");
    };
    match certificate.key_usage() {
        Ok(usage) if usage.as_ref().is_none_or(|usage| usage.value.key_cert_sign()) => Ok(()),
        _ => refuse(Reason::VendorChain, "a signer's key usage does not let it sign certificates"),
    }
}

fn path_error(error: webpki::Error) -> Refused {
    use webpki::Error as E;
    let reason = match &error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => Reason::VendorValidity,
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::UnsupportedCertVersion => Reason::EvidenceMalformed,
        _ => Reason::VendorChain,
    };
    Refused { reason, detail: format!("no path to a pinned Yubico root: {error}") }
}

/// The one extension with this OID; absent and doubled are both refused.
fn extension<'a>(certificate: &X509Certificate<'a>, oid: &str) -> Result<&'a [u8], Refused> {
    let mut found = certificate.extensions().iter().filter(|extension| extension.oid.to_id_string() == oid);
    match (found.next(), found.next()) {
        (Some(extension), None) => Ok(extension.value),
        (None, _) => refuse(Reason::VendorClaim, format!("extension {oid} is absent")),
        (Some(_), Some(_)) => refuse(Reason::VendorClaim, format!("extension {oid} is there twice")),
    }
}

fn octets<const N: usize>(certificate: &X509Certificate<'_>, oid: &str, tag: u16) -> Result<[u8; N], Refused> {
    let value = tlv::only(extension(certificate, oid)?, tag).map_err(|refused| claim(oid, refused))?;
    match value.try_into() {
        Ok(array) => Ok(array),
        Err(_) => refuse(Reason::VendorClaim, format!("extension {oid} has {} bytes, {N} are wanted", value.len())),
    }
}

/// A positive INTEGER of at most seven bytes.
fn number(certificate: &X509Certificate<'_>, oid: &str) -> Result<u64, Refused> {
    let value = tlv::only(extension(certificate, oid)?, TAG_INTEGER).map_err(|refused| claim(oid, refused))?;
    let minimal = !matches!(value, [0, 0..=0x7f, ..]);
    match value {
        [first, ..] if first & 0x80 == 0 && minimal && value.len() < 8 => {
            Ok(value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
        }
        _ => refuse(Reason::VendorClaim, format!("extension {oid} is no positive INTEGER")),
    }
}

fn serial(certificate: &X509Certificate<'_>) -> Result<u64, Refused> {
    number(certificate, SERIAL)
}

fn claim(oid: &str, refused: Refused) -> Refused {
    Refused { reason: Reason::VendorClaim, detail: format!("extension {oid}: {}", refused.detail) }
}

#[cfg(test)]
mod tests;
