//! Certificate revocation lists of a trust domain's CAs: whose they are, and that it was they who signed.

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate,
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
    x509::{AlgorithmIdentifier, X509Version},
};

use super::{MAX_INTERMEDIATES, certificate::Certificate, verify::ALGORITHMS};
use crate::time::UnixTime;

/// Why a list is not one of the trust domain's.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CrlError {
    /// A CA on the way to the bundle is none, is not in time, or may not sign this.
    #[error("CRL: a CA on the way to the bundle {0}")]
    Issuer(&'static str),
    /// Not one whole DER CRL of the second version, or one with an extension nobody here knows.
    #[error("CRL: {0}")]
    Malformed(&'static str),
    /// Nobody in the bundle, or below it, signed it.
    #[error("CRL: not signed by a CA of the trust domain")]
    NotSigned,
}

/// A list whose signature is that of a CA of the trust domain; only [`verify`](Self::verify) makes it.
///
/// Whether it is the newest is for the caller to say, and whether it is in time for whoever uses it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct VerifiedCrl {
    /// Subject key identifier of the CA whose list it is.
    pub issuer: Vec<u8>,
    /// Grows with every list of this CA.
    pub number: u64,
    /// From when it holds.
    pub this_update: UnixTime,
    /// When the next follows at the latest.
    pub next_update: UnixTime,
    /// When the CA's certificate ends: then nothing it signed is valid.
    pub issuer_ends: UnixTime,
    /// The authority of the bundle that vouches for it, DER.
    pub authority: CertificateDer<'static>,
}

impl VerifiedCrl {
    /// Verifies a list against the authorities of its trust domain.
    ///
    /// `der` is one CRL and nothing else. `chain` leads from its issuer up to below the bundle, issuer first; it is empty where
    /// the issuer is itself in the bundle.
    ///
    /// # Errors
    /// [`CrlError`].
    ///
    /// Source: RFC 5280, 5 and 6.3.3; conformance WA-27.
    pub fn verify(
        der: &[u8],
        chain: &[CertificateDer<'_>],
        authorities: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Self, CrlError> {
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(CrlError::Malformed("not exactly one DER CRL"));
        };
        // What is not under the signature must be DER too: others read the same bytes, and less leniently.
        if webpki::BorrowedCertRevocationList::from_der(der).is_err() {
            return Err(CrlError::Malformed("not DER, or not a whole list"));
        }
        let (key_id, number) = read(&list)?;
        let authority = anchor(chain, authorities, &key_id, now)?;
        let issuer_der = chain.first().unwrap_or(&authority);
        let issuer = certificate(issuer_der)?;
        let may = Certificate::parse(issuer_der).ok().is_some_and(|c| {
            c.subject_key_id() == Some(&key_id) && c.key_usage().is_ok_and(|usage| usage.is_none_or(|u| u.crl_sign()))
        });
        if !may || issuer.subject().as_raw() != list.issuer().as_raw() {
            return Err(CrlError::Issuer("is not the one named in it, or may sign no CRLs"));
        }
        let (tbs, signature) = (list.tbs_cert_list.as_ref(), &list.signature_value.data);
        if !signed(&issuer, &list.signature_algorithm, tbs, signature) {
            return Err(CrlError::NotSigned);
        }
        let next_update = list.next_update().ok_or(CrlError::Malformed("it has no nextUpdate"))?;
        Ok(Self {
            issuer: key_id,
            number,
            this_update: UnixTime(list.last_update().timestamp()),
            next_update: UnixTime(next_update.timestamp()),
            issuer_ends: UnixTime(issuer.validity().not_after.timestamp()),
            authority: authority.into_owned(),
        })
    }
}

/// The issuer's key identifier and the number.
fn read(list: &CertificateRevocationList<'_>) -> Result<(Vec<u8>, u64), CrlError> {
    use x509_parser::extensions::ParsedExtension;
    if list.version() != Some(X509Version::V2) || list.tbs_cert_list.signature != list.signature_algorithm {
        return Err(CrlError::Malformed("it is not of version 2, or names two algorithms"));
    }
    // A delta, an indirect list and one for some certificates only say so in a critical extension.
    if list.extensions().iter().any(|extension| extension.critical) {
        return Err(CrlError::Malformed("it has a critical extension"));
    }
    let key_id = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    let key_id = key_id.ok_or(CrlError::Malformed("it does not name its issuer's key"))?;
    let number = list.crl_number().and_then(|number| u64::try_from(number).ok());
    Ok((key_id, number.ok_or(CrlError::Malformed("it has no number below 2^64"))?))
}

/// The authority at the end of the chain, each CA of which the next one signed.
fn anchor<'a>(
    chain: &'a [CertificateDer<'_>],
    authorities: &'a [CertificateDer<'_>],
    key_id: &[u8],
    now: UnixTime,
) -> Result<CertificateDer<'a>, CrlError> {
    if chain.len() > MAX_INTERMEDIATES {
        return Err(CrlError::Issuer("is one too many"));
    }
    let mut below: Option<&CertificateDer<'_>> = None;
    for der in chain {
        is_ca(der, now)?;
        if let Some(below) = below
            && !is_issuer(der, below)?
        {
            return Err(CrlError::NotSigned);
        }
        below = Some(der);
    }
    let fits = |authority: &&CertificateDer<'_>| match below {
        Some(below) => is_issuer(authority, below).unwrap_or(false),
        None => Certificate::parse(authority).is_ok_and(|c| c.subject_key_id() == Some(key_id)),
    };
    let authority = authorities.iter().find(fits).ok_or(CrlError::NotSigned)?;
    is_ca(authority, now)?;
    Ok(CertificateDer::from(&authority[..]))
}

fn is_ca(der: &[u8], now: UnixTime) -> Result<(), CrlError> {
    let certificate = Certificate::parse(der).map_err(|_| CrlError::Issuer("is no certificate"))?;
    match certificate.may_sign_certificates() {
        Ok(true) if now <= certificate.not_after() => Ok(()),
        Ok(true) => Err(CrlError::Issuer("has ended")),
        Ok(false) | Err(_) => Err(CrlError::Issuer("is none")),
    }
}

/// Whether `above` signed `below`.
fn is_issuer(above: &[u8], below: &[u8]) -> Result<bool, CrlError> {
    let (above, below) = (certificate(above)?, certificate(below)?);
    let (tbs, signature) = (below.tbs_certificate.as_ref(), &below.signature_value.data);
    Ok(above.subject().as_raw() == below.issuer().as_raw()
        && signed(&above, &below.signature_algorithm, tbs, signature))
}

fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, CrlError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CrlError::Issuer("is no certificate")),
    }
}

/// Whether the signature is by this CA's key, under the algorithm that is named beside it.
fn signed(by: &X509Certificate<'_>, algorithm: &AlgorithmIdentifier<'_>, tbs: &[u8], signature: &[u8]) -> bool {
    let oid = algorithm.algorithm.as_bytes();
    let Ok(length) = u8::try_from(oid.len()) else { return false };
    // An AlgorithmIdentifier's content: the OID, then parameters. A key of another kind verifies nothing.
    let named = [&[6, length], oid].concat();
    let key = &by.public_key().subject_public_key.data;
    let of_name = ALGORITHMS.iter().filter(|known| known.signature_alg_id().as_ref().starts_with(&named));
    of_name.into_iter().any(|known| known.verify_signature(key, tbs, signature).is_ok())
}
