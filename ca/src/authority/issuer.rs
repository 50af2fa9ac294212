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
    chain::Chain,
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
    /// In the bundle instead of this authority; empty where it is there itself.
    anchors: Vec<CertificateDer<'static>>,
    certificate: CertificateDer<'static>,
    key: Arc<dyn Signer>,
    parts: IssuerParts,
    /// Where this is a delegated issuer: the authority that signed it.
    delegated: Option<Delegated>,
}

/// What stands behind a delegated issuer.
struct Delegated {
    /// Signs CAs, and the next delegated issuer.
    by: Box<X509Issuer>,
    /// When the next is made: at half of this one's life.
    renew_at: UnixTime,
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

/// A request for a certificate of `key`, for a CA of this trust domain. PKCS#10, DER.
pub(super) fn request(domain: &TrustDomain, key: &Arc<dyn Signer>) -> Result<Vec<u8>, SignError> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![rcgen::SanType::URI(domain.id().to_string().as_str().try_into()?)];
    Ok(params.serialize_request(&RcgenKey::new(key)?)?.der().to_vec())
}

impl fmt::Debug for X509Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Issuer").field("id", &self.id).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl X509Issuer {
    pub(super) fn new(authority: &Authority, key: Arc<dyn Signer>) -> Result<Self, SignError> {
        let issuer = Self::read(&authority.public, &authority.chain, authority.not_after, key)?;
        Ok(Self { id: authority.id.clone(), ..issuer })
    }

    /// `certificate` is DER, `chain` as in [`Authority::chain`].
    pub(super) fn read(
        certificate: &[u8],
        chain: &[u8],
        not_after: UnixTime,
        key: Arc<dyn Signer>,
    ) -> Result<Self, SignError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| SignError::Mismatch("authority"))?;
        if parsed.public_key().raw != key.spki() {
            return Err(SignError::Mismatch("authority's key"));
        }
        let key_id = x509::subject_key_id(&certificate).ok_or(SignError::Mismatch("authority's key identifier"))?;
        let parts = IssuerParts::new(parsed.subject().as_raw(), &key_id, key.key_type());
        let Chain { sent, anchors } = Chain::parse(chain).ok_or(SignError::Mismatch("authority's chain"))?;
        let id = hex::encode(&key_id);
        Ok(Self { id, not_after, chain: sent, anchors, certificate, key, parts, delegated: None })
    }

    /// Signs a leaf whose end was checked.
    pub(super) fn sign(&self, leaf: &Leaf) -> Result<CertificateDer<'static>, SignError> {
        let tbs = der::tbs(leaf, &self.parts)?;
        Ok(CertificateDer::from(der::certificate(&tbs, &self.parts, &self.key.sign(&tbs)?)))
    }

    /// Hands the signing of leaves to a key in memory that this authority signs, for at most `life_secs`.
    ///
    /// Its path length is 0; it keeps the authority's ID, under which what it signs is recorded.
    pub(super) fn delegate(self, domain: &TrustDomain, life_secs: i64, now: UnixTime) -> Result<Self, SignError> {
        let key = MemoryKeys::default().generate("delegated", KeyType::EcP256)?;
        let parent = Parent::new(&self.certificate, Arc::clone(&self.key))?;
        let (not_before, until) = parent.validity(now, life_secs);
        let not_after = until.min(self.not_after);
        let (spki, common_name, path_len) = (key.spki(), Some("delegated issuer"), Some(0));
        let der = parent.sign(&Draft { domain, spki, common_name, path_len, not_before, not_after })?;
        let below = Self::read(&der, &[], not_after, key)?;
        let own = std::slice::from_ref(&self.certificate);
        let anchors = if self.anchors.is_empty() { own.to_vec() } else { self.anchors.clone() };
        let chain = std::iter::once(der).chain(self.chain.iter().cloned()).collect();
        let renew_at = now.plus(not_after.since(now) / 2);
        let (id, delegated) = (self.id.clone(), Some(Delegated { by: Box::new(self), renew_at }));
        Ok(Self { id, chain, anchors, delegated, ..below })
    }

    /// Lower-case hex of its own key identifier: its ID, but for a delegated issuer.
    pub(super) fn key_id(&self) -> Result<String, SignError> {
        x509::subject_key_id(&self.certificate)
            .map(hex::encode)
            .ok_or(SignError::Mismatch("authority's key identifier"))
    }

    /// The CA as one that signs lists.
    pub(super) fn of_lists(&self) -> Result<Parent, SignError> {
        Parent::of_lists(&self.certificate, Arc::clone(&self.key))
    }

    /// Whether this is a delegated issuer.
    pub(super) fn is_delegated(&self) -> bool {
        self.delegated.is_some()
    }

    /// Whether a delegated issuer is to be followed by the next.
    pub(super) fn is_worn(&self, now: UnixTime) -> bool {
        self.delegated.as_ref().is_some_and(|delegated| delegated.renew_at <= now)
    }

    /// Signs a CA below this authority: its chain without a root, and its serial and end.
    pub(super) fn sign_ca(
        &self,
        domain: &TrustDomain,
        request: &CaRequest<'_>,
        now: UnixTime,
    ) -> Result<(Vec<CertificateDer<'static>>, CertRef), SignError> {
        if let Some(delegated) = &self.delegated {
            return delegated.by.sign_ca(domain, request, now);
        }
        let parent = Parent::new(&self.certificate, Arc::clone(&self.key))?;
        let (not_before, not_after) = parent.validity(now, request.life_secs);
        let path_len = parent.path_len_below(None);
        let (spki, common_name) = (request.spki, None);
        let draft = Draft { domain, spki, common_name, path_len, not_before, not_after };
        let der = parent.sign(&draft)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| SignError::Mismatch("shape"))?;
        let cert = CertRef { serial: parsed.serial.to_string(), expires_at: not_after };
        let chain = std::iter::once(der).chain(self.chain.iter().cloned()).collect();
        Ok((chain, cert))
    }

    /// Signs a probe with the leaf profile and judges it as a verifier would, before anybody is given one.
    pub(super) fn lint(&self, domain: &TrustDomain, now: UnixTime) -> Result<(), SignError> {
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
        let own = [self.certificate.clone()];
        for anchor in if self.anchors.is_empty() { own.as_slice() } else { &self.anchors } {
            bundle.insert(anchor.clone()).map_err(|_| SignError::Mismatch("authority in the bundle"))?;
        }
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        let chain: Vec<_> = std::iter::once(der).chain(self.chain.iter().cloned()).collect();
        Ok(x509::verify(&chain, &set, now).map(drop)?)
    }
}

#[cfg(test)]
mod tests;
