use std::sync::Arc;

use chancery_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::SpiffeWorkloadApi,
};
use chancery_sdk::origin::Origin;
use tonic::{Request, Response, Status};

use super::{
    Door,
    bundles::{JwtBundles, X509Bundles},
    feed::{self, Stream},
    jwt, validate,
    x509::X509Svids,
};
use crate::peer::Caller;

/// The SPIFFE Workload API. The header was checked before any of this runs.
#[derive(Clone)]
pub(super) struct WorkloadApi(pub Arc<Door>);

/// The process that connected, and what it says of this call; put there by the listener, so its absence is a fault of ours.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    let caller = request.extensions().get::<Arc<Caller>>().cloned();
    let caller = caller.ok_or_else(|| Status::unavailable("the caller is not known"))?;
    let metadata = request.metadata();
    let origin = Origin::read(|key| metadata.get(key)?.to_str().ok());
    Ok(if origin == Origin::NONE { caller } else { Arc::new(Caller { origin, ..(*caller).clone() }) })
}

/// WIT-SVIDs are incubating and not built (WA-60, SP-04).
fn no_wit<T>() -> Result<T, Status> {
    Err(Status::unimplemented("WIT-SVIDs are not supported"))
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Stream<X509svidResponse>;
    type FetchX509BundlesStream = Stream<X509BundlesResponse>;
    type FetchJWTBundlesStream = Stream<JwtBundlesResponse>;
    type FetchWITSVIDStream = Stream<WitsvidResponse>;
    type FetchWITBundlesStream = Stream<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        feed::open::<X509Svids>(&self.0, caller(&request)?).await.map(Response::new)
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        feed::open::<X509Bundles>(&self.0, caller(&request)?).await.map(Response::new)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(jwt::fetch(&self.0, &caller, request.into_inner()).await?))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        feed::open::<JwtBundles>(&self.0, caller(&request)?).await.map(Response::new)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(validate::validate(&self.0, &caller, request.into_inner()).await?))
    }

    async fn fetch_witsvid(&self, _: Request<WitsvidRequest>) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        no_wit()
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        no_wit()
    }
}
