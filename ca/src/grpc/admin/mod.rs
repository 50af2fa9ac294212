//! `chancery.admin.v1`: administration that SPIRE has no API for.

mod convert;
mod events;
mod hold;
mod proposal;
mod revoke;

use std::sync::Arc;

use chancery_proto::chancery::admin::v1::{
    Authority, Class, ClassName, EndInstanceRequest, EnrolNodeRequest, EnrolNodeResponse, Event, ExplainPolicyResponse,
    ImportAnchorsRequest, ImportAuthorityRequest, Instance, InstanceId, LearnPolicyRequest, LearnPolicyResponse,
    ListAnchorsResponse, ListAuthoritiesResponse, ListClassesResponse, ListEventsRequest, ListHoldsRequest,
    ListHoldsResponse, ListInstancesRequest, ListInstancesResponse, ListNodesResponse, ListProposalsRequest,
    ListProposalsResponse, ListRevocationsRequest, ListRevocationsResponse, Node, NodeId, PlaceHoldRequest,
    PlaceHoldResponse, ReleaseHoldRequest, ReloadResponse, ReopenClassRequest, RequestAuthorityRequest,
    RequestAuthorityResponse, ReviewProposalRequest, RevokeRequest, RevokeResponse, admin_server,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    peer::caller,
    status::{self, detached},
};
use crate::{
    anchors,
    authorities::{
        self,
        offline::{self, Which},
    },
    classes, hold as holds, instance, nodes, policies, proposals, revoke as kill,
    state::State,
};

/// Events on their way to one reader.
const EVENTS_AHEAD: usize = 64;

/// The service.
pub struct Service {
    state: Arc<State>,
}

impl Service {
    /// The service over a running CA.
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Service {
    async fn create_class(&self, request: Request<Class>) -> Result<Response<Class>, Status> {
        caller(request.extensions())?;
        let class = classes::create(&self.state, convert::draft(request.into_inner())?).await.map_err(status::of)?;
        Ok(Response::new(convert::class(&class)))
    }

    async fn update_class(&self, request: Request<Class>) -> Result<Response<Class>, Status> {
        caller(request.extensions())?;
        let class = classes::update(&self.state, convert::draft(request.into_inner())?).await.map_err(status::of)?;
        Ok(Response::new(convert::class(&class)))
    }

    async fn get_class(&self, request: Request<ClassName>) -> Result<Response<Class>, Status> {
        caller(request.extensions())?;
        let class = classes::get(&self.state, &request.into_inner().name).await.map_err(status::of)?;
        Ok(Response::new(convert::class(&class)))
    }

    async fn list_classes(&self, request: Request<()>) -> Result<Response<ListClassesResponse>, Status> {
        caller(request.extensions())?;
        let found = classes::list(&self.state).await.map_err(status::of)?;
        Ok(Response::new(ListClassesResponse { classes: found.iter().map(convert::class).collect() }))
    }

    async fn delete_class(&self, request: Request<ClassName>) -> Result<Response<()>, Status> {
        caller(request.extensions())?;
        classes::delete(&self.state, &request.into_inner().name).await.map_err(status::of)?;
        Ok(Response::new(()))
    }

    async fn list_instances(
        &self,
        request: Request<ListInstancesRequest>,
    ) -> Result<Response<ListInstancesResponse>, Status> {
        caller(request.extensions())?;
        let filter = convert::filter(request.into_inner())?;
        let found = instance::list(&self.state, &filter).await.map_err(status::of)?;
        let last = found.last().filter(|_| filter.limit.is_some());
        let next_page_token = last.map(|i| i.id.to_string()).unwrap_or_default();
        Ok(Response::new(ListInstancesResponse {
            instances: found.iter().map(|one| convert::instance(one, self.state.now())).collect(),
            next_page_token,
        }))
    }

    async fn get_instance(&self, request: Request<InstanceId>) -> Result<Response<Instance>, Status> {
        caller(request.extensions())?;
        let id = convert::id(&request.into_inner().id, "id")?;
        let found = instance::get(&self.state, &id).await.map_err(status::of)?;
        Ok(Response::new(convert::instance(&found, self.state.now())))
    }

    async fn end_instance(&self, request: Request<EndInstanceRequest>) -> Result<Response<Instance>, Status> {
        caller(request.extensions())?;
        let id = convert::id(&request.into_inner().id, "id")?;
        let state = Arc::clone(&self.state);
        let ended = detached(async move { instance::end_by_operator(&state, &id).await }).await?;
        Ok(Response::new(convert::instance(&ended, self.state.now())))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        let caller = caller(request.extensions())?;
        let request = request.into_inner();
        let target = revoke::target(&self.state, &request).await?;
        let (state, order) = (Arc::clone(&self.state), revoke::order(&caller, request.reason));
        let done = detached(async move { kill::revoke(&state, target, order).await }).await?;
        Ok(Response::new(revoke::done(&done)))
    }

    async fn reopen_class(&self, request: Request<ReopenClassRequest>) -> Result<Response<()>, Status> {
        let caller = caller(request.extensions())?;
        let request = request.into_inner();
        let class = revoke::class_name(&request.class_name)?;
        let (state, order) = (Arc::clone(&self.state), revoke::order(&caller, request.reason));
        detached(async move { kill::reopen(&state, &request.node, &class, order).await }).await?;
        Ok(Response::new(()))
    }

    async fn list_revocations(
        &self,
        request: Request<ListRevocationsRequest>,
    ) -> Result<Response<ListRevocationsResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let size = revoke::page(request.page_size);
        let listed = kill::list(&self.state, &request.page_token, size).await.map_err(status::of)?;
        Ok(Response::new(revoke::listed(&listed, size)))
    }

    async fn place_hold(&self, request: Request<PlaceHoldRequest>) -> Result<Response<PlaceHoldResponse>, Status> {
        let caller = caller(request.extensions())?;
        let PlaceHoldRequest { instance, seconds, reason } = request.into_inner();
        let (id, span) = (convert::id(&instance, "instance")?, hold::span(seconds)?);
        let (state, order) = (Arc::clone(&self.state), revoke::order(&caller, reason));
        let until = detached(async move { holds::place(&state, id, span, order).await }).await?;
        Ok(Response::new(PlaceHoldResponse { until: until.0 }))
    }

    async fn release_hold(&self, request: Request<ReleaseHoldRequest>) -> Result<Response<()>, Status> {
        let caller = caller(request.extensions())?;
        let ReleaseHoldRequest { instance, reason } = request.into_inner();
        let id = convert::id(&instance, "instance")?;
        let (state, order) = (Arc::clone(&self.state), revoke::order(&caller, reason));
        detached(async move { holds::release(&state, id, order).await }).await?;
        Ok(Response::new(()))
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Result<Response<ListHoldsResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let size = revoke::page(request.page_size);
        let listed = holds::list(&self.state, &request.page_token, size).await.map_err(status::of)?;
        Ok(Response::new(hold::listed(&listed, size)))
    }

    async fn list_proposals(
        &self,
        request: Request<ListProposalsRequest>,
    ) -> Result<Response<ListProposalsResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let (after, size) = (proposal::after(&request.page_token)?, revoke::page(request.page_size));
        let listed = proposals::list(&self.state, after, request.open, size).await.map_err(status::of)?;
        Ok(Response::new(proposal::listed(&listed, size)))
    }

    async fn review_proposal(&self, request: Request<ReviewProposalRequest>) -> Result<Response<()>, Status> {
        let caller = caller(request.extensions())?;
        let request = request.into_inner();
        let (which, verdict, began) = proposal::review(&request)?;
        let (state, order) = (Arc::clone(&self.state), revoke::order(&caller, request.reason));
        detached(async move { proposals::review(&state, which, verdict, began, order).await }).await?;
        Ok(Response::new(()))
    }

    async fn enrol_node(&self, request: Request<EnrolNodeRequest>) -> Result<Response<EnrolNodeResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let id = match (request.ek_hash.as_str(), request.key_hash.as_str()) {
            (ek, "") => nodes::enrol(&self.state, convert::hash(ek)?, request.note).await,
            ("", key) => nodes::enrol_key(&self.state, convert::hash(key)?, request.note).await,
            _ => return Err(Status::invalid_argument("name one of ek_hash and key_hash")),
        };
        let id = id.map_err(status::of)?;
        Ok(Response::new(EnrolNodeResponse { node_id: id.to_string() }))
    }

    async fn get_node(&self, request: Request<NodeId>) -> Result<Response<Node>, Status> {
        caller(request.extensions())?;
        let id = convert::id(&request.into_inner().id, "id")?;
        let seen = nodes::get(&self.state, &id).await.map_err(status::of)?;
        Ok(Response::new(convert::node(&seen)))
    }

    async fn list_nodes(&self, request: Request<()>) -> Result<Response<ListNodesResponse>, Status> {
        caller(request.extensions())?;
        let found = nodes::list(&self.state).await.map_err(status::of)?;
        Ok(Response::new(ListNodesResponse { nodes: found.iter().map(convert::node).collect() }))
    }

    async fn import_anchors(
        &self,
        request: Request<ImportAnchorsRequest>,
    ) -> Result<Response<ListAnchorsResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let imported = anchors::import(&self.state, &request.pem, &request.manufacturer, &request.note);
        let imported = imported.await.map_err(status::of)?;
        policies::reload(&self.state).await.map_err(status::of)?;
        Ok(Response::new(convert::anchors(imported)))
    }

    async fn list_authorities(&self, request: Request<()>) -> Result<Response<ListAuthoritiesResponse>, Status> {
        caller(request.extensions())?;
        let (listed, orphans) = authorities::list(&self.state).await.map_err(status::of)?;
        let delay = self.state.config.ttl.publish_delay.as_secs();
        Ok(Response::new(ListAuthoritiesResponse {
            authorities: listed.iter().map(|one| convert::authority(one, delay)).collect(),
            orphans: orphans.to_vec(),
            server: self.state.server_id.clone(),
            needs: offline::needs(&self.state),
        }))
    }

    async fn request_authority(
        &self,
        request: Request<RequestAuthorityRequest>,
    ) -> Result<Response<RequestAuthorityResponse>, Status> {
        caller(request.extensions())?;
        let which = if request.into_inner().anew { Which::New } else { Which::Open };
        let state = Arc::clone(&self.state);
        let waiting = detached(async move { offline::request(&state, which).await }).await?;
        let (csr, spki_sha256, key_label) = (waiting.csr, waiting.key_sha256, waiting.label);
        Ok(Response::new(RequestAuthorityResponse { csr, spki_sha256, key_label }))
    }

    async fn import_authority(&self, request: Request<ImportAuthorityRequest>) -> Result<Response<Authority>, Status> {
        caller(request.extensions())?;
        let delivered = convert::delivered(request.into_inner())?;
        let state = Arc::clone(&self.state);
        let imported = detached(async move { offline::import(&state, delivered).await }).await?;
        Ok(Response::new(convert::authority(&imported, self.state.config.ttl.publish_delay.as_secs())))
    }

    async fn list_anchors(&self, request: Request<()>) -> Result<Response<ListAnchorsResponse>, Status> {
        caller(request.extensions())?;
        let found = anchors::list(&self.state).await.map_err(status::of)?;
        Ok(Response::new(convert::anchors(found)))
    }

    async fn explain_policy(&self, request: Request<NodeId>) -> Result<Response<ExplainPolicyResponse>, Status> {
        caller(request.extensions())?;
        let id = convert::id(&request.into_inner().id, "id")?;
        let told = policies::explain(&self.state, &id).await.map_err(status::of)?;
        Ok(Response::new(convert::explained(told)))
    }

    async fn learn_policy(
        &self,
        request: Request<LearnPolicyRequest>,
    ) -> Result<Response<LearnPolicyResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let id = convert::id(&request.node_id, "node_id")?;
        let toml = policies::learn(&self.state, &id, &request.name).await.map_err(status::of)?;
        Ok(Response::new(LearnPolicyResponse { toml }))
    }

    async fn reload(&self, request: Request<()>) -> Result<Response<ReloadResponse>, Status> {
        caller(request.extensions())?;
        let loaded = policies::reload(&self.state).await.map_err(status::of)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(ReloadResponse { anchors: count(loaded.anchors), policies: count(loaded.policies) }))
    }

    type ListEventsStream = ReceiverStream<Result<Event, Status>>;

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<Self::ListEventsStream>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let (answers, stream) = mpsc::channel(EVENTS_AHEAD);
        tokio::spawn(events::run(Arc::clone(&self.state), request.after, request.follow, answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
