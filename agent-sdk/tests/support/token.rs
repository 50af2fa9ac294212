//! A JWT authority in memory.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_sdk::{id::TrustDomain, jwt::JwtBundle};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

/// DER SubjectPublicKeyInfo of a P-256 key up to its point (RFC 5480).
const P256_SPKI_PREFIX: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

pub struct JwtAuthority {
    domain: TrustDomain,
    key: EcdsaKeyPair,
}

impl JwtAuthority {
    pub fn new(domain: &str) -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        Self { domain: TrustDomain::new(domain).unwrap(), key }
    }

    /// The bundle in the form of the Workload API: map key and JWKS.
    pub fn entry(&self) -> (String, Vec<u8>) {
        let mut bundle = JwtBundle::new(self.domain.clone());
        let spki = [P256_SPKI_PREFIX, self.key.public_key().as_ref()].concat();
        bundle.insert("k", &spki).unwrap();
        (self.domain.id().to_string(), bundle.to_jwks())
    }

    /// A token for `audience`, good for five minutes.
    pub fn token(&self, path: &str, audience: &str) -> String {
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = part(json!({"alg": "ES256", "kid": "k"}));
        let sub = format!("{}{path}", self.domain.id());
        let claims = part(json!({"sub": sub, "aud": [audience], "exp": super::now().0 + 300}));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
