//! SPIRE's LocalAuthority service. Source: spire-wire 1.6.

use std::sync::Arc;

use chancery_proto::spire::api::server::localauthority::v1::{self as pb, local_authority_server::LocalAuthority};
use tonic::{Request, Response, Status};

use super::{
    peer::caller,
    status::{self, detached},
};
use crate::{
    authorities::{self, Authority, AuthorityKind},
    state::State,
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

    async fn slots(&self, kind: AuthorityKind) -> Result<authorities::Slots, Status> {
        authorities::slots(&self.state, kind).await.map_err(status::of)
    }

    async fn prepare(&self, kind: AuthorityKind) -> Result<Authority, Status> {
        let state = Arc::clone(&self.state);
        detached(async move { authorities::prepare(&state, kind).await }).await
    }

    async fn activate(&self, kind: AuthorityKind, id: String) -> Result<Authority, Status> {
        let state = Arc::clone(&self.state);
        detached(async move { authorities::activate(&state, kind, &id).await }).await
    }

    async fn taint<T>(&self, kind: AuthorityKind, request: &Request<T>, id: String) -> Result<Authority, Status> {
        let (state, who) = (Arc::clone(&self.state), caller(request.extensions())?);
        detached(async move { authorities::taint(&state, &who, kind, &id).await }).await
    }

    async fn revoke<T>(&self, kind: AuthorityKind, request: &Request<T>, id: String) -> Result<Authority, Status> {
        let (state, who) = (Arc::clone(&self.state), caller(request.extensions())?);
        detached(async move { authorities::revoke(&state, &who, kind, &id).await }).await
    }
}

/// All three fields.
fn whole(authority: &Authority) -> Option<pb::AuthorityState> {
    Some(pb::AuthorityState {
        authority_id: authority.id.clone(),
        expires_at: authority.not_after.0,
        upstream_authority_subject_key_id: authority.upstream_id.clone(),
    })
}

/// The ID alone, where SPIRE tells no more.
fn named(authority: &Authority) -> Option<pb::AuthorityState> {
    Some(pb::AuthorityState { authority_id: authority.id.clone(), ..pb::AuthorityState::default() })
}

fn no_wit<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("WIT-SVIDs are not supported"))
}

#[tonic::async_trait]
impl LocalAuthority for Service {
    async fn get_jwt_authority_state(
        &self,
        request: Request<pb::GetJwtAuthorityStateRequest>,
    ) -> Result<Response<pb::GetJwtAuthorityStateResponse>, Status> {
        caller(request.extensions())?;
        let slots = self.slots(AuthorityKind::Jwt).await?;
        let (prepared, old) = (slots.prepared.as_ref().and_then(whole), slots.old.as_ref().and_then(whole));
        Ok(Response::new(pb::GetJwtAuthorityStateResponse { active: whole(&slots.active), prepared, old }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<pb::PrepareJwtAuthorityRequest>,
    ) -> Result<Response<pb::PrepareJwtAuthorityResponse>, Status> {
        caller(request.extensions())?;
        let made = self.prepare(AuthorityKind::Jwt).await?;
        Ok(Response::new(pb::PrepareJwtAuthorityResponse { prepared_authority: whole(&made) }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<pb::ActivateJwtAuthorityRequest>,
    ) -> Result<Response<pb::ActivateJwtAuthorityResponse>, Status> {
        caller(request.extensions())?;
        let active = self.activate(AuthorityKind::Jwt, request.into_inner().authority_id).await?;
        Ok(Response::new(pb::ActivateJwtAuthorityResponse { activated_authority: whole(&active) }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<pb::TaintJwtAuthorityRequest>,
    ) -> Result<Response<pb::TaintJwtAuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let tainted = self.taint(AuthorityKind::Jwt, &request, id).await?;
        Ok(Response::new(pb::TaintJwtAuthorityResponse { tainted_authority: named(&tainted) }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<pb::RevokeJwtAuthorityRequest>,
    ) -> Result<Response<pb::RevokeJwtAuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let revoked = self.revoke(AuthorityKind::Jwt, &request, id).await?;
        Ok(Response::new(pb::RevokeJwtAuthorityResponse { revoked_authority: named(&revoked) }))
    }

    async fn get_x509_authority_state(
        &self,
        request: Request<pb::GetX509AuthorityStateRequest>,
    ) -> Result<Response<pb::GetX509AuthorityStateResponse>, Status> {
        caller(request.extensions())?;
        let slots = self.slots(AuthorityKind::X509).await?;
        let (prepared, old) = (slots.prepared.as_ref().and_then(whole), slots.old.as_ref().and_then(whole));
        Ok(Response::new(pb::GetX509AuthorityStateResponse { active: whole(&slots.active), prepared, old }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<pb::PrepareX509AuthorityRequest>,
    ) -> Result<Response<pb::PrepareX509AuthorityResponse>, Status> {
        caller(request.extensions())?;
        let made = self.prepare(AuthorityKind::X509).await?;
        Ok(Response::new(pb::PrepareX509AuthorityResponse { prepared_authority: whole(&made) }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<pb::ActivateX509AuthorityRequest>,
    ) -> Result<Response<pb::ActivateX509AuthorityResponse>, Status> {
        caller(request.extensions())?;
        let active = self.activate(AuthorityKind::X509, request.into_inner().authority_id).await?;
        Ok(Response::new(pb::ActivateX509AuthorityResponse { activated_authority: whole(&active) }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<pb::TaintX509AuthorityRequest>,
    ) -> Result<Response<pb::TaintX509AuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let tainted = self.taint(AuthorityKind::X509, &request, id).await?;
        Ok(Response::new(pb::TaintX509AuthorityResponse { tainted_authority: whole(&tainted) }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<pb::TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<pb::TaintX509UpstreamAuthorityResponse>, Status> {
        caller(request.extensions())?;
        let id = authorities::upstream(&self.state, &request.get_ref().subject_key_id).await.map_err(status::of)?;
        Ok(Response::new(pb::TaintX509UpstreamAuthorityResponse { upstream_authority_subject_key_id: id }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<pb::RevokeX509AuthorityRequest>,
    ) -> Result<Response<pb::RevokeX509AuthorityResponse>, Status> {
        let id = request.get_ref().authority_id.clone();
        let revoked = self.revoke(AuthorityKind::X509, &request, id).await?;
        Ok(Response::new(pb::RevokeX509AuthorityResponse { revoked_authority: named(&revoked) }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<pb::RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<pb::RevokeX509UpstreamAuthorityResponse>, Status> {
        caller(request.extensions())?;
        let id = authorities::upstream(&self.state, &request.get_ref().subject_key_id).await.map_err(status::of)?;
        Ok(Response::new(pb::RevokeX509UpstreamAuthorityResponse { upstream_authority_subject_key_id: id }))
    }

    async fn get_wit_authority_state(
        &self,
        request: Request<pb::GetWitAuthorityStateRequest>,
    ) -> Result<Response<pb::GetWitAuthorityStateResponse>, Status> {
        caller(request.extensions())?;
        no_wit()
    }

    async fn prepare_wit_authority(
        &self,
        request: Request<pb::PrepareWitAuthorityRequest>,
    ) -> Result<Response<pb::PrepareWitAuthorityResponse>, Status> {
        caller(request.extensions())?;
        no_wit()
    }

    async fn activate_wit_authority(
        &self,
        request: Request<pb::ActivateWitAuthorityRequest>,
    ) -> Result<Response<pb::ActivateWitAuthorityResponse>, Status> {
        caller(request.extensions())?;
        no_wit()
    }

    async fn taint_wit_authority(
        &self,
        request: Request<pb::TaintWitAuthorityRequest>,
    ) -> Result<Response<pb::TaintWitAuthorityResponse>, Status> {
        caller(request.extensions())?;
        no_wit()
    }

    async fn revoke_wit_authority(
        &self,
        request: Request<pb::RevokeWitAuthorityRequest>,
    ) -> Result<Response<pb::RevokeWitAuthorityResponse>, Status> {
        caller(request.extensions())?;
        no_wit()
    }
}
