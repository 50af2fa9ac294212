use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::key::JwtKey;
use crate::{id::TrustDomain, json::Members};

/// Signing keys of one trust domain; a domain in rotation publishes two or three.
const MAX_KEYS: usize = 256;
/// `use` of a key that signs JWT-SVIDs (JWT-SVID section 6.1).
pub(crate) const USE: &str = "jwt-svid";

/// Why a JWT bundle cannot be built.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum JwtBundleError {
    /// A key of a kind that no JWT-SVID algorithm takes, or a name that is empty.
    #[error("key '{kid}' of {trust_domain} needs a name and an RSA, P-256, P-384 or P-521 key")]
    BadKey {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// The name given.
        kid: String,
    },
    /// The name is taken by another key.
    #[error("key '{kid}' of {trust_domain} is there already")]
    DuplicateKid {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// The name given.
        kid: String,
    },
    /// The document is no JWK Set.
    #[error("JWK Set of {trust_domain} cannot be read: {detail}")]
    Malformed {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// What the JSON parser met.
        detail: String,
    },
    /// More keys than a verifier is willing to hold.
    #[error("JWT bundle of {trust_domain} holds more than {max} keys")]
    TooMany {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// Keys allowed.
        max: usize,
    },
}

/// The keys with which one trust domain signs JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtBundle {
    trust_domain: TrustDomain,
    /// Names unique, in the order published.
    keys: Vec<JwtKey>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Members<Value>>,
}

impl JwtBundle {
    /// Makes a bundle without keys: no token of the domain is trusted.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, keys: Vec::new() }
    }

    /// Reads a JWK Set as the Workload API sends it: `use` is absent or `jwt-svid`, other elements are passed over.
    ///
    /// # Errors
    /// [`JwtBundleError`] if the document is no JWK Set or holds too many keys.
    ///
    /// Source: conformance WA-44, JS-36, JS-37, TB-11 to TB-19.
    pub fn from_jwks(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, JwtBundleError> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|fault| JwtBundleError::Malformed {
            trust_domain: trust_domain.clone(),
            detail: fault.to_string(),
        })?;
        let mut bundle = Self::new(trust_domain);
        for Members(members) in set.keys {
            let jwk: Map<String, Value> = members.into_iter().collect();
            if jwk.get("use").is_none_or(|purpose| purpose == USE) {
                bundle.take(&jwk)?;
            }
        }
        Ok(bundle)
    }

    /// The keys as the Workload API sends them: a JWK Set without `use`.
    pub fn to_jwks(&self) -> Vec<u8> {
        let keys: Vec<_> = self.keys.iter().map(JwtKey::to_jwk).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    /// Adds a key under a name of its own; `spki` is DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`JwtBundleError`] if the key is of no use, its name is taken, or the bundle is full.
    pub fn insert(&mut self, kid: &str, spki: &[u8]) -> Result<(), JwtBundleError> {
        let named = |kid: &str| (self.trust_domain.clone(), kid.to_owned());
        let Some(key) = JwtKey::from_spki(kid, spki) else {
            let (trust_domain, kid) = named(kid);
            return Err(JwtBundleError::BadKey { trust_domain, kid });
        };
        if self.key(kid).is_some() {
            let (trust_domain, kid) = named(kid);
            return Err(JwtBundleError::DuplicateKid { trust_domain, kid });
        }
        self.push(key)
    }

    /// Adds the key of one element; an element that holds none, or whose name is taken, is passed over.
    pub(crate) fn take(&mut self, jwk: &Map<String, Value>) -> Result<(), JwtBundleError> {
        match JwtKey::from_jwk(jwk) {
            Some(key) if self.key(key.kid()).is_none() => self.push(key),
            _ => Ok(()),
        }
    }

    fn push(&mut self, key: JwtKey) -> Result<(), JwtBundleError> {
        if self.keys.len() == MAX_KEYS {
            return Err(JwtBundleError::TooMany { trust_domain: self.trust_domain.clone(), max: MAX_KEYS });
        }
        self.keys.push(key);
        Ok(())
    }

    /// The domain these keys speak for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The keys, names unique, in the order published.
    pub fn keys(&self) -> &[JwtKey] {
        &self.keys
    }

    /// The key of that name.
    pub fn key(&self, kid: &str) -> Option<&JwtKey> {
        self.keys.iter().find(|key| key.kid() == kid)
    }

    /// Whether the domain has no key: none of its tokens verifies (JS-38, TB-14).
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Bundles of several trust domains, at most one each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JwtBundleSet(BTreeMap<TrustDomain, JwtBundle>);

impl JwtBundleSet {
    /// Makes a set in which no domain is trusted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a bundle under its own domain; returns the one it replaces.
    pub fn insert(&mut self, bundle: JwtBundle) -> Option<JwtBundle> {
        self.0.insert(bundle.trust_domain.clone(), bundle)
    }

    /// The bundle of `domain`.
    pub fn get(&self, domain: &TrustDomain) -> Option<&JwtBundle> {
        self.0.get(domain)
    }

    /// The bundles, in order of domain name.
    pub fn iter(&self) -> impl Iterator<Item = &JwtBundle> {
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

impl From<JwtBundle> for JwtBundleSet {
    fn from(bundle: JwtBundle) -> Self {
        Self::from_iter([bundle])
    }
}

impl FromIterator<JwtBundle> for JwtBundleSet {
    fn from_iter<I: IntoIterator<Item = JwtBundle>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|b| (b.trust_domain.clone(), b)).collect())
    }
}
