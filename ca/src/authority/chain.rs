//! The certificates of an authority that an upstream signed, as one value of its record.
//!
//! First what goes along with a leaf, the authority's own certificate at its head; then a DER NULL; then the anchors,
//! which the trust domain publishes in the authority's place. An authority that signed itself has none of these.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::store::Authority;

/// Stands between certificates and anchors: no certificate begins with it.
const NULL: &[u8] = &[5, 0];

/// The way from an authority's leaves to what the bundle has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Chain {
    /// Goes along with each leaf, in order.
    pub sent: Vec<CertificateDer<'static>>,
    /// In the bundle.
    pub anchors: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// Reads the value of a record; `None` where it is no such value.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (sent, rest) = certificates(bytes)?;
        let (anchors, rest) = certificates(rest.strip_prefix(NULL)?)?;
        (rest.is_empty() && !sent.is_empty() && !anchors.is_empty()).then_some(Self { sent, anchors })
    }

    /// The value for a record.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let parts = |list: &'_ [CertificateDer<'static>]| list.iter().flat_map(|der| der.to_vec()).collect::<Vec<u8>>();
        [parts(&self.sent), NULL.to_vec(), parts(&self.anchors)].concat()
    }
}

/// What the bundle has for an authority: itself, or its anchors, each in the form of an authority.
pub(crate) fn in_bundle(authority: &Authority) -> Vec<Authority> {
    if authority.chain.is_empty() {
        return vec![authority.clone()];
    }
    let Some(chain) = Chain::parse(&authority.chain) else {
        tracing::error!(authority = authority.id, "anchors left out of the bundle: the record is not readable");
        return Vec::new();
    };
    let anchor = |der: CertificateDer<'_>| Authority {
        id: chancery_sdk::x509::subject_key_id(&der).map(hex::encode).unwrap_or_default(),
        public: der.to_vec(),
        chain: Vec::new(),
        tainted_at: None,
        ..authority.clone()
    };
    flagged(authority).into_iter().chain(chain.anchors.into_iter().map(anchor)).collect()
}

/// An authority below an upstream while it is tainted: no verifier needs it in the bundle, but whoever holds what it
/// signed learns there that it must go.
pub(crate) fn flagged(authority: &Authority) -> Vec<Authority> {
    match authority.tainted_at {
        Some(_) => vec![Authority { chain: Vec::new(), ..authority.clone() }],
        None => Vec::new(),
    }
}

/// Certificates one after the other; as many as can be read.
pub(crate) fn concatenated(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    certificates(bytes).map(|(list, _)| list).unwrap_or_default()
}

/// Certificates up to what is none, and the rest.
fn certificates(mut bytes: &[u8]) -> Option<(Vec<CertificateDer<'static>>, &[u8])> {
    let mut list = Vec::new();
    while bytes.first().is_some_and(|first| *first != 5) {
        let (rest, _) = X509Certificate::from_der(bytes).ok()?;
        let (one, rest) = bytes.split_at_checked(bytes.len().checked_sub(rest.len())?)?;
        list.push(CertificateDer::from(one.to_vec()));
        bytes = rest;
    }
    Some((list, bytes))
}
