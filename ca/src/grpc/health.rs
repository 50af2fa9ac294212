//! grpc.health.v1 on the admin socket: serving while the CA can sign, and, as `upstream`, while what is above it can.

use std::{sync::Arc, time::Duration};

use tonic_health::{
    pb::health_server::{Health, HealthServer},
    server::health_reporter,
};

use crate::State;

/// Name of the service that says whether what is above this server signs.
const UPSTREAM: &str = "upstream";
/// Between two looks at the authorities.
const LOOK: Duration = Duration::from_secs(1);

/// The health service, kept current until the soft word.
pub fn service(state: &Arc<State>) -> HealthServer<impl Health + use<>> {
    let (reporter, service) = health_reporter();
    let state = Arc::clone(state);
    tokio::spawn(async move {
        loop {
            let status = match state.is_ready() {
                true => tonic_health::ServingStatus::Serving,
                false => tonic_health::ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            // Apart: what signs goes on signing without it.
            let above = match state.authority.upstream_trouble() {
                None => tonic_health::ServingStatus::Serving,
                Some(_) => tonic_health::ServingStatus::NotServing,
            };
            reporter.set_service_status(UPSTREAM, above).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = state.shutdown.soft.cancelled() => break,
            }
        }
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    });
    service
}
