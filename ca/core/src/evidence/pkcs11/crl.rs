//! Lists of device certificates that their issuers took back. Who configures one cannot do without it: fail closed.

use chancery_sdk::time::UnixTime;
use thiserror::Error;
use webpki::{CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptionsBuilder};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

/// Largest list in bytes: hashed whole for every device certificate, and the caller has proven nothing yet.
pub const MAX_CRL_BYTES: usize = 1 << 20;
/// Most lists; an issuer has one.
pub const MAX_CRLS: usize = 64;

/// What issuers of device certificates took back.
#[derive(Debug, Default)]
pub struct Crls(Vec<Crl>);

#[derive(Debug)]
struct Crl {
    /// webpki keeps nextUpdate only.
    this_update: UnixTime,
    list: CertRevocationList<'static>,
}

/// Why bytes cannot be used as a list.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CrlError {
    /// Not one DER CRL of the second version with nextUpdate, or a delta or an indirect one.
    #[error("not one whole CRL: {0}")]
    Malformed(String),
    /// More than one list of an issuer: which one holds would be a matter of order.
    #[error("a second CRL of one issuer; keep its newest only")]
    Second,
    /// Above [`MAX_CRL_BYTES`].
    #[error("a CRL of {0} bytes exceeds {MAX_CRL_BYTES} bytes")]
    TooLarge(usize),
    /// Above [`MAX_CRLS`].
    #[error("more than {MAX_CRLS} CRLs")]
    TooMany,
}

impl Crls {
    /// Adds a list (DER, nothing after it). Whose signature it has is checked where it is used, by the issuer's key.
    ///
    /// # Errors
    /// [`CrlError`]; then nothing is added.
    pub fn add(&mut self, der: &[u8]) -> Result<(), CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge(der.len()));
        }
        if self.0.len() >= MAX_CRLS {
            return Err(CrlError::TooMany);
        }
        let list = OwnedCertRevocationList::from_der(der).map_err(|e| CrlError::Malformed(e.to_string()))?;
        let this_update = match CertificateRevocationList::from_der(der) {
            Ok(([], parsed)) => UnixTime(parsed.last_update().timestamp()),
            Ok(_) => return Err(CrlError::Malformed("bytes follow it".into())),
            Err(error) => return Err(CrlError::Malformed(error.to_string())),
        };
        let list = CertRevocationList::from(list);
        if self.0.iter().any(|other| other.list.issuer() == list.issuer()) {
            return Err(CrlError::Second);
        }
        self.0.push(Crl { this_update, list });
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none: then no device certificate is accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are in force already; their end is webpki's to check, against the clock it is given.
    pub(super) fn begun(&self, now: UnixTime) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().filter(|crl| crl.this_update <= now).map(|crl| &crl.list).collect()
    }
}

/// Every certificate of a path is asked about, and what is unknown or out of date is refused.
///
/// Source: RFC 5280, 6.3.
pub(super) fn strictly<'a>(begun: &'a [&'a CertRevocationList<'a>]) -> Option<webpki::RevocationOptions<'a>> {
    let builder = RevocationOptionsBuilder::new(begun).ok()?;
    Some(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
}
