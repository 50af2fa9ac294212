use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use super::certificate::{Certificate, CertificateError};
use crate::id::TrustDomain;

/// Authorities of one trust domain; a domain in rotation publishes two or three.
const MAX_AUTHORITIES: usize = 256;
const PEM_LINE: usize = 64; // characters of base64 per line (RFC 7468, section 2)

/// Why an X.509 bundle cannot be built.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum X509BundleError {
    /// One of the certificates cannot be read.
    #[error("authority {index} of {trust_domain}: {source}")]
    BadAuthority {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// Its place in the input, from 0.
        index: usize,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// PEM that is broken, or text in which no certificate is found.
    #[error("text for {0} holds no readable PEM certificate")]
    BadPem(TrustDomain),
    /// More authorities than a verifier is willing to try.
    #[error("bundle of {trust_domain} holds more than {max} authorities")]
    TooMany {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// Authorities allowed.
        max: usize,
    },
}

/// The X.509 authorities of one trust domain: the roots for its leaves and for no others.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509Bundle {
    trust_domain: TrustDomain,
    /// DER, unique, in the order published.
    authorities: Vec<CertificateDer<'static>>,
}

impl X509Bundle {
    /// Makes a bundle without authorities: nothing of the domain is trusted.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, authorities: Vec::new() }
    }

    /// Reads what the Workload API sends: DER certificates one after the other, possibly none.
    ///
    /// # Errors
    /// [`X509BundleError`] naming the authority that cannot be read.
    pub fn from_der_concatenated(trust_domain: TrustDomain, der: &[u8]) -> Result<Self, X509BundleError> {
        let mut bundle = Self::new(trust_domain);
        let mut rest = der;
        let mut index = 0;
        while !rest.is_empty() {
            let (_, used) = Certificate::parse_first(rest).map_err(|source| bundle.bad(index, source))?;
            let (certificate, after) = rest.split_at(used);
            bundle.insert(CertificateDer::from(certificate.to_vec()))?;
            rest = after;
            index += 1;
        }
        Ok(bundle)
    }

    /// Reads PEM certificates; other PEM sections are passed over, blank text is an empty bundle.
    ///
    /// # Errors
    /// [`X509BundleError`] naming the authority that cannot be read, or text without any.
    pub fn from_pem(trust_domain: TrustDomain, pem: &str) -> Result<Self, X509BundleError> {
        let mut bundle = Self::new(trust_domain);
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| X509BundleError::BadPem(bundle.trust_domain.clone()))?;
            bundle.insert(certificate)?;
        }
        if bundle.is_empty() && !pem.trim().is_empty() {
            return Err(X509BundleError::BadPem(bundle.trust_domain));
        }
        Ok(bundle)
    }

    /// Adds an authority; one that is already there stays as it is.
    ///
    /// # Errors
    /// [`X509BundleError`] if the bytes are no certificate, or the bundle is full.
    pub fn insert(&mut self, authority: CertificateDer<'static>) -> Result<(), X509BundleError> {
        Certificate::parse(&authority).map_err(|source| self.bad(self.authorities.len(), source))?;
        if self.authorities.contains(&authority) {
            return Ok(());
        }
        if self.authorities.len() == MAX_AUTHORITIES {
            return Err(X509BundleError::TooMany { trust_domain: self.trust_domain.clone(), max: MAX_AUTHORITIES });
        }
        self.authorities.push(authority);
        Ok(())
    }

    /// The domain these authorities speak for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities, DER, unique, in the order published.
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Whether the domain has no X.509 authority: none of its leaves verifies (XS-48, TB-14).
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// The authorities as the Workload API sends them.
    pub fn to_der_concatenated(&self) -> Vec<u8> {
        self.authorities.iter().flat_map(|authority| authority.iter().copied()).collect()
    }

    /// The authorities as PEM text; empty for an empty bundle.
    pub fn to_pem(&self) -> String {
        self.authorities.iter().map(|authority| pem_of(authority)).collect()
    }

    fn bad(&self, index: usize, source: CertificateError) -> X509BundleError {
        X509BundleError::BadAuthority { trust_domain: self.trust_domain.clone(), index, source }
    }
}

fn pem_of(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Bundles of several trust domains, at most one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct X509BundleSet(BTreeMap<TrustDomain, X509Bundle>);

impl X509BundleSet {
    /// Makes a set in which no domain is trusted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a bundle under its own domain; returns the one it replaces.
    pub fn insert(&mut self, bundle: X509Bundle) -> Option<X509Bundle> {
        self.0.insert(bundle.trust_domain.clone(), bundle)
    }

    /// The bundle of `domain`.
    pub fn get(&self, domain: &TrustDomain) -> Option<&X509Bundle> {
        self.0.get(domain)
    }

    /// The bundles, in order of domain name.
    pub fn iter(&self) -> impl Iterator<Item = &X509Bundle> {
        self.0.values()
    }

    /// How many domains have a bundle.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no domain has a bundle.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<X509Bundle> for X509BundleSet {
    fn from(bundle: X509Bundle) -> Self {
        Self::from_iter([bundle])
    }
}

impl FromIterator<X509Bundle> for X509BundleSet {
    fn from_iter<I: IntoIterator<Item = X509Bundle>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|b| (b.trust_domain.clone(), b)).collect())
    }
}
