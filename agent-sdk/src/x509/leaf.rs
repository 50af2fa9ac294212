use std::str;

use thiserror::Error;

use super::certificate::{Certificate, CertificateError};
use crate::id::{IdError, SpiffeId};

/// Why a certificate is not shaped like the leaf of an X509-SVID.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum LeafError {
    /// The URI SAN is no SPIFFE ID (XS-09).
    #[error("URI SAN is no SPIFFE ID: {0}")]
    BadId(#[source] IdError),
    /// The certificate itself cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// keyUsage holds keyCertSign (XS-30).
    #[error("leaf may sign certificates (keyCertSign)")]
    LeafHasCertSign,
    /// keyUsage holds cRLSign (XS-31).
    #[error("leaf may sign revocation lists (cRLSign)")]
    LeafHasCrlSign,
    /// basicConstraints say cA (XS-29).
    #[error("leaf is a CA certificate")]
    LeafIsCa,
    /// No URI SAN (XS-03).
    #[error("certificate has no URI SAN")]
    NoUriSan,
    /// A SPIFFE ID without a path, which only authorities carry (XS-06).
    #[error("SPIFFE ID of a leaf must have a path")]
    RootPathLeaf,
    /// More than one URI SAN, whatever the schemes (XS-02).
    #[error("certificate has {0} URI SANs, exactly 1 is allowed")]
    TooManyUriSans(usize),
}

/// Reads the SPIFFE ID of a leaf; its signature, its times and its issuer are not looked at.
///
/// `leaf` is one DER certificate.
///
/// # Errors
/// [`LeafError`] naming the rule of X509-SVID that the certificate breaks.
///
/// Source: X509-SVID sections 2, 4 and 5; conformance XS-02, XS-03, XS-06, XS-09, XS-29 to XS-31.
pub fn leaf_id(leaf: &[u8]) -> Result<SpiffeId, LeafError> {
    id_of(&Certificate::parse(leaf)?)
}

pub(super) fn id_of(leaf: &Certificate<'_>) -> Result<SpiffeId, LeafError> {
    refuse_authorities(leaf)?;
    let sans = leaf.uri_sans()?;
    let uri = match sans.as_slice() {
        [] => return Err(LeafError::NoUriSan),
        [uri] => *uri,
        more => return Err(LeafError::TooManyUriSans(more.len())),
    };
    let id = parse_raw(uri).map_err(LeafError::BadId)?;
    if id.path().is_empty() {
        return Err(LeafError::RootPathLeaf);
    }
    Ok(id)
}

fn refuse_authorities(leaf: &Certificate<'_>) -> Result<(), LeafError> {
    if leaf.basic_constraints()?.is_some_and(|c| c.ca) {
        return Err(LeafError::LeafIsCa);
    }
    let Some(usage) = leaf.key_usage()? else { return Ok(()) };
    if usage.key_cert_sign() {
        return Err(LeafError::LeafHasCertSign);
    }
    if usage.crl_sign() {
        return Err(LeafError::LeafHasCrlSign);
    }
    Ok(())
}

/// Parses the raw bytes of an IA5String; a byte that is no UTF-8 is told by the part it stands in.
fn parse_raw(uri: &[u8]) -> Result<SpiffeId, IdError> {
    match str::from_utf8(uri) {
        Ok(text) => SpiffeId::parse(text),
        // U+FFFD stands for each bad byte and is itself forbidden everywhere in an ID.
        Err(_) => SpiffeId::parse(&String::from_utf8_lossy(uri)).and(Err(IdError::BadPathChar)),
    }
}
