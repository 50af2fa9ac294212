use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{Bundle, BundleError, document::Document};
use crate::{
    id::{IdError, TrustDomain},
    json::Members,
};

/// Why a bundle map cannot be taken or built; a map that fails in one member fails as a whole.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum BundleMapError {
    /// A member's bundle cannot be taken.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A member's name is no trust domain name.
    #[error("bundle map names '{name}': {source}")]
    BadName {
        /// The name as it stands in the document.
        name: String,
        /// The rule it breaks.
        source: IdError,
    },
    /// The domain is in the map already.
    #[error("bundle map holds {0} already")]
    Duplicate(TrustDomain),
    /// The document has not the shape of a bundle map, or names a member twice.
    #[error("bundle map cannot be read: {0}")]
    Malformed(String),
}

/// Bundles of several trust domains in one document, taken as the state of the world.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BundleMap(BTreeMap<TrustDomain, Bundle>);

#[derive(Deserialize)]
struct MapDocument {
    trust_domains: Members<Document>,
}

impl BundleMap {
    /// Makes a map of no domains.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a bundle map; refresh hints of its members are dropped (TB-32).
    ///
    /// # Errors
    /// [`BundleMapError`]; the caller keeps the map it had.
    ///
    /// Source: SPIFFE Trust Domain and Bundle section 5; conformance TB-27 to TB-33.
    pub fn from_json(json: &[u8]) -> Result<Self, BundleMapError> {
        let document: MapDocument =
            serde_json::from_slice(json).map_err(|fault| BundleMapError::Malformed(fault.to_string()))?;
        let mut map = Self::new();
        for (name, member) in document.trust_domains.0 {
            let domain = TrustDomain::new(&name).map_err(|source| BundleMapError::BadName { name, source })?;
            map.insert(Bundle { refresh_hint: None, ..Bundle::from_document(domain, member)? })?;
        }
        Ok(map)
    }

    /// Writes the document; members carry no refresh hint (TB-31).
    pub fn to_json(&self) -> Vec<u8> {
        let member = |(domain, bundle): (&TrustDomain, &Bundle)| (domain.name().to_owned(), bundle.to_value());
        let members: Map<String, Value> = self.0.iter().map(member).collect();
        json!({ "trust_domains": members }).to_string().into_bytes()
    }

    /// Adds a bundle.
    ///
    /// # Errors
    /// [`BundleMapError::Duplicate`] if its domain is there (TB-29).
    pub fn insert(&mut self, bundle: Bundle) -> Result<(), BundleMapError> {
        let domain = bundle.trust_domain().clone();
        if self.0.contains_key(&domain) {
            return Err(BundleMapError::Duplicate(domain));
        }
        self.0.insert(domain, bundle);
        Ok(())
    }

    /// The bundle of `domain`.
    pub fn get(&self, domain: &TrustDomain) -> Option<&Bundle> {
        self.0.get(domain)
    }

    /// The bundles, in order of domain name.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.0.values()
    }
}
