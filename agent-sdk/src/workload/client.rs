//! The calls of the Workload API, typed.

use std::{sync::Arc, time::Duration};

use chancery_proto::{
    chancery::agent::v1::agent_client::AgentClient,
    workload::{JwtsvidRequest, ValidateJwtsvidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use super::{
    ClientError, Endpoint, Event, JwtBundles, JwtToken, RevocationsUpdate, ValidatedJwt, Watch, X509Bundles,
    X509Context, dial, jwt, watch::Watched,
};
use crate::{id::SpiffeId, origin::Origin, peer::connection_lost};

/// How long a unary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The metadata that shows a caller was not tricked into calling (conformance WE-06).
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// A channel that puts the security header on every call.
type WithHeader = InterceptedService<Channel, SecurityHeader>;

/// The generated clients.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The SPIFFE Workload API.
    pub workload: SpiffeWorkloadApiClient<WithHeader>,
    /// What our attestor serves beyond it.
    pub agent: AgentClient<WithHeader>,
}

/// Adds the security header, and what the caller said of its request.
#[derive(Clone, Debug, Default)]
pub struct SecurityHeader {
    origin: Arc<Origin>,
}

impl Interceptor for SecurityHeader {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(SECURITY_HEADER, MetadataValue::from_static("true"));
        for (key, value) in self.origin.metadata() {
            // Of plain characters, which its type says.
            if let Ok(value) = value.parse() {
                request.metadata_mut().insert(key, value);
            }
        }
        Ok(request)
    }
}

/// Client of one Workload API. Cheap to clone; clones share a connection.
#[derive(Clone, Debug)]
pub struct WorkloadClient {
    caller: Caller,
    channel: Channel,
}

impl WorkloadClient {
    /// A client of `endpoint`. Dials at the first call, so it never fails here.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect(endpoint: &Endpoint) -> Self {
        Self::over(dial::channel(endpoint), SecurityHeader::default())
    }

    /// The same client, over the same connection, whose calls say which request of somebody's they are for.
    ///
    /// What is issued for them names it in the CA's record: the first X509-SVID of an instance, and JWT-SVIDs. A token for a
    /// request id is never one that was issued for another.
    #[must_use]
    pub fn with_origin(&self, origin: Origin) -> Self {
        Self::over(self.channel.clone(), SecurityHeader { origin: Arc::new(origin) })
    }

    fn over(channel: Channel, header: SecurityHeader) -> Self {
        let agent = AgentClient::with_interceptor(channel.clone(), header.clone());
        let workload = SpiffeWorkloadApiClient::with_interceptor(channel.clone(), header);
        Self { caller: Caller { workload, agent }, channel }
    }

    /// The X.509 state of now: identities, keys, bundles.
    ///
    /// Opens a stream, takes one message and closes it; to stay current use [`watch_x509`](Self::watch_x509).
    ///
    /// # Errors
    /// [`ClientError::Status`] with `PermissionDenied` when the caller has no identity.
    pub async fn fetch_x509(&self) -> Result<X509Context, ClientError> {
        first(self.watch_x509()).await
    }

    /// The X.509 bundles of now, for programs that verify and have no identity of their own.
    ///
    /// # Errors
    /// As [`fetch_x509`](Self::fetch_x509).
    pub async fn fetch_x509_bundles(&self) -> Result<X509Bundles, ClientError> {
        first(self.watch_x509_bundles()).await
    }

    /// The JWT bundles of now.
    ///
    /// # Errors
    /// As [`fetch_x509`](Self::fetch_x509).
    pub async fn fetch_jwt_bundles(&self) -> Result<JwtBundles, ClientError> {
        first(self.watch_jwt_bundles()).await
    }

    /// Follows identities, keys and bundles.
    pub fn watch_x509(&self) -> Watch<X509Context> {
        Watch::new(self.caller.clone())
    }

    /// Follows X.509 bundles.
    pub fn watch_x509_bundles(&self) -> Watch<X509Bundles> {
        Watch::new(self.caller.clone())
    }

    /// Follows JWT bundles.
    pub fn watch_jwt_bundles(&self) -> Watch<JwtBundles> {
        Watch::new(self.caller.clone())
    }

    /// Follows revocations, which Chancery's attestor serves; elsewhere the watch ends at once with `Unimplemented`.
    pub fn watch_revocations(&self) -> Watch<RevocationsUpdate> {
        Watch::new(self.caller.clone())
    }

    /// JWT-SVIDs for `audience`, at least one: for every identity granted, the default's first, or for `id` alone.
    ///
    /// # Errors
    /// [`ClientError::NoAudience`] without an audience, [`ClientError::Answer`] when a token does not
    /// parse or is another's, [`ClientError::Status`] with `PermissionDenied` when nothing is granted.
    ///
    /// Source: Workload API section 6; conformance WA-41 to WA-45.
    pub async fn fetch_jwt(&self, audience: &[&str], id: Option<&SpiffeId>) -> Result<Vec<JwtToken>, ClientError> {
        if audience.is_empty() || audience.iter().any(|one| one.is_empty()) {
            return Err(ClientError::NoAudience);
        }
        let request = JwtsvidRequest {
            audience: audience.iter().map(|&one| one.to_owned()).collect(),
            spiffe_id: id.map(ToString::to_string).unwrap_or_default(),
        };
        let call = async || self.caller.workload.clone().fetch_jwtsvid(request.clone()).await;
        let answer = in_time(twice_if_lost(call)).await?;
        jwt::read_tokens(answer).map_err(ClientError::Answer)
    }

    /// Has the Workload API validate somebody's token for `audience` (which is us).
    ///
    /// This is the way to prefer over validating with bundles of one's own (conformance WA-58).
    ///
    /// # Errors
    /// [`ClientError::Status`] with `InvalidArgument` when the token is not valid for this audience.
    pub async fn validate_jwt(&self, audience: &str, token: &str) -> Result<ValidatedJwt, ClientError> {
        if audience.is_empty() {
            return Err(ClientError::NoAudience);
        }
        let request = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: token.to_owned() };
        let call = async || self.caller.workload.clone().validate_jwtsvid(request.clone()).await;
        let answer = in_time(twice_if_lost(call)).await?;
        jwt::read_validated(answer).map_err(ClientError::Answer)
    }
}

async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ClientError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(ClientError::NoAnswer { secs: CALL_TIMEOUT.as_secs() }),
    }
}

/// Calls again when the first attempt met a connection that had died: all calls here are idempotent.
async fn twice_if_lost<T>(call: impl AsyncFn() -> Result<T, Status>) -> Result<T, Status> {
    match call().await {
        Err(status) if connection_lost(&status) => call().await,
        outcome => outcome,
    }
}

/// One message of a stream, without any retry: whoever asks once decides about asking again.
async fn first<T: Watched>(mut watch: Watch<T>) -> Result<T, ClientError> {
    match tokio::time::timeout(CALL_TIMEOUT, watch.next()).await {
        Err(_) => Err(ClientError::NoAnswer { secs: CALL_TIMEOUT.as_secs() }),
        Ok(Some(Event::Update(update))) => Ok(update),
        Ok(Some(Event::Discarded(fault))) => Err(ClientError::Answer(fault)),
        Ok(Some(Event::Denied(status) | Event::Ended(status) | Event::Lost(status))) => Err(status.into()),
        Ok(None) => Err(ClientError::Ended),
    }
}
