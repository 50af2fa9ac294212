use std::sync::Arc;

use tokio_stream::Empty;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::Door;

/// `grpc.health.v1`: whether the Workload API can answer. No header, no caller (CF-08).
pub(super) struct HealthApi(pub Arc<Door>);

#[tonic::async_trait]
impl Health for HealthApi {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        // SPIRE's answer, which its tools know (spire-wire 1.9).
        if !request.get_ref().service.is_empty() {
            return Err(Status::invalid_argument("only the health of the whole server is known"));
        }
        let serving = !self.0.stop.is_cancelled() && self.0.standing().is_ok();
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("use Check"))
    }
}
