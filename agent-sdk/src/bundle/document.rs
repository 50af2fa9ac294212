use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::{
    id::TrustDomain,
    json::Members,
    jwt::{self, JwtBundle, JwtBundleError},
    key::PublicKey,
    x509::{X509Bundle, X509BundleError, spki_of},
};

/// `use` of a certificate that signs X509-SVIDs (X509-SVID section 6.1).
const USE_X509: &str = "x509-svid";

/// Why a bundle document cannot be taken.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum BundleError {
    /// The JWT keys cannot be held.
    #[error(transparent)]
    Jwt(#[from] JwtBundleError),
    /// The document has not the shape of a SPIFFE bundle.
    #[error("bundle of {trust_domain} cannot be read: {detail}")]
    Malformed {
        /// The domain whose bundle it is.
        trust_domain: TrustDomain,
        /// What the JSON parser met.
        detail: String,
    },
    /// The X.509 authorities cannot be held.
    #[error(transparent)]
    X509(#[from] X509BundleError),
}

/// A trust bundle: everything one trust domain publishes about its authorities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    /// Authorities for X509-SVIDs.
    pub x509: X509Bundle,
    /// Keys for JWT-SVIDs.
    pub jwt: JwtBundle,
    /// `spiffe_sequence`: grows with every change of content.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: seconds between polls that the publisher advises.
    pub refresh_hint: Option<u64>,
}

/// The document as read; element by element, so that an odd one does not sink the rest.
#[derive(Deserialize)]
pub(super) struct Document {
    keys: Vec<Members<Value>>,
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
}

impl Bundle {
    /// Makes a bundle without authorities: nothing of the domain is trusted.
    pub fn new(trust_domain: TrustDomain) -> Self {
        let (x509, jwt) = (X509Bundle::new(trust_domain.clone()), JwtBundle::new(trust_domain));
        Self { x509, jwt, sequence: None, refresh_hint: None }
    }

    /// Reads a SPIFFE bundle document; elements that cannot be used are passed over.
    ///
    /// # Errors
    /// [`BundleError`] if the document is no JWK Set with a `keys` array, or holds too much.
    ///
    /// Source: SPIFFE Trust Domain and Bundle section 4; conformance TB-01 to TB-19, XS-45 to XS-49, JS-36.
    pub fn from_json(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, BundleError> {
        match serde_json::from_slice(json) {
            Ok(document) => Self::from_document(trust_domain, document),
            Err(fault) => Err(BundleError::Malformed { trust_domain, detail: fault.to_string() }),
        }
    }

    pub(super) fn from_document(trust_domain: TrustDomain, document: Document) -> Result<Self, BundleError> {
        let mut bundle = Self::new(trust_domain);
        bundle.sequence = document.spiffe_sequence;
        bundle.refresh_hint = document.spiffe_refresh_hint;
        for Members(members) in document.keys {
            let jwk: Map<String, Value> = members.into_iter().collect();
            match jwk.get("use").and_then(Value::as_str) {
                Some(jwt::USE) => bundle.jwt.take(&jwk)?,
                Some(USE_X509) => {
                    if let Some(authority) = authority_of(&jwk) {
                        bundle.x509.insert(authority)?;
                    }
                }
                // Missing, unknown or wrongly cased: not for us (TB-16 to TB-18).
                _ => {}
            }
        }
        Ok(bundle)
    }

    /// Writes the bundle document.
    ///
    /// Source: conformance TB-03, TB-08, TB-11, TB-19 to TB-22, XS-39 to XS-43, JS-34 to JS-36.
    pub fn to_json(&self) -> Vec<u8> {
        let mut document = self.to_value();
        if let (Some(hint), Some(members)) = (self.refresh_hint, document.as_object_mut()) {
            members.insert("spiffe_refresh_hint".into(), hint.into());
        }
        document.to_string().into_bytes()
    }

    /// The document without its refresh hint, which members of a bundle map leave out (TB-31).
    pub(super) fn to_value(&self) -> Value {
        let x509 = self.x509.authorities().iter().filter_map(|authority| x509_jwk(authority));
        let jwt = self.jwt.keys().iter().map(|key| with_use(key.to_jwk(), jwt::USE));
        let mut document = json!({ "keys": x509.chain(jwt).collect::<Vec<_>>() });
        if let (Some(sequence), Some(members)) = (self.sequence, document.as_object_mut()) {
            members.insert("spiffe_sequence".into(), sequence.into());
        }
        document
    }

    /// The domain all of this is about.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.x509.trust_domain()
    }
}

/// Takes the first certificate of `x5c`, if it is one and its key is the one the element names (XS-45, XS-46, XS-49).
fn authority_of(jwk: &Map<String, Value>) -> Option<CertificateDer<'static>> {
    let der = STANDARD.decode(jwk.get("x5c")?.as_array()?.first()?.as_str()?).ok()?;
    let certified = PublicKey::from_spki(&spki_of(&der).ok()?)?;
    (PublicKey::from_jwk(jwk)? == certified).then(|| CertificateDer::from(der))
}

/// Writes the element of one authority; `None` for a key that has no JWK form, which no consumer could read.
fn x509_jwk(authority: &CertificateDer<'_>) -> Option<Map<String, Value>> {
    let mut jwk = PublicKey::from_spki(&spki_of(authority).ok()?)?.to_jwk();
    jwk.insert("x5c".into(), json!([STANDARD.encode(authority)]));
    Some(with_use(jwk, USE_X509))
}

fn with_use(mut jwk: Map<String, Value>, purpose: &str) -> Map<String, Value> {
    jwk.insert("use".into(), purpose.into());
    jwk
}
