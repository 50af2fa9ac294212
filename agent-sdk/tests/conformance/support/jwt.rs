use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_sdk::{
    id::TrustDomain,
    jwt::{JwtBundle, JwtBundleSet, JwtError, JwtSvid},
};
use serde_json::{Value, json};

use super::{NOW, W};

/// The audience that verifiers in these tests are.
pub const AUDIENCE: &str = "spiffe://example.org/server";

enum Key {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
}

/// A signing key with the algorithm it signs with.
pub struct Signer {
    pub alg: &'static str,
    pub kid: &'static str,
    key: Key,
}

pub const ALL: [&str; 9] = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];

impl Signer {
    /// A P-256 key named `k1`.
    pub fn es256() -> Self {
        Self::new("ES256")
    }

    pub fn new(alg: &'static str) -> Self {
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| Key::Ec(EcdsaKeyPair::generate(algorithm).unwrap());
        let rsa = |e: &'static dyn RsaEncoding| Key::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()), e);
        let key = match alg {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "ES512" => ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            other => panic!("no such algorithm: {other}"),
        };
        Self { alg, kid: "k1", key }
    }

    /// The same key under another name.
    pub fn named(self, kid: &'static str) -> Self {
        Self { kid, ..self }
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.key {
            Key::Ec(key) => key.public_key().as_der().unwrap(),
            Key::Rsa(key, _) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    pub fn header(&self) -> Value {
        json!({ "alg": self.alg, "kid": self.kid, "typ": "JWT" })
    }

    /// A valid token.
    pub fn token(&self) -> String {
        self.sign(&self.header(), &claims())
    }

    /// A token with a fault in its claims.
    pub fn token_with(&self, fault: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        fault(&mut claims);
        self.sign(&self.header(), &claims)
    }

    /// A token with a fault in its header.
    pub fn token_with_header(&self, fault: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header();
        fault(&mut header);
        self.sign(&header, &claims())
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs texts as they are, JSON or not.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ec(key) => key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn bundle(&self, domain: TrustDomain) -> JwtBundle {
        let mut bundle = JwtBundle::new(domain);
        bundle.insert(self.kid, &self.spki()).unwrap();
        bundle
    }

    /// Bundles in which this key signs for `example.org`.
    pub fn trusted(&self) -> JwtBundleSet {
        JwtBundleSet::from(self.bundle(super::td()))
    }
}

pub fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Valid claims of a token for [`AUDIENCE`].
pub fn claims() -> Value {
    json!({ "sub": W, "aud": [AUDIENCE], "exp": NOW.0 + 300, "iat": NOW.0 })
}

/// Verifies a token for [`AUDIENCE`] at [`NOW`], without leeway.
pub fn check(token: &str, bundles: &JwtBundleSet) -> Result<JwtSvid, JwtError> {
    JwtSvid::verify(token, bundles, AUDIENCE, NOW, 0)
}
