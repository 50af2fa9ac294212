//! X.509 messages of the Workload API, read as complete state (never merged with what came before).

use std::{collections::HashMap, sync::Arc};

use chancery_proto::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use super::UpdateError;
use crate::{
    id::{SpiffeId, TrustDomain},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};

/// One identity the workload was granted.
#[derive(Clone, Debug)]
pub struct IssuedSvid {
    /// The certificate chain and its key.
    pub svid: Arc<X509Svid>,
    /// The operator's label for it; empty when there is none.
    pub hint: String,
}

/// Everything `FetchX509SVID` says at one time.
#[derive(Clone, Debug)]
pub struct X509Context {
    /// The identities, at least one, the default first (conformance WA-70); hints are unique.
    pub svids: Vec<IssuedSvid>,
    /// Bundles of the identities' own domains and of the federated ones, by domain.
    pub bundles: X509BundleSet,
    /// CRLs, each DER; every one parsed, none enforced: our attestor's list of revocations is, which is faster.
    pub crls: Vec<Vec<u8>>,
}

/// Everything `FetchX509Bundles` says at one time.
#[derive(Clone, Debug)]
pub struct X509Bundles {
    /// The bundles, by domain.
    pub bundles: X509BundleSet,
    /// CRLs, each DER; parsed, not enforced.
    pub crls: Vec<Vec<u8>>,
}

impl X509Context {
    /// Reads a message.
    ///
    /// # Errors
    /// [`UpdateError`]: the message as a whole is then unusable.
    ///
    /// Source: Workload API section 5; conformance WA-13 to WA-32.
    pub(super) fn read(message: X509svidResponse) -> Result<Self, UpdateError> {
        if message.svids.is_empty() {
            return Err(UpdateError::Empty { field: "svids" });
        }
        let mut bundles = read_bundles(message.federated_bundles)?;
        let mut svids: Vec<IssuedSvid> = Vec::with_capacity(message.svids.len());
        for issued in message.svids {
            let (issued, own) = read_svid(issued)?;
            bundles.insert(own);
            // The first of a hint wins; empty hints are no hints (WA-31, WA-32).
            if issued.hint.is_empty() || svids.iter().all(|earlier| earlier.hint != issued.hint) {
                svids.push(issued);
            }
        }
        check_crls(&message.crl)?;
        Ok(Self { svids, bundles, crls: message.crl })
    }

    /// The identity that counts when none was asked for: the first.
    pub fn default_svid(&self) -> &Arc<X509Svid> {
        &self.svids.first().expect("read refuses a message without SVIDs").svid
    }

    /// The identity with this hint; none when there is no such hint, or the hint is empty.
    pub fn by_hint(&self, hint: &str) -> Option<&Arc<X509Svid>> {
        self.svids.iter().find(|issued| !hint.is_empty() && issued.hint == hint).map(|issued| &issued.svid)
    }
}

impl X509Bundles {
    pub(super) fn read(message: X509BundlesResponse) -> Result<Self, UpdateError> {
        if message.bundles.is_empty() {
            return Err(UpdateError::Empty { field: "bundles" });
        }
        check_crls(&message.crl)?;
        Ok(Self { bundles: read_bundles(message.bundles)?, crls: message.crl })
    }
}

fn read_svid(sent: X509svid) -> Result<(IssuedSvid, X509Bundle), UpdateError> {
    let key = zeroize::Zeroizing::new(sent.x509_svid_key);
    let fields = [
        ("spiffe_id", sent.spiffe_id.is_empty()),
        ("x509_svid", sent.x509_svid.is_empty()),
        ("x509_svid_key", key.is_empty()),
        ("bundle", sent.bundle.is_empty()),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, empty)| *empty) {
        return Err(UpdateError::Empty { field });
    }
    let id = read_id(&sent.spiffe_id)?;
    let svid =
        X509Svid::parse(&sent.x509_svid, &key).map_err(|source| UpdateError::Svid { id: sent.spiffe_id, source })?;
    if *svid.id() != id {
        return Err(UpdateError::IdMismatch { said: id.to_string(), found: svid.id().to_string() });
    }
    let own = read_bundle(id.trust_domain(), &sent.bundle)?;
    Ok((IssuedSvid { svid: Arc::new(svid), hint: sent.hint }, own))
}

fn read_bundles(sent: HashMap<String, Vec<u8>>) -> Result<X509BundleSet, UpdateError> {
    let mut bundles = X509BundleSet::new();
    for (key, der) in sent {
        // Zero bytes are a domain without roots, which is no error (WA-29).
        bundles.insert(read_bundle(domain_of_key(&key)?, &der)?);
    }
    Ok(bundles)
}

fn read_bundle(domain: TrustDomain, der: &[u8]) -> Result<X509Bundle, UpdateError> {
    let name = domain.to_string();
    X509Bundle::from_der_concatenated(domain, der)
        .map_err(|source| UpdateError::Bundle { trust_domain: name, source: source.into() })
}

/// The domain a bundle map's key names: `spiffe://name`, without slash or path (WA-28).
pub(super) fn domain_of_key(key: &str) -> Result<TrustDomain, UpdateError> {
    match SpiffeId::parse(key) {
        Ok(id) if id.path().is_empty() => Ok(id.trust_domain()),
        Ok(_) | Err(_) => Err(UpdateError::BundleKey { key: key.to_owned() }),
    }
}

pub(super) fn read_id(text: &str) -> Result<SpiffeId, UpdateError> {
    SpiffeId::parse(text).map_err(|source| UpdateError::Id { id: text.to_owned(), source })
}

/// Demands that each element is exactly one DER CRL (WA-27).
fn check_crls(crls: &[Vec<u8>]) -> Result<(), UpdateError> {
    for (index, der) in crls.iter().enumerate() {
        match CertificateRevocationList::from_der(der) {
            Ok(([], _)) => {}
            Ok(_) | Err(_) => return Err(UpdateError::Crl { index }),
        }
    }
    Ok(())
}
