use std::sync::Arc;

use chancery_core::{class::ClassName, selector::Selectors};
use chancery_proto::{
    chancery::node::v1::{Class, ListClassesRequest, node_client::NodeClient},
    spire::api::{
        server::{
            bundle::v1::{GetBundleRequest, GetFederatedBundleRequest, bundle_client::BundleClient},
            entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient},
        },
        types::Entry,
    },
};
use chancery_sdk::id::{SpiffeId, TrustDomain};
use tonic::Code;

use super::{Ca, CaError, wire};
use crate::identity::TrustBundle;

/// Largest answer taken from the CA; 10,000 entries of 400 bytes fit.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 << 20;

/// An entry this node may hold SVIDs of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorizedEntry {
    /// The entry's own ID.
    pub id: String,
    /// What matching workloads are called.
    pub spiffe_id: SpiffeId,
    /// At least one.
    pub selectors: Selectors,
    /// Foreign domains whose bundles go with the SVID.
    pub federates_with: Vec<TrustDomain>,
    /// At most 1024 bytes.
    pub hint: String,
    /// Grows with every update.
    pub revision: i64,
    /// Unix seconds; with the revision it tells an entry from a later one of the same ID.
    pub created_at: i64,
    /// Issue X.509 only when a workload subscribes.
    pub disable_x509_svid_prefetch: bool,
    /// Give JWT-SVIDs a `jti`; such tokens are not cached.
    pub jwt_svid_include_jti: bool,
}

/// A class that may begin on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorizedClass {
    /// 1 to 4 segments.
    pub name: ClassName,
    /// At least one.
    pub selectors: Selectors,
    /// Seconds; 0 = the CA's default.
    pub x509_svid_ttl: i64,
    /// Grows with every update.
    pub revision: i64,
    /// Begins on nodes without proven hardware too.
    pub allow_unproven_nodes: bool,
}

impl Ca {
    /// The entries this node is authorized for. One that makes no sense is left out, with a warning.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn entries(&self) -> Result<Vec<AuthorizedEntry>, CaError> {
        let answer = self
            .call(|channel| async {
                let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.get_authorized_entries(GetAuthorizedEntriesRequest { output_mask: None }).await
            })
            .await?;
        Ok(answer.entries.into_iter().filter_map(|e| usable("entry", &e.id.clone(), entry(e))).collect())
    }

    /// The classes that may begin on this node.
    ///
    /// # Errors
    /// [`CaError`]; `Refused` with `Unimplemented` where the CA is a SPIRE server.
    pub async fn classes(&self) -> Result<Vec<AuthorizedClass>, CaError> {
        let answer = self
            .call(|channel| async {
                let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.list_classes(ListClassesRequest {}).await
            })
            .await?;
        Ok(answer.classes.into_iter().filter_map(|c| usable("class", &c.name.clone(), class(c))).collect())
    }

    /// The trust domain's own bundle; also published in the node's identity, so that dials trust it from now on.
    ///
    /// Of several servers one may lag: a bundle older than the published one is not taken, the newer one is the answer.
    ///
    /// # Errors
    /// [`CaError`]; a bundle without X.509 authorities is refused and nothing changes.
    pub async fn bundle(&self) -> Result<Arc<TrustBundle>, CaError> {
        let answer = self
            .call(|channel| async {
                BundleClient::new(channel).get_bundle(GetBundleRequest { output_mask: None }).await
            })
            .await?;
        Ok(self.publish_bundle(Arc::new(own_bundle(answer, &self.domain)?)))
    }

    /// The bundle of a federated domain; `None` where the CA has none.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn federated(&self, domain: &TrustDomain) -> Result<Option<TrustBundle>, CaError> {
        let answer = self
            .call(|channel| async {
                let request = GetFederatedBundleRequest { trust_domain: domain.to_string(), output_mask: None };
                BundleClient::new(channel).get_federated_bundle(request).await
            })
            .await;
        match answer {
            Ok(bundle) => wire::bundle(bundle, domain).map(Some),
            Err(CaError::Refused { code: Code::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Publishes a bundle unless a newer one is there; the newest of both.
    pub(super) fn publish_bundle(&self, bundle: Arc<TrustBundle>) -> Arc<TrustBundle> {
        let mut newest = Arc::clone(&bundle);
        self.identity.send_if_modified(|identity| {
            let Some(current) = identity.as_mut() else { return false };
            if bundle.is_older_than(&current.bundle) {
                newest = Arc::clone(&current.bundle);
                return false;
            }
            if current.bundle == bundle {
                return false;
            }
            Arc::make_mut(current).bundle = Arc::clone(&bundle);
            true
        });
        newest
    }
}

/// The domain's own bundle, which may not be without authorities: that would cut the node off.
pub(crate) fn own_bundle(
    answer: chancery_proto::spire::api::types::Bundle,
    domain: &TrustDomain,
) -> Result<TrustBundle, CaError> {
    let bundle = wire::bundle(answer, domain)?;
    if bundle.x509_authorities.is_empty() {
        return Err(CaError::malformed("the bundle has no X.509 authorities"));
    }
    Ok(bundle)
}

pub(super) fn usable<T>(what: &str, name: &str, parsed: Result<T, CaError>) -> Option<T> {
    parsed.inspect_err(|error| tracing::warn!(what, name, %error, "left out: it makes no sense")).ok()
}

pub(super) fn entry(entry: Entry) -> Result<AuthorizedEntry, CaError> {
    let selectors = wire::selectors(entry.selectors)?;
    if entry.id.is_empty() || selectors.is_empty() {
        return Err(CaError::malformed("no ID or no selectors"));
    }
    let federated = entry.federates_with.iter().map(|name| TrustDomain::from_name_or_id(name));
    let attributes = entry.additional_attributes.unwrap_or_default();
    Ok(AuthorizedEntry {
        id: entry.id,
        spiffe_id: wire::spiffe_id(entry.spiffe_id)?,
        selectors,
        federates_with: federated.collect::<Result<_, _>>().map_err(|e| CaError::malformed(e.to_string()))?,
        hint: entry.hint,
        revision: entry.revision_number,
        created_at: entry.created_at,
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
    })
}

pub(super) fn class(class: Class) -> Result<AuthorizedClass, CaError> {
    let selectors = wire::selectors(class.selectors)?;
    if selectors.is_empty() {
        return Err(CaError::malformed("no selectors"));
    }
    Ok(AuthorizedClass {
        name: ClassName::new(&class.name).map_err(|e| CaError::malformed(e.to_string()))?,
        selectors,
        x509_svid_ttl: class.x509_svid_ttl.into(),
        revision: class.revision,
        allow_unproven_nodes: class.allow_unproven_nodes,
    })
}
