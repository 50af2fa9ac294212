use std::time::Duration;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use thiserror::Error;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath, ring as algorithms};

use super::{
    MAX_INTERMEDIATES, X509BundleSet,
    bundle::X509Bundle,
    certificate::Certificate,
    leaf::{LeafError, id_of},
};
use crate::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

/// Signatures accepted on certificates: what SPIFFE implementations issue, and nothing with SHA-1.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why a peer's chain is not trusted.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[allow(missing_docs, reason = "fields repeat the variant's sentence")]
pub enum VerifyError {
    /// The peer sent no certificate.
    #[error("peer sent no certificate")]
    EmptyChain,
    /// A certificate of the path has ended.
    #[error("certificate ended at {not_after}, it is {now}")]
    Expired { not_after: UnixTime, now: UnixTime },
    /// The leaf breaks a rule of X509-SVID.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// No bundle of the leaf's own trust domain, or one without X.509 authorities.
    #[error("no X.509 authority is known for trust domain {0}")]
    NoBundleForTrustDomain(TrustDomain),
    /// A certificate of the path has not begun.
    #[error("certificate begins at {not_before}, it is {now}")]
    NotYetValid { not_before: UnixTime, now: UnixTime },
    /// RFC 5280 path validation failed.
    #[error("path of {id} is not valid: {source}")]
    Path { id: SpiffeId, source: webpki::Error },
    /// More certificates than a verifier is willing to try.
    #[error("chain with {count} intermediates exceeds {max}")]
    TooManyIntermediates { count: usize, max: usize },
    /// No path leads to an authority of the leaf's own trust domain.
    #[error("{0} is not signed by an authority of its trust domain")]
    UnknownAuthority(SpiffeId),
}

/// Who a verified chain speaks for; only [`verify`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// The identity proven.
    pub id: SpiffeId,
    /// Last second of the leaf's validity.
    pub not_after: UnixTime,
    /// The leaf's serial number in decimal digits.
    pub serial_decimal: String,
    /// The leaf, DER.
    pub leaf: CertificateDer<'static>,
}

/// Verifies a peer's chain against the authorities of the trust domain that its leaf names.
///
/// `chain` is leaf first; what follows is path material, never an anchor. Extended key usages are not
/// judged, so a chain means the same in both TLS roles. Possession of the key is for the handshake to prove.
///
/// # Errors
/// [`VerifyError`] saying what is not trusted.
///
/// Source: X509-SVID section 5; RFC 5280 section 6; conformance XS-20, XS-29 to XS-36, CF-17.
pub fn verify(chain: &[CertificateDer<'_>], bundles: &X509BundleSet, now: UnixTime) -> Result<Peer, VerifyError> {
    let Some((leaf_der, intermediates)) = chain.split_first() else { return Err(VerifyError::EmptyChain) };
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(VerifyError::TooManyIntermediates { count: intermediates.len(), max: MAX_INTERMEDIATES });
    }
    let leaf = Certificate::parse(leaf_der).map_err(LeafError::from)?;
    let id = id_of(&leaf)?;
    let domain = id.trust_domain();
    let bundle = match bundles.get(&domain) {
        Some(bundle) if !bundle.is_empty() => bundle,
        _ => return Err(VerifyError::NoBundleForTrustDomain(domain)),
    };
    verify_path(leaf_der, intermediates, bundle, now).map_err(|fault| told(fault, &id, now))?;
    let (not_after, serial_decimal) = (leaf.not_after(), leaf.serial_decimal());
    Ok(Peer { id, not_after, serial_decimal, leaf: leaf_der.clone().into_owned() })
}

fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &X509Bundle,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let authorities = usable_authorities(bundle, now);
    let anchors: Vec<TrustAnchor<'_>> = authorities.iter().map(|authority| authority.anchor.clone()).collect();
    let check = |path: &VerifiedPath<'_>| check_signers(path, &authorities);
    EndEntityCert::try_from(leaf)?.verify_for_usage(
        ALGORITHMS,
        &anchors,
        intermediates,
        rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.0).unwrap_or(0))),
        AnyPurpose,
        None,
        Some(&check),
    )?;
    Ok(())
}

/// An authority that may anchor a path now.
struct Authority<'a> {
    anchor: TrustAnchor<'a>,
    /// How many intermediates may follow.
    path_len: Option<u32>,
}

/// Authorities that are readable CAs inside their validity; a bundle's odd element must not sink the rest.
///
/// RFC 5280 leaves an anchor's times, cA and pathLen to the verifier; like Go's `crypto/x509`, this one honours them.
fn usable_authorities(bundle: &X509Bundle, now: UnixTime) -> Vec<Authority<'_>> {
    bundle.authorities().iter().filter_map(|authority| usable(authority, now)).collect()
}

fn usable<'a>(authority: &'a CertificateDer<'_>, now: UnixTime) -> Option<Authority<'a>> {
    let certificate = Certificate::parse(authority).ok()?;
    let in_time = certificate.not_before() <= now && now <= certificate.not_after();
    if !in_time || !certificate.may_sign_certificates().ok()? {
        return None;
    }
    let path_len = certificate.basic_constraints().ok()?.and_then(|c| c.path_len_constraint);
    Some(Authority { anchor: webpki::anchor_from_trusted_cert(authority).ok()?, path_len })
}

/// Adds what webpki leaves out: keyUsage of the signers, and the anchor's own pathLen.
fn check_signers(path: &VerifiedPath<'_>, authorities: &[Authority<'_>]) -> Result<(), webpki::Error> {
    let mut intermediates = 0;
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let certificate = Certificate::parse(&der).map_err(|_| webpki::Error::BadDer)?;
        if !certificate.may_sign_certificates().map_err(|_| webpki::Error::ExtensionValueInvalid)? {
            return Err(webpki::Error::EndEntityUsedAsCa);
        }
        intermediates += 1;
    }
    let long_enough = |authority: &&Authority<'_>| authority.path_len.is_none_or(|max| intermediates <= max);
    match authorities.iter().filter(|a| a.anchor == *path.anchor()).find(long_enough) {
        Some(_) => Ok(()),
        None => Err(webpki::Error::PathLenConstraintViolated),
    }
}

/// Accepts every extended key usage (CF-17).
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn told(fault: webpki::Error, id: &SpiffeId, now: UnixTime) -> VerifyError {
    let seconds = |at: rustls_pki_types::UnixTime| UnixTime(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    match fault {
        webpki::Error::CertExpired { not_after, .. } => VerifyError::Expired { not_after: seconds(not_after), now },
        webpki::Error::CertNotValidYet { not_before, .. } => {
            VerifyError::NotYetValid { not_before: seconds(not_before), now }
        }
        webpki::Error::UnknownIssuer => VerifyError::UnknownAuthority(id.clone()),
        source => VerifyError::Path { id: id.clone(), source },
    }
}
