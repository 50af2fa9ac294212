//! What our certificates look like: the profile of authorities (that of leaves is in `der`), and the check that a
//! signed one is what was decided.
//!
//! Source: X509-SVID sections 2 to 5; RFC 5280; conformance XS-01 to XS-33.

use chancery_sdk::{id::TrustDomain, time::UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyIdMethod, KeyUsagePurpose,
    SanType, SerialNumber,
};
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::SignError;

/// Octets of a key identifier.
const KEY_ID_BYTES: usize = 20;

/// Key identifier: the leftmost 160 bits of SHA-256 of the public key's bits (RFC 7093, method 1).
pub(super) fn key_id(point: &[u8]) -> Vec<u8> {
    digest(&SHA256, point).as_ref().iter().take(KEY_ID_BYTES).copied().collect()
}

/// An authority's certificate: keyCertSign and cRLSign, the trust domain as its ID, no path (XS-14, XS-15).
///
/// The serial number is also in the subject, so that rotated authorities have different names.
pub(super) fn authority(
    domain: &TrustDomain,
    point: &[u8],
    serial: [u8; 16],
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<CertificateParams, SignError> {
    let mut params = base(serial, point, not_before, not_after)?;
    params.distinguished_name.push(DnType::OrganizationName, "Chancery");
    push_printable(&mut params.distinguished_name, &[2, 5, 4, 5], &u128::from_be_bytes(serial).to_string())?;
    params.subject_alt_names = vec![uri(&domain.id().to_string())?];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn base(
    serial: [u8; 16],
    point: &[u8],
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = moment(not_before)?;
    params.not_after = moment(not_after)?;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id(point));
    Ok(params)
}

fn moment(at: UnixTime) -> Result<OffsetDateTime, SignError> {
    OffsetDateTime::from_unix_timestamp(at.0).map_err(|_| SignError::Profile("a time is out of range"))
}

fn uri(text: &str) -> Result<SanType, SignError> {
    Ok(SanType::URI(text.try_into()?))
}

fn push_printable(name: &mut DistinguishedName, oid: &[u64], text: &str) -> Result<(), SignError> {
    name.push(DnType::from_oid(oid), DnValue::PrintableString(text.try_into()?));
    Ok(())
}

/// What a certificate must say; made from the decision, never from the certificate.
pub(super) struct Expected<'a> {
    /// The one URI SAN.
    pub uri: String,
    /// DNS SANs, in order.
    pub dns_names: &'a [String],
    /// SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// Serial number.
    pub serial: [u8; 16],
    /// Validity.
    pub not_before: UnixTime,
    /// Validity.
    pub not_after: UnixTime,
    /// Authority or leaf.
    pub is_ca: bool,
}

/// Parses a signed certificate back and compares it with the decision.
///
/// # Errors
/// [`SignError::Mismatch`] naming the part; such a certificate never leaves the process.
pub(super) fn compare(der: &[u8], want: &Expected<'_>) -> Result<(), SignError> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| SignError::Mismatch("shape"))?;
    let serial = cert.tbs_certificate.raw_serial();
    let unsigned = serial.strip_prefix(&[0]).unwrap_or(serial);
    let wanted: Vec<u8> = want.serial.iter().copied().skip_while(|b| *b == 0).collect();
    let checks = [
        ("trailing bytes", rest.is_empty()),
        ("serial number", unsigned == wanted && serial.len() <= 20),
        ("public key", cert.public_key().raw == want.spki),
        ("notBefore", cert.validity().not_before.timestamp() == want.not_before.0),
        ("notAfter", cert.validity().not_after.timestamp() == want.not_after.0),
        ("names", names(&cert).is_some_and(|(uris, dns)| uris == [want.uri.as_str()] && dns == want.dns_names)),
        ("critical names", cert.subject().iter().next().is_some() || san_is_critical(&cert)),
        ("basicConstraints", is_ca(&cert) == Some(want.is_ca)),
        ("keyUsage", key_usage(&cert) == Some(if want.is_ca { CA_USAGE } else { LEAF_USAGE })),
        ("extendedKeyUsage", want.is_ca != has_both_ekus(&cert)),
    ];
    checks.iter().find(|(_, good)| !good).map_or(Ok(()), |(part, _)| Err(SignError::Mismatch(part)))
}

/// digitalSignature: bit 0.
const LEAF_USAGE: u16 = 1;
/// keyCertSign and cRLSign: bits 5 and 6.
const CA_USAGE: u16 = 0x60;

fn names<'a>(cert: &'a X509Certificate<'a>) -> Option<(Vec<&'a str>, Vec<&'a str>)> {
    let san = cert.subject_alternative_name().ok()??;
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for name in &san.value.general_names {
        match name {
            GeneralName::URI(text) => uris.push(*text),
            GeneralName::DNSName(text) => dns.push(*text),
            _ => return None,
        }
    }
    Some((uris, dns))
}

fn san_is_critical(cert: &X509Certificate<'_>) -> bool {
    cert.subject_alternative_name().ok().flatten().is_some_and(|e| e.critical)
}

fn is_ca(cert: &X509Certificate<'_>) -> Option<bool> {
    Some(cert.basic_constraints().ok()??.value.ca)
}

fn key_usage(cert: &X509Certificate<'_>) -> Option<u16> {
    let extension = cert.key_usage().ok()??;
    extension.critical.then_some(extension.value.flags)
}

fn has_both_ekus(cert: &X509Certificate<'_>) -> bool {
    cert.extensions().iter().any(|e| match e.parsed_extension() {
        ParsedExtension::ExtendedKeyUsage(eku) => eku.server_auth && eku.client_auth,
        _ => false,
    })
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
pub(super) use oracle::leaf;
