//! What the operator trusts: manufacturer anchors, who may enrol, what is denied.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chancery_sdk::time::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::{crypto::sha256, policy::PolicySet};

/// Everything an EK is judged by.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Issuing CAs of manufacturers, pinned.
    pub anchors: Vec<Anchor>,
    /// Who may join.
    pub enrol: Enrol,
    /// SHA-256 of SubjectPublicKeyInfos that never join.
    pub denied_eks: BTreeSet<[u8; 32]>,
    /// What a node's boot state must be.
    pub policies: PolicySet,
}

/// Who may join.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Enrol {
    /// Only EKs an operator enrolled by hash.
    Inventory,
    /// Enrolled EKs, and every genuine TPM of these manufacturers and models.
    Open(Vec<Allowed>),
}

/// One row of the allow-list of open enrolment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allowed {
    /// Whose TPMs.
    pub manufacturer: Manufacturer,
    /// Model, or its beginning and `*`.
    pub model: String,
}

impl Allowed {
    pub(crate) fn covers(&self, manufacturer: Manufacturer, model: &str) -> bool {
        self.manufacturer == manufacturer && matches_pattern(&self.model, model)
    }
}

/// Whether `value` is `pattern`, or begins with it where it ends in `*`.
pub(crate) fn matches_pattern(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => value.starts_with(start),
        None => value == pattern,
    }
}

/// A TPM manufacturer: the four bytes of TPM_PT_MANUFACTURER, padded with zeros.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Manufacturer([u8; 4]);

/// The text is no manufacturer.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("manufacturer '{0}' must be 1 to 4 printable characters (IFX) or id: and 8 hex digits (id:49465800)")]
pub struct ManufacturerError(String);

impl FromStr for Manufacturer {
    type Err = ManufacturerError;

    /// Reads `id:49465800` (as in EK certificates), `49465800` or `IFX`.
    fn from_str(text: &str) -> Result<Self, ManufacturerError> {
        let mut id = [0; 4];
        let hex_part = text.strip_prefix("id:").unwrap_or(text);
        if hex_part.len() == 8 && hex::decode_to_slice(hex_part, &mut id).is_ok() {
            // "STM " in certificates is "STM" to people
            id.iter_mut().rev().take_while(|b| **b == b' ').for_each(|b| *b = 0);
            return Ok(Self(id));
        }
        if text.is_empty() || text.len() > id.len() || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(ManufacturerError(text.chars().take(64).collect()));
        }
        id.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(Self(id))
    }
}

impl fmt::Display for Manufacturer {
    /// `IFX` where the bytes are letters, else 8 hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.split(|b| *b == 0).next().unwrap_or_default();
        let padded = self.0.iter().skip(text.len()).all(|b| *b == 0);
        match std::str::from_utf8(text) {
            Ok(text) if padded && !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                f.write_str(text)
            }
            _ => f.write_str(&hex::encode(self.0)),
        }
    }
}

/// A manufacturer's issuing CA, pinned by an operator.
#[derive(Clone, Debug)]
pub struct Anchor {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// The one manufacturer it may vouch for.
    pub manufacturer: Manufacturer,
    /// Believed no longer than this; webpki does not look at an anchor's validity.
    pub not_after: UnixTime,
    pub(crate) anchor: TrustAnchor<'static>,
}

/// Why a certificate cannot be an anchor.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AnchorError {
    /// Not one DER certificate.
    #[error("the anchor is not one DER certificate")]
    Malformed,
    /// basicConstraints does not say CA.
    #[error("the anchor is not a CA certificate")]
    NotCa,
}

impl Anchor {
    /// Pins a CA certificate (DER). `not_after` replaces the certificate's own end where vendors let
    /// certificates of CAs whose TPMs live on run out.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub fn parse(der: &[u8], manufacturer: Manufacturer, not_after: Option<UnixTime>) -> Result<Self, AnchorError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| AnchorError::Malformed)?;
        if !rest.is_empty() {
            return Err(AnchorError::Malformed);
        }
        if !certificate.is_ca() {
            return Err(AnchorError::NotCa);
        }
        let not_after = not_after.unwrap_or(UnixTime(certificate.validity().not_after.timestamp()));
        let input = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&input).map_err(|_| AnchorError::Malformed)?.to_owned();
        Ok(Self { fingerprint: sha256(&[der]), manufacturer, not_after, anchor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manufacturers_are_the_same_by_name_and_by_number() {
        let by_number: Manufacturer = "id:49465800".parse().unwrap();
        assert_eq!(by_number, "IFX".parse().unwrap());
        assert_eq!(by_number.to_string(), "IFX");
        assert_eq!("id:00001014".parse::<Manufacturer>().unwrap().to_string(), "00001014");
        assert_eq!("id:53544D20".parse::<Manufacturer>(), "STM".parse());
        for bad in ["", "TOOLONG", "a:b", "id:123", "ü"] {
            assert!(bad.parse::<Manufacturer>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_whole_values_or_beginnings() {
        assert!(matches_pattern("R7*", "R750") && matches_pattern("*", "") && matches_pattern("a", "a"));
        assert!(!matches_pattern("R7", "R750") && !matches_pattern("R7*", "XR7"));
    }
}
