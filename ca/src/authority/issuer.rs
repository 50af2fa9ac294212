//! Authorities in use: a certificate or key ID, and the key that signs.

use std::{fmt, sync::Arc};

use chancery_core::{
    leaf::{self, Leaf},
    lifetime::{Limits, Profile},
    node::CertRef,
};
use chancery_daemon::{key_type::KeyType, public_key::PublicKey};
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    x509::{self, X509Bundle, X509BundleSet},
};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    CaRequest, SignError,
    der::{self, IssuerParts},
    profile,
    subordinate::{Draft, Parent},
};
use crate::{
    crypto,
    keys::{KeyError, KeyStore, MemoryKeys, Signer},
    store::Authority,
};

/// The JWT authority that signs.
#[derive(Debug)]
pub(super) struct JwtIssuer {
    /// Key ID.
    pub id: String,
    /// No token ends later.
    pub not_after: UnixTime,
    /// Signs.
    pub key: Arc<dyn Signer>,
}

impl JwtIssuer {
    pub(super) fn new(authority: &Authority, key: Arc<dyn Signer>) -> Self {
        Self { id: authority.id.clone(), not_after: authority.not_after, key }
    }
}

/// The X.509 authority that signs.
pub(super) struct X509Issuer {
    /// Hex of the subject key identifier.
    pub id: String,
    /// No leaf ends later.
    pub not_after: UnixTime,
    /// Goes along with each leaf; empty where this authority is in the bundle.
    pub chain: Vec<CertificateDer<'static>>,
    certificate: CertificateDer<'static>,
    key: Arc<dyn Signer>,
    parts: IssuerParts,
}

/// A signer in the form rcgen takes.
#[derive(Debug)]
pub(super) struct RcgenKey {
    key: Arc<dyn Signer>,
    public: PublicKey,
}

impl RcgenKey {
    pub(super) fn new(key: &Arc<dyn Signer>) -> Result<Self, SignError> {
        let public = PublicKey::from_spki(key.spki()).ok_or(SignError::Mismatch("public key"))?;
        Ok(Self { key: Arc::clone(key), public })
    }
}

impl PublicKeyData for RcgenKey {
    fn der_bytes(&self) -> &[u8] {
        self.public.bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.public.kind() {
            KeyType::EcP256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::EcP384 => &PKCS_ECDSA_P384_SHA384,
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => &PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for RcgenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message).map_err(|problem| {
            // rcgen's error has no room for the reason.
            tracing::error!(%problem, "authority key does not sign");
            rcgen::Error::RemoteKeyError
        })
    }
}

pub(super) fn serial() -> Result<[u8; 16], SignError> {
    crypto::serial().ok_or(SignError::Key(KeyError::Randomness))
}

/// A new authority's certificate, parsed back and compared.
pub(super) fn self_signed(
    domain: &TrustDomain,
    key: &Arc<dyn Signer>,
    not_before: UnixTime,
    not_after: UnixTime,
) -> Result<CertificateDer<'static>, SignError> {
    let serial = serial()?;
    let signer = RcgenKey::new(key)?;
    let params = profile::authority(domain, signer.public.bits(), serial, not_before, not_after)?;
    let der = params.self_signed(&signer)?.der().clone();
    let uri = domain.id().to_string();
    let want = profile::Expected { uri, dns_names: &[], spki: key.spki(), serial, not_before, not_after, is_ca: true };
    profile::compare(&der, &want)?;
    Ok(der)
}

/// Parses a signed leaf back and compares it with its decision.
pub(super) fn compare_leaf(der: &[u8], leaf: &Leaf) -> Result<(), SignError> {
    let want = profile::Expected {
        uri: leaf.id().to_string(),
        dns_names: leaf.dns_names(),
        spki: leaf.spki_der(),
        serial: leaf.serial(),
        not_before: leaf.not_before(),
        not_after: leaf.not_after(),
        is_ca: false,
    };
    profile::compare(der, &want)
}

/// Certificates in DER, one after the other.
fn certificates(mut der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut list = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).ok()?;
        let (one, rest) = der.split_at_checked(der.len() - rest.len())?;
        list.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    Some(list)
}

impl fmt::Debug for X509Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Issuer").field("id", &self.id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl X509Issuer {
    pub(super) fn new(authority: &Authority, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let certificate = CertificateDer::from(authority.public.clone());
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| SignError::Mismatch("authority"))?;
        if parsed.public_key().raw != key.spki() {
            return Err(SignError::Mismatch("authority's key"));
        }
        let key_id = x509::subject_key_id(&certificate).ok_or(SignError::Mismatch("authority's key identifier"))?;
        let parts = IssuerParts::new(parsed.subject().as_raw(), &key_id, key.key_type());
        let (id, not_after) = (authority.id.clone(), authority.not_after);
        let chain = certificates(&authority.chain).ok_or(SignError::Mismatch("authority's chain"))?;
        Ok(Self { id, not_after, chain, certificate, key, parts })
    }

    /// A CA certificate and its key, without an authority on record.
    #[cfg(test)]
    pub(super) fn of(certificate: &CertificateDer<'static>, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignError::Mismatch("authority"))?;
        let key_id = x509::subject_key_id(certificate).ok_or(SignError::Mismatch("authority's key identifier"))?;
        let parts = IssuerParts::new(parsed.subject().as_raw(), &key_id, key.key_type());
        let not_after = UnixTime(parsed.validity().not_after.timestamp());
        Ok(Self {
            id: hex::encode(&key_id),
            not_after,
            chain: Vec::new(),
            certificate: certificate.clone(),
            key,
            parts,
        })
    }

    /// Signs a leaf whose end was checked.
    pub(super) fn sign(&self, leaf: &Leaf) -> Result<CertificateDer<'static>, SignError> {
        let tbs = der::tbs(leaf, &self.parts)?;
        Ok(CertificateDer::from(der::certificate(&tbs, &self.parts, &self.key.sign(&tbs)?)))
    }

    /// Signs a CA below this authority: its chain without a root, and its serial and end.
    pub(super) fn sign_ca(
        &self,
        domain: &TrustDomain,
        request: &CaRequest<'_>,
        now: UnixTime,
    ) -> Result<(Vec<CertificateDer<'static>>, CertRef), SignError> {
        let parent = Parent::new(&self.certificate, Arc::clone(&self.key))?;
        let (not_before, not_after) = parent.validity(now, request.life_secs);
        let path_len = parent.path_len_below(None);
        let (spki, common_name) = (request.spki, None);
        let draft = Draft { domain, spki, common_name, path_len, not_before, not_after };
        let der = parent.sign(&draft)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| SignError::Mismatch("shape"))?;
        let cert = CertRef { serial: parsed.serial.to_string(), expires_at: not_after };
        Ok((vec![der], cert))
    }

    /// Signs a probe with the leaf profile and judges it as a verifier would, before anybody is given one.
    pub(super) fn lint(&self, domain: &TrustDomain, now: UnixTime) -> Result<(), SignError> {
        let mismatch = |_| SignError::Mismatch("probe");
        let key = MemoryKeys::default().generate("probe", KeyType::EcP256)?;
        let limits = Limits { issuer: self.not_after, node: None };
        let profile = Profile::new(60, 60).map_err(|_| SignError::Mismatch("probe's lifetime"))?;
        // An authority about to end is replaced, not linted.
        let Ok(validity) = profile.clamp(0, limits, now) else { return Ok(()) };
        let leaf = leaf::for_server(domain, key.spki(), validity, serial()?)
            .map_err(|_| SignError::Mismatch("probe's decision"))?;
        let der = self.sign(&leaf)?;
        compare_leaf(&der, &leaf)?;
        let mut bundle = X509Bundle::new(domain.clone());
        bundle.insert(self.certificate.clone()).map_err(|_| SignError::Mismatch("authority in the bundle"))?;
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        x509::verify(&[der], &set, now).map(drop).map_err(mismatch)
    }
}

#[cfg(test)]
mod tests;
