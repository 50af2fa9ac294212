use crate::key::PublicKey;
use serde_json::{Map, Value};

/// A public key that signs JWT-SVIDs, under the name its tokens carry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtKey {
    kid: String,
    key: PublicKey,
}

impl JwtKey {
    /// Pairs a name with DER SubjectPublicKeyInfo; `None` for an empty name or a key that no JWT-SVID algorithm takes.
    pub(super) fn from_spki(kid: &str, spki: &[u8]) -> Option<Self> {
        Self::new(kid, PublicKey::from_spki(spki)?)
    }

    /// Reads a JWK; `None` if it has no name, or no key that a JWT-SVID algorithm takes.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Option<Self> {
        Self::new(jwk.get("kid")?.as_str()?, PublicKey::from_jwk(jwk)?)
    }

    fn new(kid: &str, key: PublicKey) -> Option<Self> {
        // None of the nine algorithms signs with Edwards curves (JWT-SVID section 2.1).
        let usable = !kid.is_empty() && !matches!(key, PublicKey::Ed25519(_));
        usable.then(|| Self { kid: kid.to_owned(), key })
    }

    /// The key's name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.key.to_spki()
    }

    /// The JWK: `kty`, the key's parameters and `kid`, without `use`.
    pub(crate) fn to_jwk(&self) -> Map<String, Value> {
        let mut jwk = self.key.to_jwk();
        jwk.insert("kid".into(), self.kid.as_str().into());
        jwk
    }

    #[cfg(feature = "jwt")]
    pub(super) fn key(&self) -> &PublicKey {
        &self.key
    }
}
