//! Who signs this server's X.509 authorities, where they do not sign themselves.
//!
//! An upstream is asked when an authority is prepared, on a thread that may block. What it answers is judged as if
//! a stranger had sent it: the key, the name, the right to sign, and whether a verifier gets from a leaf to an anchor.

pub mod certified;
pub mod disk;
pub mod nested;
pub mod pkcs11;

use std::{fmt, path::Path, sync::Arc};

use chancery_sdk::{id::TrustDomain, time::UnixTime, x509};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use self::certified::Certified;
use crate::{
    authority::{SignError, offline::Offline, subordinate},
    config::{Upstream as Config, UpstreamKind},
    keys::{KeyError, file::FileError},
    store::Followed,
};

/// Most certificates that go along with a leaf, and most anchors: more than any verifier here follows or needs.
const MAX_CERTIFICATES: usize = 4;
const MAX_ANCHORS: usize = 16;

/// A CA certificate that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The realm it is for.
    pub domain: &'a TrustDomain,
    /// Its key: DER SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// PKCS#10, DER, signed by that key.
    pub csr: &'a [u8],
    /// Now.
    pub now: UnixTime,
    /// Seconds it is to live, if its signer lives as long.
    pub life_secs: i64,
}

/// What an upstream answers.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The CA certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// What goes along with it on the way to an anchor, in order; no anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// What the trust domain publishes for it.
    pub anchors: Vec<CertificateDer<'static>>,
}

/// A JWT key, as the server that has it says.
#[derive(Clone, Debug)]
pub struct JwtKey {
    /// `kid` of its tokens.
    pub id: String,
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Until when it signs.
    pub not_after: UnixTime,
}

/// A CA above this server.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Signs a CA certificate. Called only where blocking is allowed.
    ///
    /// # Errors
    /// [`UpstreamError`]; asked again later.
    fn issue(&self, request: &Request<'_>) -> Result<Issued, UpstreamError>;

    /// Publishes a JWT key of this server, or of one below it, above; the end it has there, which is never after the
    /// key's own. `None`: nobody above publishes keys. Called only where blocking is allowed.
    ///
    /// # Errors
    /// [`UpstreamError`]; the key must not sign yet.
    fn publish(&self, _key: &JwtKey) -> Result<Option<UnixTime>, UpstreamError> {
        Ok(None)
    }

    /// What the bundle above has now; `None` where there is none to follow. Called only where blocking is allowed.
    ///
    /// # Errors
    /// [`UpstreamError`]; what was followed stays.
    fn bundle(&self) -> Result<Option<Vec<Followed>>, UpstreamError> {
        Ok(None)
    }

    /// Whether there is a bundle above to follow.
    fn follows(&self) -> bool {
        false
    }

    /// Why it could not sign now, as far as is known without asking it; `None`: it can, or cannot tell.
    fn away(&self) -> Option<String> {
        None
    }
}

/// Why there is no CA certificate from above.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// It cannot be reached, or refuses.
    #[error("upstream: {0}")]
    Away(String),
    /// What it answered is not what was asked for.
    #[error("the upstream's answer is not usable: {0}")]
    Answer(&'static str),
    /// A file of a `disk` upstream.
    #[error("upstream: {0}")]
    File(#[from] FileError),
    /// The key of a `pkcs11` upstream.
    #[error("upstream.pkcs11: {0}")]
    Key(#[from] KeyError),
    /// The configuration.
    #[error("{0}")]
    Setup(String),
    /// It did not sign.
    #[error("upstream: {0}")]
    Sign(#[from] SignError),
}

/// The upstream that the configuration names; `None` where authorities sign themselves. May block for half a minute.
///
/// # Errors
/// [`UpstreamError`], a line that says what to do: where a key is in a token, that token must be there.
pub fn open(
    config: &Config,
    domain: &TrustDomain,
    data_dir: &Path,
) -> Result<Option<Arc<dyn Upstream>>, UpstreamError> {
    if let (UpstreamKind::Nested, Some(server), Some(socket)) = (config.kind, &config.server, &config.workload_socket) {
        return Ok(Some(Arc::new(nested::Nested::new(domain, server, socket)?)));
    }
    let Some(certificate) = config.certificate.clone() else { return Ok(None) };
    let certified = Certified { certificate, bundle: config.bundle.clone() };
    Ok(match (config.kind, &config.key, &config.pkcs11) {
        (UpstreamKind::Disk, Some(key), _) => Some(Arc::new(disk::Disk { certified, key: key.clone() })),
        (UpstreamKind::Pkcs11, _, Some(key)) => Some(Arc::new(pkcs11::Pkcs11::open(certified, key, data_dir)?)),
        _ => None,
    })
}

/// That the configuration has X.509 authorities signed at a ceremony.
pub fn offline(config: &Config) -> Option<Offline> {
    (config.kind == UpstreamKind::Offline).then(|| Offline { roots: config.bundle.clone() })
}

impl Issued {
    /// Judges the answer; start and end of what may be signed under it, and the key ID of what signed it.
    ///
    /// The end is that of the first to end on the way to an anchor: no authority outlives its upstream.
    ///
    /// # Errors
    /// [`UpstreamError::Answer`].
    pub fn judged(&self, request: &Request<'_>) -> Result<(UnixTime, UnixTime, String), UpstreamError> {
        if self.chain.len() >= MAX_CERTIFICATES || self.anchors.len() > MAX_ANCHORS || self.anchors.is_empty() {
            return Err(UpstreamError::Answer("it has no anchor, or more certificates than a verifier follows"));
        }
        subordinate::judge(&self.certificate, request.domain, request.spki)?;
        let (from, mut to, mut issuer) = read(&self.certificate)?;
        let upstream_id = x509::authority_key_id(&self.certificate).map(hex::encode).unwrap_or_default();
        for der in &self.chain {
            let (_, end, above) = read(der)?;
            (to, issuer) = (to.min(end), above);
        }
        let mut ends = self.anchors.iter().filter_map(|der| {
            let (_, anchor) = X509Certificate::from_der(der).ok()?;
            (anchor.subject().as_raw() == issuer).then(|| UnixTime(anchor.validity().not_after.timestamp()))
        });
        let end = ends.by_ref().max().ok_or(UpstreamError::Answer("its chain leads to none of its anchors"))?;
        let to = to.min(end);
        if to <= request.now {
            return Err(UpstreamError::Answer("it has ended already"));
        }
        Ok((from, to, upstream_id))
    }
}

/// Whether a certificate names itself as its issuer.
pub(crate) fn is_root(der: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, cert)| cert.subject().as_raw() == cert.issuer().as_raw())
}

/// Validity, and the issuer's name.
fn read(der: &[u8]) -> Result<(UnixTime, UnixTime, Vec<u8>), UpstreamError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| UpstreamError::Answer("a certificate of it is not DER"))?;
    let validity = certificate.validity();
    let (from, to) = (UnixTime(validity.not_before.timestamp()), UnixTime(validity.not_after.timestamp()));
    Ok((from, to, certificate.issuer().as_raw().to_vec()))
}

#[cfg(test)]
mod tests;
