//! Certificate revocation lists of a CA: which certificates it takes back.
//!
//! SPIFFE's verifiers read none. A list is for those who do, and for the record. Source: RFC 5280, 5; decision 0048.

use std::{collections::BTreeMap, sync::Arc};

use chancery_sdk::time::UnixTime;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use x509_parser::{
    extensions::ParsedExtension,
    num_bigint::BigUint,
    prelude::{FromDer, X509Certificate, X509Extension},
    revocation_list::{CertificateRevocationList, RevokedCertificate},
};

use super::{
    super::{
        SignError,
        der::{self, crl},
    },
    Parent,
};
use crate::keys::Signer;

/// Most entries of a ceremony's list; a list read must fit into the largest file read.
pub(crate) const MAX_ENTRIES: usize = 4000;
/// Most entries of a server's own list: 2 MB, which go to every node.
pub(crate) const MAX_ENTRIES_ONLINE: usize = 50_000;
/// Octets of a serial number (RFC 5280, 4.1.2.2).
const MAX_SERIAL_BITS: u64 = 159;
/// OIDs of the extensions that are written, and of no other that is read.
const KNOWN_OF_LIST: [&str; 2] = ["2.5.29.20", "2.5.29.35"];
const KNOWN_OF_ENTRY: &str = "2.5.29.21";

/// A list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Crl {
    /// Grows with every list of this CA.
    pub number: u64,
    /// From when it holds.
    pub this_update: UnixTime,
    /// When the next follows at the latest.
    pub next_update: UnixTime,
    /// What is taken back, by serial number.
    pub revoked: BTreeMap<BigUint, Revoked>,
}

/// Since when and why a certificate is taken back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Revoked {
    /// Since when.
    pub at: UnixTime,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is taken back; nothing that could be undone.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reason {
    /// The subject is another one now.
    AffiliationChanged,
    /// The CA's own key is or may be somebody else's.
    #[serde(rename = "cACompromise")]
    CaCompromise,
    /// It is not used any more.
    CessationOfOperation,
    /// Its key is or may be somebody else's.
    KeyCompromise,
    /// It may not do any more what it says.
    PrivilegeWithdrawn,
    /// Another one took its place.
    Superseded,
    /// Not said.
    Unspecified,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::AffiliationChanged,
        Self::CaCompromise,
        Self::CessationOfOperation,
        Self::KeyCompromise,
        Self::PrivilegeWithdrawn,
        Self::Superseded,
        Self::Unspecified,
    ];

    /// CRLReason (RFC 5280, 5.3.1).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::AffiliationChanged => 3,
            Self::CaCompromise => 2,
            Self::CessationOfOperation => 5,
            Self::KeyCompromise => 1,
            Self::PrivilegeWithdrawn => 9,
            Self::Superseded => 4,
            Self::Unspecified => 0,
        }
    }

    /// As RFC 5280 and the configuration name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AffiliationChanged => "affiliationChanged",
            Self::CaCompromise => "cACompromise",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::KeyCompromise => "keyCompromise",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::Superseded => "superseded",
            Self::Unspecified => "unspecified",
        }
    }
}

/// A serial number: decimal digits, or hexadecimal ones after `0x`.
pub(crate) fn serial(text: &str) -> Option<BigUint> {
    let serial = match text.strip_prefix("0x") {
        Some(hex) => BigUint::parse_bytes(hex.as_bytes(), 16)?,
        None => BigUint::parse_bytes(text.as_bytes(), 10)?,
    };
    (serial.bits() > 0 && serial.bits() <= MAX_SERIAL_BITS).then_some(serial)
}

impl Parent {
    /// A CA certificate (DER) that may sign lists, and the key it is for.
    ///
    /// # Errors
    /// As [`Parent::new`]; any path length is fine.
    pub(crate) fn of_lists(certificate: &CertificateDer<'_>, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let parent = Self::read(certificate, key)?;
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignError::Mismatch("shape"))?;
        let usage = parsed.key_usage().ok().flatten();
        match usage.is_some_and(|usage| !usage.value.crl_sign()) {
            true => Err(SignError::Profile("the CA certificate's key usage does not let it sign CRLs")),
            false => Ok(parent),
        }
    }

    /// Signs a list of at most `most` entries, reads it back and compares it.
    ///
    /// # Errors
    /// [`SignError`]; nothing is given out then.
    pub(crate) fn sign_crl(&self, crl: &Crl, most: usize) -> Result<Vec<u8>, SignError> {
        if crl.next_update <= crl.this_update {
            return Err(SignError::Profile("the CRL would end before it begins"));
        }
        if crl.next_update > self.not_after {
            return Err(SignError::Issuer { asked: crl.next_update, end: self.not_after });
        }
        if crl.revoked.len() > most {
            return Err(SignError::Profile("the CRL would have too many entries; taint the authority"));
        }
        let tbs = crl::tbs(crl, &self.parts)?;
        let der = der::certificate(&tbs, &self.parts, &self.key.sign(&tbs)?);
        match self.read_crl(&der)? == *crl {
            true => Ok(der),
            false => Err(SignError::Mismatch("CRL")),
        }
    }

    /// Reads a list that this CA signed.
    ///
    /// # Errors
    /// [`SignError::Mismatch`] for somebody else's, [`SignError::Profile`] for one that says more than this program
    /// could say again.
    pub(crate) fn read_crl(&self, der: &[u8]) -> Result<Crl, SignError> {
        let shape = |_| SignError::Mismatch("CRL: it has no shape");
        let (rest, parsed) = CertificateRevocationList::from_der(der).map_err(shape)?;
        if !rest.is_empty() || parsed.issuer().as_raw() != self.parts.name() {
            return Err(SignError::Mismatch("CRL: it is of another CA"));
        }
        if !self.public.verifies(parsed.tbs_cert_list.as_ref(), &parsed.signature_value.data) {
            return Err(SignError::Mismatch("CRL: its signature is not this CA's"));
        }
        // What is not under the signature is as this CA writes it, byte for byte.
        if der::certificate(parsed.tbs_cert_list.as_ref(), &self.parts, &parsed.signature_value.data) != der {
            return Err(SignError::Mismatch("CRL: it is not as its CA writes it"));
        }
        let known = |e: &X509Extension<'_>| KNOWN_OF_LIST.contains(&e.oid.to_id_string().as_str());
        if !parsed.extensions().iter().all(known) {
            return Err(SignError::Profile("the CRL has an extension that would be lost"));
        }
        let number = parsed.crl_number().and_then(|n| u64::try_from(n).ok());
        let next_update = parsed.next_update().ok_or(SignError::Profile("the CRL has no nextUpdate"))?;
        let mut revoked = BTreeMap::new();
        for one in parsed.iter_revoked_certificates() {
            if revoked.insert(one.serial().clone(), entry(one)?).is_some() {
                return Err(SignError::Profile("the CRL has a serial number twice"));
            }
        }
        Ok(Crl {
            number: number.ok_or(SignError::Profile("the CRL has no number below 2^64"))?,
            this_update: UnixTime(parsed.last_update().timestamp()),
            next_update: UnixTime(next_update.timestamp()),
            revoked,
        })
    }
}

fn entry(one: &RevokedCertificate<'_>) -> Result<Revoked, SignError> {
    let lost = SignError::Profile("an entry of the CRL has an extension that would be lost");
    let reason = match one.extensions() {
        [] => Some(Reason::Unspecified),
        [only] if only.oid.to_id_string() == KNOWN_OF_ENTRY && !only.critical => match only.parsed_extension() {
            ParsedExtension::ReasonCode(code) => Reason::ALL.into_iter().find(|r| r.code() == code.0),
            _ => None,
        },
        _ => None,
    };
    Ok(Revoked { at: UnixTime(one.revocation_date.timestamp()), reason: reason.ok_or(lost)? })
}

#[cfg(test)]
mod tests;
