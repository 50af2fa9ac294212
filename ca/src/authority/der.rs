//! A leaf in DER, written straight from the decision.
//!
//! A general writer costs more than half of what a signature does; this one knows a single profile. Tests hold it,
//! byte for byte, to what rcgen writes for the same decision; `compare` reads samples back while it runs.

pub(super) mod ca;
pub(super) mod crl;

use chancery_core::leaf::{Leaf, Subject};
use chancery_daemon::key_type::KeyType;
use chancery_sdk::time::UnixTime;
use time::OffsetDateTime;
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};

use super::{SignError, profile};

// Tags (X.690).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// Version 3.
const VERSION: &[u8] = &[0xa0, 3, INTEGER, 1, 2];
/// AlgorithmIdentifier ecdsa-with-SHA256, without parameters (RFC 5758, 3.2).
const ECDSA_SHA256: &[u8] = &[SEQUENCE, 10, OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// AlgorithmIdentifier ecdsa-with-SHA384, without parameters (RFC 5758, 3.2).
const ECDSA_SHA384: &[u8] = &[SEQUENCE, 10, OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// AlgorithmIdentifier sha256WithRSAEncryption, with NULL (RFC 4055, 5).
const RSA_SHA256: &[u8] = &[SEQUENCE, 13, OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
/// OIDs with their tags: subjectAltName, subjectKeyIdentifier, authorityKeyIdentifier.
const ID_SAN: &[u8] = &[OID, 3, 0x55, 0x1d, 17];
const ID_SKI: &[u8] = &[OID, 3, 0x55, 0x1d, 14];
const ID_AKI: &[u8] = &[OID, 3, 0x55, 0x1d, 35];
const CRITICAL: &[u8] = &[1, 1, 0xff];
/// keyUsage, critical: digitalSignature. extendedKeyUsage: serverAuth, clientAuth.
#[rustfmt::skip]
const USAGES: &[u8] = &[
    SEQUENCE, 14, OID, 3, 0x55, 0x1d, 15, 1, 1, 0xff, OCTET_STRING, 4, BIT_STRING, 2, 7, 0x80,
    SEQUENCE, 29, OID, 3, 0x55, 0x1d, 37, OCTET_STRING, 22, SEQUENCE, 20,
    OID, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1, OID, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2,
];
/// basicConstraints, critical, cA false by its absence (XS-17).
const NO_CA: &[u8] = &[SEQUENCE, 12, OID, 3, 0x55, 0x1d, 19, 1, 1, 0xff, OCTET_STRING, 2, SEQUENCE, 0];

/// Room for a usual leaf; a larger one grows.
const ROOM: usize = 768;

/// The parts of an authority that each of its leaves repeats.
pub(super) struct IssuerParts {
    /// DER Name.
    name: Vec<u8>,
    /// The authorityKeyIdentifier extension.
    key_id: Vec<u8>,
    /// AlgorithmIdentifier of its signatures.
    algorithm: &'static [u8],
}

impl IssuerParts {
    /// `name` is the authority's subject (DER Name), `key_id` its subject key identifier.
    pub(super) fn new(name: &[u8], key_id: &[u8], key_type: KeyType) -> Self {
        let mut extension = Vec::new();
        nest(&mut extension, SEQUENCE, |o| {
            o.extend_from_slice(ID_AKI);
            nest(o, OCTET_STRING, |o| nest(o, SEQUENCE, |o| put(o, 0x80, key_id)));
        });
        let algorithm = match key_type {
            KeyType::EcP256 => ECDSA_SHA256,
            KeyType::EcP384 => ECDSA_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => RSA_SHA256,
        };
        Self { name: name.to_vec(), key_id: extension, algorithm }
    }

    /// DER Name.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }
}

/// TBSCertificate of a decided leaf.
///
/// # Errors
/// [`SignError::Profile`] where a part has no encoding.
///
/// Source: RFC 5280, 4.1; conformance XS-01 to XS-33.
pub(super) fn tbs(leaf: &Leaf, issuer: &IssuerParts) -> Result<Vec<u8>, SignError> {
    let (_, spki) =
        SubjectPublicKeyInfo::from_der(leaf.spki_der()).map_err(|_| SignError::Profile("the key has no shape"))?;
    let key_id = profile::key_id(&spki.subject_public_key.data);
    let subject = name(leaf.subject())?;
    let (not_before, not_after) = (moment(leaf.not_before())?, moment(leaf.not_after())?);
    let mut out = Vec::with_capacity(ROOM);
    nest(&mut out, SEQUENCE, |o| {
        o.extend_from_slice(VERSION);
        unsigned(o, &leaf.serial());
        o.extend_from_slice(issuer.algorithm);
        o.extend_from_slice(&issuer.name);
        nest(o, SEQUENCE, |o| {
            time(o, not_before);
            time(o, not_after);
        });
        o.extend_from_slice(&subject);
        o.extend_from_slice(leaf.spki_der());
        nest(o, EXTENSIONS, |o| {
            nest(o, SEQUENCE, |o| {
                o.extend_from_slice(&issuer.key_id);
                names(o, leaf);
                o.extend_from_slice(USAGES);
                nest(o, SEQUENCE, |o| {
                    o.extend_from_slice(ID_SKI);
                    nest(o, OCTET_STRING, |o| put(o, OCTET_STRING, &key_id));
                });
                o.extend_from_slice(NO_CA);
            });
        });
    });
    Ok(out)
}

/// A certificate, or a CRL, of its two halves. `signature` is DER ECDSA-Sig-Value, or PKCS #1 v1.5.
pub(super) fn certificate(tbs: &[u8], issuer: &IssuerParts, signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tbs.len() + signature.len() + 32);
    nest(&mut out, SEQUENCE, |o| {
        o.extend_from_slice(tbs);
        o.extend_from_slice(issuer.algorithm);
        nest(o, BIT_STRING, |o| {
            o.push(0); // unused bits
            o.extend_from_slice(signature);
        });
    });
    out
}

/// subjectAltName; critical where there is no subject (XS-07).
fn names(out: &mut Vec<u8>, leaf: &Leaf) {
    nest(out, SEQUENCE, |o| {
        o.extend_from_slice(ID_SAN);
        if leaf.subject().0.is_empty() {
            o.extend_from_slice(CRITICAL);
        }
        nest(o, OCTET_STRING, |o| {
            nest(o, SEQUENCE, |o| {
                put(o, URI, leaf.id().as_str().as_bytes());
                leaf.dns_names().iter().for_each(|dns| put(o, DNS_NAME, dns.as_bytes()));
            });
        });
    });
}

/// A Name: each attribute in a set of its own, in order.
fn name(subject: &Subject) -> Result<Vec<u8>, SignError> {
    let mut attributes = Vec::with_capacity(64);
    for (dotted, text) in &subject.0 {
        let oid = oid(dotted).ok_or(SignError::Profile("a subject attribute has no OID"))?;
        // countryName and serialNumber are PrintableString (RFC 5280, appendix A).
        let kind = if matches!(dotted.as_str(), "2.5.4.5" | "2.5.4.6") { PRINTABLE_STRING } else { UTF8_STRING };
        if kind == PRINTABLE_STRING && !text.bytes().all(is_printable) {
            return Err(SignError::Profile("a country or serial number in the subject is not printable"));
        }
        nest(&mut attributes, SET, |o| {
            nest(o, SEQUENCE, |o| {
                put(o, OID, &oid);
                put(o, kind, text.as_bytes());
            });
        });
    }
    let mut out = Vec::with_capacity(attributes.len() + 4);
    put(&mut out, SEQUENCE, &attributes);
    Ok(out)
}

/// Source: X.680, 41.4.
fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

/// The content of a dotted OID; `None` where it is none.
fn oid(dotted: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = arcs.as_slice() else { return None };
    if *first > 2 || (*first < 2 && *second > 39) {
        return None;
    }
    let mut out = Vec::with_capacity(8);
    for arc in std::iter::once(first.checked_mul(40)?.checked_add(*second)?).chain(rest.iter().copied()) {
        // Seven bits to an octet, the highest ones first.
        let octets = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for left in (0..octets).rev() {
            let more = if left == 0 { 0 } else { 0x80 };
            out.push((arc >> (7 * left)) as u8 & 0x7f | more);
        }
    }
    Some(out)
}

fn moment(at: UnixTime) -> Result<OffsetDateTime, SignError> {
    let at = OffsetDateTime::from_unix_timestamp(at.0).ok().filter(|at| (1950..=9999).contains(&at.year()));
    at.ok_or(SignError::Profile("a time is out of range"))
}

/// UTCTime below 2050, GeneralizedTime from then on (RFC 5280, 4.1.2.5).
fn time(out: &mut Vec<u8>, at: OffsetDateTime) {
    let pair = |n: i32| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let (year, utc) = (at.year(), at.year() < 2050);
    nest(out, if utc { UTC_TIME } else { GENERALIZED_TIME }, |o| {
        if !utc {
            o.extend_from_slice(&pair(year / 100));
        }
        for part in [
            year,
            i32::from(u8::from(at.month())),
            i32::from(at.day()),
            i32::from(at.hour()),
            i32::from(at.minute()),
            i32::from(at.second()),
        ] {
            o.extend_from_slice(&pair(part));
        }
        o.push(b'Z');
    });
}

/// An INTEGER that is not negative, in the fewest octets.
fn unsigned(out: &mut Vec<u8>, big_endian: &[u8]) {
    let zeros = big_endian.iter().take_while(|b| **b == 0).count().min(big_endian.len().saturating_sub(1));
    let digits = big_endian.get(zeros..).unwrap_or_default();
    nest(out, INTEGER, |o| {
        if digits.first().is_none_or(|first| *first >= 0x80) {
            o.push(0);
        }
        o.extend_from_slice(digits);
    });
}

/// One value whose content is there already.
fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    nest(out, tag, |o| o.extend_from_slice(content));
}

/// One value; its length is put in when its content is known.
fn nest(out: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    content(out);
    let len = out.len() - at;
    match len {
        0..0x80 => out.insert(at, len as u8),
        0x80..0x100 => drop(out.splice(at..at, [0x81, len as u8])),
        0x100..0x1_0000 => drop(out.splice(at..at, [0x82, (len >> 8) as u8, len as u8])),
        // A leaf is far below 16 MiB: all that is in it came in one request of 16 KiB, or is an entry's.
        _ => drop(out.splice(at..at, [0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8])),
    }
}

#[cfg(test)]
mod tests;
