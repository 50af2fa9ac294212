//! SPIRE's Bundle service. Source: spire-wire 1.2.

use std::sync::Arc;

use chancery_proto::spire::api::{
    server::bundle::v1::{self as pb, bundle_server::Bundle},
    types,
};
use chancery_sdk::{bundle as sdk, id::TrustDomain, time::UnixTime};
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status};

use super::{
    page,
    peer::{caller, peer},
    status::{self, detached},
};
use crate::{
    State,
    authorities::Authority,
    bundles,
    downstream::{self, JwtKey},
    gate::Caller,
    store::DeleteMode,
    store::SetMode,
    throttle::Rate,
};

/// Most bundles in one call.
const MAX_BATCH: usize = 100;

/// SPIRE's Bundle service.
#[derive(Clone)]
pub struct BundleService {
    state: Arc<State>,
}

impl BundleService {
    /// Serves from `state`.
    pub fn new(state: &Arc<State>) -> Self {
        Self { state: Arc::clone(state) }
    }

    /// Puts the bundles of one batch, one after the other; `result` is the call's own form of an item.
    async fn put_each<R>(
        &self,
        batch: Vec<types::Bundle>,
        mode: SetMode,
        fill: &Fill<'_>,
        result: impl Fn(Option<types::Status>, Option<types::Bundle>) -> R,
    ) -> Result<Vec<R>, Status> {
        bounded(batch.len())?;
        let mut results = Vec::with_capacity(batch.len());
        for wanted in batch {
            let (status, bundle) = self.put(wanted, mode, fill).await;
            results.push(result(Some(status), bundle));
        }
        Ok(results)
    }

    async fn put(
        &self,
        wanted: types::Bundle,
        mode: SetMode,
        fill: &Fill<'_>,
    ) -> (types::Status, Option<types::Bundle>) {
        let result = async {
            let mut bundle = read(&wanted)?;
            if let Some(mask) = fill.input {
                let stored = bundles::federated(&self.state, bundle.trust_domain()).await.map_err(status::of)?;
                bundle = merge(stored, bundle, mask);
            }
            bundles::set(&self.state, &bundle, mode).await.map_err(status::of)?;
            Ok::<_, Status>(write(&bundle, fill.output))
        };
        match result.await {
            Ok(bundle) => (status::ok(), Some(bundle)),
            Err(status) => (status::item(&status), None),
        }
    }
}

/// A JWT authority of our own bundle.
fn jwt_key(authority: Authority) -> types::JwtKey {
    types::JwtKey {
        public_key: authority.public,
        key_id: authority.id,
        expires_at: authority.not_after.0,
        tainted: authority.tainted_at.is_some(),
    }
}

/// The masks of a batch call.
struct Fill<'a> {
    input: Option<&'a types::BundleMask>,
    output: Option<&'a types::BundleMask>,
}

#[tonic::async_trait]
impl Bundle for BundleService {
    async fn count_bundles(
        &self,
        request: Request<pb::CountBundlesRequest>,
    ) -> Result<Response<pb::CountBundlesResponse>, Status> {
        caller(request.extensions())?;
        let foreign = bundles::all_federated(&self.state).await.map_err(status::of)?.len();
        Ok(Response::new(pb::CountBundlesResponse { count: i32::try_from(foreign + 1).unwrap_or(i32::MAX) }))
    }

    async fn get_bundle(&self, request: Request<pb::GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        caller(request.extensions())?;
        let bundle = own(&self.state);
        Ok(Response::new(cut(bundle, request.get_ref().output_mask.as_ref())))
    }

    async fn append_bundle(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        caller(request.extensions())?;
        Err(Status::unimplemented("authorities of this trust domain are made by its servers and cannot be appended"))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        let Caller::Downstream(entry) = caller(request.extensions())? else {
            return Err(Status::permission_denied("only downstream servers may call this method"));
        };
        self.state.throttle.pass(Rate::Publish, &*peer(request.extensions())?, 1).await.map_err(status::of)?;
        let key = request.into_inner().jwt_authority;
        let key = key.ok_or_else(|| Status::invalid_argument("jwt_authority is missing"))?;
        let key = JwtKey { id: key.key_id, spki: key.public_key, not_after: UnixTime(key.expires_at) };
        let state = Arc::clone(&self.state);
        let published = detached(async move { downstream::publish_jwt(&state, &entry, key).await }).await?;
        let jwt_authorities = published.into_iter().map(jwt_key).collect();
        Ok(Response::new(pb::PublishJwtAuthorityResponse { jwt_authorities }))
    }

    async fn publish_wit_authority(
        &self,
        request: Request<pb::PublishWitAuthorityRequest>,
    ) -> Result<Response<pb::PublishWitAuthorityResponse>, Status> {
        caller(request.extensions())?;
        Err(Status::unimplemented("WIT-SVIDs are not supported"))
    }

    async fn list_federated_bundles(
        &self,
        request: Request<pb::ListFederatedBundlesRequest>,
    ) -> Result<Response<pb::ListFederatedBundlesResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let all = bundles::all_federated(&self.state).await.map_err(status::of)?;
        let (some, next_page_token) =
            page::cut(all, request.page_size, &request.page_token, |b| b.trust_domain().to_string());
        let bundles = some.iter().map(|b| write(b, request.output_mask.as_ref())).collect();
        Ok(Response::new(pb::ListFederatedBundlesResponse { bundles, next_page_token }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        caller(request.extensions())?;
        let domain = domain(&request.get_ref().trust_domain)?;
        let bundle = bundles::federated(&self.state, &domain).await.map_err(status::of)?;
        Ok(Response::new(write(&bundle, request.get_ref().output_mask.as_ref())))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchCreateFederatedBundleResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let fill = Fill { input: None, output: request.output_mask.as_ref() };
        let one = |status, bundle| pb::batch_create_federated_bundle_response::Result { status, bundle };
        let results = self.put_each(request.bundle, SetMode::Create, &fill, one).await?;
        Ok(Response::new(pb::BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchUpdateFederatedBundleResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let fill = Fill { input: request.input_mask.as_ref(), output: request.output_mask.as_ref() };
        let one = |status, bundle| pb::batch_update_federated_bundle_response::Result { status, bundle };
        let results = self.put_each(request.bundle, SetMode::Update, &fill, one).await?;
        Ok(Response::new(pb::BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchSetFederatedBundleResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let fill = Fill { input: None, output: request.output_mask.as_ref() };
        let one = |status, bundle| pb::batch_set_federated_bundle_response::Result { status, bundle };
        let results = self.put_each(request.bundle, SetMode::Set, &fill, one).await?;
        Ok(Response::new(pb::BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchDeleteFederatedBundleResponse>, Status> {
        use pb::batch_delete_federated_bundle_request::Mode;
        caller(request.extensions())?;
        let request = request.into_inner();
        bounded(request.trust_domains.len())?;
        let mode = match Mode::try_from(request.mode) {
            Ok(Mode::Restrict) => DeleteMode::Restrict,
            Ok(Mode::Delete) => DeleteMode::Delete,
            Ok(Mode::Dissociate) => DeleteMode::Dissociate,
            Err(_) => return Err(Status::invalid_argument(format!("unknown mode {}", request.mode))),
        };
        let mut results = Vec::new();
        for trust_domain in request.trust_domains {
            let result = match domain(&trust_domain) {
                Ok(domain) => bundles::delete(&self.state, &domain, mode).await.map_err(status::of),
                Err(status) => Err(status),
            };
            let status = Some(result.map_or_else(|status| status::item(&status), |()| status::ok()));
            results.push(pb::batch_delete_federated_bundle_response::Result { status, trust_domain });
        }
        Ok(Response::new(pb::BatchDeleteFederatedBundleResponse { results }))
    }
}

fn bounded(count: usize) -> Result<(), Status> {
    match count > MAX_BATCH {
        true => Err(Status::invalid_argument(format!("{count} bundles exceed {MAX_BATCH}"))),
        false => Ok(()),
    }
}

fn domain(text: &str) -> Result<TrustDomain, Status> {
    TrustDomain::from_name_or_id(text).map_err(|e| Status::invalid_argument(format!("trust domain: {e}")))
}

fn certificate(asn1: Vec<u8>) -> types::X509Certificate {
    types::X509Certificate { asn1, tainted: false }
}

/// Reads a bundle; `tainted` and WIT authorities are not looked at.
fn read(wire: &types::Bundle) -> Result<sdk::Bundle, Status> {
    let domain = domain(&wire.trust_domain)?;
    let wrong = |what: &str, e: &dyn std::fmt::Display| Status::invalid_argument(format!("{what}: {e}"));
    let mut bundle = sdk::Bundle::new(domain);
    for authority in &wire.x509_authorities {
        let der = CertificateDer::from(authority.asn1.clone());
        bundle.x509.insert(der).map_err(|e| wrong("X.509 authority", &e))?;
    }
    for key in &wire.jwt_authorities {
        if key.key_id.is_empty() {
            return Err(Status::invalid_argument("JWT authority: key ID is missing"));
        }
        bundle.jwt.insert(&key.key_id, &key.public_key).map_err(|e| wrong("JWT authority", &e))?;
    }
    bundle.sequence = Some(wire.sequence_number);
    bundle.refresh_hint = u64::try_from(wire.refresh_hint).ok().filter(|hint| *hint > 0);
    Ok(bundle)
}

/// The stored bundle with the fields of `mask` from `wanted`.
fn merge(stored: sdk::Bundle, wanted: sdk::Bundle, mask: &types::BundleMask) -> sdk::Bundle {
    let mut merged = stored;
    if mask.x509_authorities {
        merged.x509 = wanted.x509;
    }
    if mask.jwt_authorities {
        merged.jwt = wanted.jwt;
    }
    if mask.sequence_number {
        merged.sequence = wanted.sequence;
    }
    if mask.refresh_hint {
        merged.refresh_hint = wanted.refresh_hint;
    }
    merged
}

/// Writes the trust domain's own bundle.
pub(super) fn own(state: &State) -> types::Bundle {
    let own = bundles::own(state);
    let x509 = |a: Authority| types::X509Certificate { asn1: a.public, tainted: a.tainted_at.is_some() };
    types::Bundle {
        trust_domain: state.trust_domain.to_string(),
        x509_authorities: own.x509.into_iter().map(x509).collect(),
        jwt_authorities: own.jwt.into_iter().map(jwt_key).collect(),
        refresh_hint: own.refresh_hint,
        sequence_number: own.sequence,
        ..Default::default()
    }
}

/// Writes a foreign bundle.
pub(super) fn write(bundle: &sdk::Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let jwt = bundle.jwt.keys().iter().map(|key| types::JwtKey {
        public_key: key.spki(),
        key_id: key.kid().into(),
        ..Default::default()
    });
    let wire = types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: bundle.x509.authorities().iter().map(|der| certificate(der.to_vec())).collect(),
        jwt_authorities: jwt.collect(),
        refresh_hint: bundle.refresh_hint.and_then(|hint| i64::try_from(hint).ok()).unwrap_or(0),
        sequence_number: bundle.sequence.unwrap_or(0),
        ..Default::default()
    };
    cut(wire, mask)
}

fn cut(bundle: types::Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let Some(mask) = mask else { return bundle };
    types::Bundle {
        trust_domain: bundle.trust_domain,
        x509_authorities: if mask.x509_authorities { bundle.x509_authorities } else { Vec::new() },
        jwt_authorities: if mask.jwt_authorities { bundle.jwt_authorities } else { Vec::new() },
        refresh_hint: if mask.refresh_hint { bundle.refresh_hint } else { 0 },
        sequence_number: if mask.sequence_number { bundle.sequence_number } else { 0 },
        ..Default::default()
    }
}
