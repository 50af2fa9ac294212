use std::collections::BTreeMap;

use chancery_sdk::{
    id::TrustDomain,
    jwt::{JwtBundle, JwtBundleSet},
};

use crate::identity::TrustBundle;

/// Public keys of our own and of federated domains, in the forms the Workload API sends.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bundles {
    by_domain: BTreeMap<TrustDomain, Bundle>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Bundle {
    /// Concatenated DER.
    x509: Vec<u8>,
    /// JWK Set.
    jwks: Vec<u8>,
    jwt: JwtBundle,
}

impl Bundles {
    /// Prepares the bundles of these domains.
    pub fn new<'a>(bundles: impl IntoIterator<Item = &'a TrustBundle>) -> Self {
        Self { by_domain: bundles.into_iter().map(|b| (b.trust_domain.clone(), prepared(b))).collect() }
    }

    /// X.509 authorities, concatenated DER; `None` where the domain's bundle is not known.
    pub fn x509(&self, domain: &TrustDomain) -> Option<&[u8]> {
        self.by_domain.get(domain).map(|b| b.x509.as_slice())
    }

    /// JWT authorities as a JWK Set; `None` where the domain's bundle is not known.
    pub fn jwks(&self, domain: &TrustDomain) -> Option<&[u8]> {
        self.by_domain.get(domain).map(|b| b.jwks.as_slice())
    }

    /// JWT authorities of these domains, for verification.
    pub fn jwt<'a>(&self, domains: impl IntoIterator<Item = &'a TrustDomain>) -> JwtBundleSet {
        domains.into_iter().filter_map(|d| self.by_domain.get(d)).map(|b| b.jwt.clone()).collect()
    }

    /// Whether the domain's bundle is known.
    pub fn contains(&self, domain: &TrustDomain) -> bool {
        self.by_domain.contains_key(domain)
    }
}

fn prepared(bundle: &TrustBundle) -> Bundle {
    let mut jwt = JwtBundle::new(bundle.trust_domain.clone());
    for key in &bundle.jwt_authorities {
        // A key we cannot use is one whose tokens do not verify here; the others go on.
        if let Err(error) = jwt.insert(&key.key_id, &key.public_key) {
            tracing::warn!(%error, "JWT authority left out");
        }
    }
    let x509 = bundle.x509_authorities.iter().flat_map(|der| der.iter().copied()).collect();
    Bundle { x509, jwks: jwt.to_jwks(), jwt }
}
