//! SPIRE's SVID service.

use std::sync::Arc;

use chancery_proto::spire::api::{
    server::svid::v1::{
        BatchNewWitsvidRequest, BatchNewWitsvidResponse, BatchNewX509svidRequest, BatchNewX509svidResponse,
        MintJwtsvidRequest, MintJwtsvidResponse, MintWitsvidRequest, MintWitsvidResponse, MintX509svidRequest,
        MintX509svidResponse, NewDownstreamX509caRequest, NewDownstreamX509caResponse, NewJwtsvidRequest,
        NewJwtsvidResponse, NewX509svidParams, batch_new_x509svid_response, svid_server,
    },
    types,
};
use tonic::{Request, Response, Status};

use super::{
    entry::{calling_node, check_batch},
    peer::{caller, peer},
    status::{self, detached},
    wire,
};
use crate::{
    downstream,
    gate::Caller,
    issue::{self, Jwt, Wanted, X509},
    problem::Problem,
    state::State,
    throttle::Rate,
};

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

/// One of a batch. Without `svid` where there is none: stock agents decide by its presence.
fn item(issued: Result<X509, Problem>) -> batch_new_x509svid_response::Result {
    match issued {
        Ok(svid) => batch_new_x509svid_response::Result { status: Some(status::ok()), svid: Some(x509(svid)) },
        Err(problem) => {
            batch_new_x509svid_response::Result { status: Some(status::item(&status::of(problem))), svid: None }
        }
    }
}

/// An X509-SVID on the wire; SPIRE leaves `hint` empty here.
fn x509(svid: X509) -> types::X509svid {
    types::X509svid {
        cert_chain: svid.chain.iter().map(|der| der.to_vec()).collect(),
        id: Some(wire::spiffe_id_parts(&svid.id)),
        expires_at: svid.expires_at.0,
        hint: String::new(),
    }
}

/// A JWT-SVID on the wire.
pub fn jwt(svid: Jwt) -> types::Jwtsvid {
    types::Jwtsvid {
        token: svid.token,
        id: Some(wire::spiffe_id_parts(&svid.id)),
        expires_at: svid.expires_at.0,
        issued_at: svid.issued_at.0,
        hint: svid.hint,
    }
}

#[tonic::async_trait]
impl svid_server::Svid for Service {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let caller = caller(request.extensions())?;
        let request = request.into_inner();
        let state = Arc::clone(&self.state);
        let svid =
            detached(async move { issue::mint_x509(&state, &caller, &request.csr, request.ttl.into()).await }).await?;
        Ok(Response::new(MintX509svidResponse { svid: Some(x509(svid)) }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let caller = caller(request.extensions())?;
        let request = request.into_inner();
        let id = wire::spiffe_id(request.id.as_ref(), "id")?;
        let state = Arc::clone(&self.state);
        let svid =
            detached(async move { issue::mint_jwt(&state, &caller, &id, &request.audience, request.ttl.into()).await });
        Ok(Response::new(MintJwtsvidResponse { svid: Some(jwt(svid.await?)) }))
    }

    async fn mint_witsvid(&self, _: Request<MintWitsvidRequest>) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(Status::unimplemented("WIT-SVIDs are not issued here"))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let node = calling_node(&request)?;
        let peer = peer(request.extensions())?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Status::invalid_argument("params are missing"));
        }
        check_batch(params.len())?;
        self.state.throttle.pass(Rate::Csr, &peer, params.len()).await.map_err(status::of)?;
        let wanted = |one: NewX509svidParams| Wanted { entry_id: one.entry_id, csr: one.csr };
        let wanted = params.into_iter().map(wanted).collect();
        let state = Arc::clone(&self.state);
        // Together, so that they share a commit.
        let issued = detached(async move { issue::x509(&state, &node, wanted).await }).await?;
        let results = issued.into_iter().map(item).collect();
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(Status::unimplemented("WIT-SVIDs are not issued here"))
    }

    async fn new_jwtsvid(&self, request: Request<NewJwtsvidRequest>) -> Result<Response<NewJwtsvidResponse>, Status> {
        let node = calling_node(&request)?;
        self.state.throttle.pass(Rate::Jwt, &*peer(request.extensions())?, 1).await.map_err(status::of)?;
        let origin = wire::origin(&request);
        let request = request.into_inner();
        let state = Arc::clone(&self.state);
        let issue = async move { issue::jwt(&state, &node, &request.entry_id, &request.audience, &origin).await };
        let svid = detached(issue).await?;
        Ok(Response::new(NewJwtsvidResponse { svid: Some(jwt(svid)) }))
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        let Caller::Downstream(entry) = caller(request.extensions())? else {
            return Err(Status::permission_denied("only downstream servers may call this method"));
        };
        self.state.throttle.pass(Rate::Csr, &*peer(request.extensions())?, 1).await.map_err(status::of)?;
        let request = request.into_inner();
        let state = Arc::clone(&self.state);
        let (csr, ttl) = (request.csr, request.preferred_ttl.into());
        let issued = detached(async move { downstream::x509_ca(&state, &entry, &csr, ttl).await }).await?;
        Ok(Response::new(NewDownstreamX509caResponse {
            ca_cert_chain: issued.chain.iter().map(|der| der.to_vec()).collect(),
            x509_authorities: issued.authorities,
        }))
    }
}
