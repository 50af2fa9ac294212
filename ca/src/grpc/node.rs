//! `chancery.node.v1`: what an attested node asks for the instances on it.

use std::{collections::BTreeMap, sync::Arc};

use chancery_core::{class::NodeProof, instance::MAX_PROCESS_SELECTORS};
use chancery_proto::chancery::node::v1::{
    BeginRequest, BeginResponse, Class, EndRequest, EndResponse, ListClassesRequest, ListClassesResponse,
    NewJwtRequest, NewJwtResponse, ProcessFacts, ReconcileRequest, ReconcileResponse, RenewRequest, RenewResponse,
    ReportCheckpointRequest, ReportCheckpointResponse, Svid, WatchRequest, node_server, reconcile_response::Live,
};
use chancery_sdk::{id::SpiffeId, origin::Origin};
use tonic::{Request, Response, Status};

use super::{
    entry::{calling_node, seconds, selectors},
    peer::peer,
    status::{self, detached},
    svid, watch, wire,
};
use crate::{
    detect::{self, Whose},
    instance::{self, Process},
    issue::X509,
    log::report,
    state::State,
    view::Offered,
};

/// Longest boot hash in bytes.
const MAX_BOOT_BYTES: usize = 64;
/// Most start tokens in one reconciliation; a node runs 256 instances at most.
const MAX_START_TOKENS: usize = 4096;
/// Longest path of an executable in bytes (PATH_MAX).
const MAX_PATH_BYTES: usize = 4096;

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
impl node_server::Node for Service {
    type WatchStream = watch::Watch;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let node = calling_node(&request)?;
        watch::open(&self.state, &node, request.into_inner()).map(Response::new)
    }

    async fn list_classes(
        &self,
        request: Request<ListClassesRequest>,
    ) -> Result<Response<ListClassesResponse>, Status> {
        let node = calling_node(&request)?;
        let offered = instance::classes(&self.state, &node).await.map_err(status::of)?;
        Ok(Response::new(ListClassesResponse { classes: offered.into_iter().map(class).collect() }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<BeginResponse>, Status> {
        let (node, source) = (calling_node(&request)?, peer(request.extensions())?.source);
        let origin = wire::origin(&request);
        let mut request = request.into_inner();
        let csr = std::mem::take(&mut request.csr);
        let process = Arc::new(process(request, origin)?);
        let state = Arc::clone(&self.state);
        let begin = async move {
            let work = instance::begin(&state, &node, &process, &csr);
            detect::watched(&state, &node, Whose::Process(&process.start_token), source, work).await
        };
        let svid = detached(begin).await?;
        Ok(Response::new(BeginResponse { instance_id: svid.id.to_string(), svid: Some(wire_svid(svid)) }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let (node, source) = (calling_node(&request)?, peer(request.extensions())?.source);
        let request = request.into_inner();
        let id = instance_id(&request.instance_id)?;
        let token = start_token(&request.start_token)?;
        let state = Arc::clone(&self.state);
        let renew = async move {
            let work = instance::renew(&state, &node, &id, &token, &request.csr);
            detect::watched(&state, &node, Whose::Instance(&id), source, work).await
        };
        let svid = detached(renew).await?;
        Ok(Response::new(RenewResponse { svid: Some(wire_svid(svid)) }))
    }

    async fn new_jwt(&self, request: Request<NewJwtRequest>) -> Result<Response<NewJwtResponse>, Status> {
        let (node, source) = (calling_node(&request)?, peer(request.extensions())?.source);
        let origin = wire::origin(&request);
        let request = request.into_inner();
        let id = instance_id(&request.instance_id)?;
        let token = start_token(&request.start_token)?;
        let state = Arc::clone(&self.state);
        let issue = async move {
            let work = instance::jwt(&state, &node, &id, &token, &request.audience, &origin);
            detect::watched(&state, &node, Whose::Instance(&id), source, work).await
        };
        let issued = detached(issue).await?;
        Ok(Response::new(NewJwtResponse { svid: Some(svid::jwt(issued)) }))
    }

    async fn end(&self, request: Request<EndRequest>) -> Result<Response<EndResponse>, Status> {
        let node = calling_node(&request)?;
        let request = request.into_inner();
        let id = instance_id(&request.instance_id)?;
        let token = start_token(&request.start_token)?;
        let state = Arc::clone(&self.state);
        detached(async move { instance::end(&state, &node, &id, &token).await }).await?;
        Ok(Response::new(EndResponse {}))
    }

    async fn reconcile(&self, request: Request<ReconcileRequest>) -> Result<Response<ReconcileResponse>, Status> {
        let (node, source) = (calling_node(&request)?, peer(request.extensions())?.source);
        let request = request.into_inner();
        if request.boot.is_empty() || request.boot.len() > MAX_BOOT_BYTES {
            return Err(Status::invalid_argument(format!("boot must be 1 to {MAX_BOOT_BYTES} bytes")));
        }
        if request.live_start_tokens.len() > MAX_START_TOKENS {
            return Err(Status::resource_exhausted(format!("more than {MAX_START_TOKENS} start tokens")));
        }
        let tokens = request.live_start_tokens.iter().map(|t| start_token(t)).collect::<Result<Vec<_>, _>>()?;
        let state = Arc::clone(&self.state);
        let reconcile = async move {
            detect::reported(&state, &node, &tokens, source);
            instance::reconcile(&state, &node, request.boot, tokens).await
        };
        let done = detached(reconcile).await?;
        let live = done.live.into_iter().map(|one| Live {
            start_token: one.start_token.to_vec(),
            instance_id: one.id.to_string(),
            class_name: one.class.to_string(),
        });
        let ended = u32::try_from(done.ended).unwrap_or(u32::MAX);
        Ok(Response::new(ReconcileResponse { live: live.collect(), ended }))
    }

    async fn report_checkpoint(
        &self,
        request: Request<ReportCheckpointRequest>,
    ) -> Result<Response<ReportCheckpointResponse>, Status> {
        let node = calling_node(&request)?;
        let ReportCheckpointRequest { kept, refused, why } = request.into_inner();
        let state = Arc::clone(&self.state);
        detached(async move { report::report(&state, &node, &kept, &refused, &why).await }).await?;
        Ok(Response::new(ReportCheckpointResponse {}))
    }
}

/// Writes a class as a node is told of it.
pub(super) fn class(offered: Offered) -> Class {
    Class {
        name: offered.class.name.to_string(),
        selectors: wire::selectors(&offered.selectors),
        x509_svid_ttl: seconds(offered.class.x509_svid_ttl),
        revision: offered.class.revision,
        allow_unproven_nodes: offered.class.node_proof == NodeProof::AnyNode,
    }
}

fn process(request: BeginRequest, origin: Origin) -> Result<Process, Status> {
    if request.selectors.len() > MAX_PROCESS_SELECTORS {
        let text = format!("{} selectors exceed {MAX_PROCESS_SELECTORS}", request.selectors.len());
        return Err(Status::invalid_argument(text));
    }
    let seen = request.process.unwrap_or_default();
    // A closed set: what is recorded is never free text of the node's.
    let pid_proof = match seen.pid_proof.as_str() {
        proof @ ("peer-pidfd" | "start-time") => proof.to_owned(),
        _ => return Err(Status::invalid_argument("pid_proof must be peer-pidfd or start-time")),
    };
    let class = request.class_name.parse().map_err(|e| Status::invalid_argument(format!("class_name: {e}")))?;
    Ok(Process {
        class,
        start_token: start_token(&request.start_token)?,
        selectors: selectors(&request.selectors)?,
        pid_proof,
        facts: facts(seen)?,
        origin,
    })
}

fn facts(seen: ProcessFacts) -> Result<BTreeMap<&'static str, String>, Status> {
    let is_digest = seen.sha256.len() == 64 && seen.sha256.bytes().all(|b| b.is_ascii_hexdigit());
    if seen.path.len() > MAX_PATH_BYTES || !(seen.sha256.is_empty() || is_digest) {
        return Err(Status::invalid_argument("process: path or sha256 has no such form"));
    }
    let mut facts = BTreeMap::from([
        ("gid", seen.gid.to_string()),
        ("path", seen.path),
        ("pid", seen.pid.to_string()),
        ("uid", seen.uid.to_string()),
    ]);
    if is_digest {
        // As it is written everywhere else: a revoked one must be met.
        facts.insert("sha256", seen.sha256.to_ascii_lowercase());
    }
    Ok(facts)
}

fn wire_svid(svid: X509) -> Svid {
    Svid {
        spiffe_id: svid.id.to_string(),
        cert_chain: svid.chain.iter().map(|der| der.to_vec()).collect(),
        expires_at: svid.expires_at.0,
    }
}

fn instance_id(text: &str) -> Result<SpiffeId, Status> {
    SpiffeId::parse(text).map_err(|e| Status::invalid_argument(format!("instance_id: {e}")))
}

fn start_token(bytes: &[u8]) -> Result<[u8; 32], Status> {
    <[u8; 32]>::try_from(bytes).map_err(|_| Status::invalid_argument("start_token must be 32 bytes"))
}
