//! SPIRE's Agent service. Source: spire-wire 1.1, 2.1.

mod attest;
mod filter;

use std::sync::Arc;

use chancery_proto::spire::api::{
    server::agent::v1::{self as pb, agent_server::Agent},
    types::{self, permission_denied_details::Reason},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    entry::calling_node,
    page,
    peer::{caller, peer},
    status, wire,
};
use crate::{
    State,
    agents::{self, RenewError},
    enroll::MAX_CSR_BYTES,
    problem::Problem,
    throttle::Rate,
};

/// SPIRE's Agent service.
#[derive(Clone)]
pub struct AgentService {
    state: Arc<State>,
}

impl AgentService {
    /// Serves from `state`.
    pub fn new(state: &Arc<State>) -> Self {
        Self { state: Arc::clone(state) }
    }
}

#[tonic::async_trait]
impl Agent for AgentService {
    async fn count_agents(
        &self,
        request: Request<pb::CountAgentsRequest>,
    ) -> Result<Response<pb::CountAgentsResponse>, Status> {
        caller(request.extensions())?;
        let filter = request.into_inner().filter.map(filter::of_count).unwrap_or_default();
        let count = agents::list(&self.state, &filter::read(filter)?).await.map_err(status::of)?.len();
        Ok(Response::new(pb::CountAgentsResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let filter = filter::read(request.filter.unwrap_or_default())?;
        let all = agents::list(&self.state, &filter).await.map_err(status::of)?;
        let (some, next_page_token) = page::cut(all, request.page_size, &request.page_token, |n| n.id.to_string());
        let agents = some.iter().map(|node| wire::agent(node, request.output_mask.as_ref())).collect();
        Ok(Response::new(pb::ListAgentsResponse { agents, next_page_token }))
    }

    async fn get_agent(&self, request: Request<pb::GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        caller(request.extensions())?;
        let id = wire::spiffe_id(request.get_ref().id.as_ref(), "id")?;
        let node = agents::one(&self.state, &id).await.map_err(status::of)?;
        Ok(Response::new(wire::agent(&node, request.get_ref().output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<pb::DeleteAgentRequest>) -> Result<Response<()>, Status> {
        caller(request.extensions())?;
        let id = wire::spiffe_id(request.get_ref().id.as_ref(), "id")?;
        let state = Arc::clone(&self.state);
        status::detached(async move { agents::evict(&state, &id).await }).await.map(Response::new)
    }

    async fn ban_agent(&self, request: Request<pb::BanAgentRequest>) -> Result<Response<()>, Status> {
        caller(request.extensions())?;
        let id = wire::spiffe_id(request.get_ref().id.as_ref(), "id")?;
        let state = Arc::clone(&self.state);
        status::detached(async move { agents::ban(&state, &id).await }).await.map(Response::new)
    }

    type AttestAgentStream = ReceiverStream<Result<pb::AttestAgentResponse, Status>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<pb::AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        caller(request.extensions())?;
        let peer = peer(request.extensions())?;
        self.state.throttle.pass(Rate::Attest, &peer, 1).await.map_err(status::of)?;
        attest::serve(&self.state, peer, request.into_inner()).map(Response::new)
    }

    async fn renew_agent(
        &self,
        request: Request<pb::RenewAgentRequest>,
    ) -> Result<Response<pb::RenewAgentResponse>, Status> {
        let node = calling_node(&request)?;
        let peer = peer(request.extensions())?;
        self.state.throttle.pass(Rate::Csr, &peer, 1).await.map_err(status::of)?;
        let csr = request.into_inner().params.map(|p| p.csr).unwrap_or_default();
        if csr.len() > MAX_CSR_BYTES {
            return Err(Status::invalid_argument(format!("CSR of {} bytes exceeds {MAX_CSR_BYTES}", csr.len())));
        }
        let (state, id) = (Arc::clone(&self.state), node.id.clone());
        let renewed = status::detached(async move {
            match agents::renew(&state, &node, &csr).await {
                Ok(issued) => Ok(Some(issued)),
                Err(RenewError::MustReattest) => Ok(None),
                Err(RenewError::Problem(problem)) => Err::<_, Problem>(problem),
            }
        });
        let Some(issued) = renewed.await? else {
            return Err(wire::must("agent must reattest instead of renew", Reason::AgentMustReattest));
        };
        let svid = wire::x509_svid(&id, &issued.chain, issued.cert.expires_at);
        Ok(Response::new(pb::RenewAgentResponse { svid: Some(svid) }))
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let agent = request.agent_id.as_ref().map(|id| wire::spiffe_id(Some(id), "agent_id")).transpose()?;
        let state = Arc::clone(&self.state);
        let token =
            status::detached(
                async move { agents::create_token(&state, request.ttl.into(), request.token, agent).await },
            );
        let token = token.await?;
        Ok(Response::new(types::JoinToken { value: token.value, expires_at: token.expires_at.0 }))
    }

    async fn post_status(
        &self,
        request: Request<pb::PostStatusRequest>,
    ) -> Result<Response<pb::PostStatusResponse>, Status> {
        let node = calling_node(&request)?;
        let peer = peer(request.extensions())?;
        self.state.throttle.pass(Rate::Status, &peer, 1).await.map_err(status::of)?;
        let version = request.into_inner().agent_version;
        agents::set_version(&self.state, &node, version).await.map_err(status::of)?;
        Ok(Response::new(pb::PostStatusResponse {}))
    }
}
