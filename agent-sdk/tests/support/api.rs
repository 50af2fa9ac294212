//! A Workload API on a UNIX socket that says what a test tells it to say.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use chancery_proto::{
    chancery::agent::v1::{
        self as agent,
        agent_server::{Agent, AgentServer},
    },
    workload::{
        self as wire,
        spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
    },
};
use chancery_sdk::{
    Source,
    workload::{Endpoint, WorkloadClient},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status, transport::server::Connected};

/// What a method says, now and whenever it is changed.
#[derive(Clone)]
pub enum Says<T> {
    /// The stream ends without an error.
    Close,
    Fail(Status),
    Message(T),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    /// Values of `workload.spiffe.io`.
    pub header: Vec<String>,
    pub at: Instant,
}

pub struct Fake {
    pub x509: watch::Sender<Says<wire::X509svidResponse>>,
    pub x509_bundles: watch::Sender<Says<wire::X509BundlesResponse>>,
    pub jwt_bundles: watch::Sender<Says<wire::JwtBundlesResponse>>,
    pub jwt: watch::Sender<Says<wire::JwtsvidResponse>>,
    pub validated: watch::Sender<Says<wire::ValidateJwtsvidResponse>>,
    /// As SPIRE's agent until it is told otherwise.
    pub revocations: watch::Sender<Says<agent::WatchRevocationsResponse>>,
    pub calls: watch::Sender<Vec<Call>>,
    dir: TempDir,
    cut: CancellationToken,
}

impl Fake {
    /// A server that has no identity for anybody yet.
    pub fn start() -> Self {
        fn denied<T>() -> watch::Sender<Says<T>> {
            watch::Sender::new(Says::Fail(Status::permission_denied("no identity issued")))
        }
        let mut fake = Self {
            x509: denied(),
            x509_bundles: denied(),
            jwt_bundles: denied(),
            jwt: denied(),
            validated: denied(),
            revocations: watch::Sender::new(Says::Fail(Status::unimplemented("no such service"))),
            calls: watch::Sender::new(Vec::new()),
            dir: tempfile::tempdir().unwrap(),
            cut: CancellationToken::new(),
        };
        fake.restart();
        fake
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::unix(&self.socket()).unwrap()
    }

    pub fn client(&self) -> WorkloadClient {
        WorkloadClient::connect(&self.endpoint())
    }

    pub async fn source(&self) -> Source {
        Source::builder().endpoint(self.endpoint()).wait(Duration::from_secs(20)).connect().await.unwrap()
    }

    /// Cuts every connection and removes the socket, as a daemon that dies.
    pub fn kill(&self) {
        self.cut.cancel();
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Listens (again).
    pub fn restart(&mut self) {
        self.cut = CancellationToken::new();
        let listener = UnixListener::bind(self.socket()).unwrap();
        let cut = self.cut.clone();
        let incoming = UnixListenerStream::new(listener)
            .map(move |io| io.map(|io| Cuttable { io, cut: Box::pin(cut.clone().cancelled_owned()) }));
        let calls = self.calls.clone();
        let log = tower::layer::layer_fn(move |inner| Logged { inner, calls: calls.clone() });
        let server = tonic::transport::Server::builder()
            .layer(log)
            .add_service(SpiffeWorkloadApiServer::new(Service {
                x509: self.x509.clone(),
                x509_bundles: self.x509_bundles.clone(),
                jwt_bundles: self.jwt_bundles.clone(),
                jwt: self.jwt.clone(),
                validated: self.validated.clone(),
            }))
            .add_service(AgentServer::new(AgentService(self.revocations.clone())))
            .serve_with_incoming_shutdown(incoming, self.cut.clone().cancelled_owned());
        tokio::spawn(server);
    }

    /// Waits until `n` requests have arrived in all.
    pub async fn called(&self, n: usize) -> Vec<Call> {
        self.calls.subscribe().wait_for(|calls| calls.len() >= n).await.unwrap().clone()
    }
}

struct Service {
    x509: watch::Sender<Says<wire::X509svidResponse>>,
    x509_bundles: watch::Sender<Says<wire::X509BundlesResponse>>,
    jwt_bundles: watch::Sender<Says<wire::JwtBundlesResponse>>,
    jwt: watch::Sender<Says<wire::JwtsvidResponse>>,
    validated: watch::Sender<Says<wire::ValidateJwtsvidResponse>>,
}

type Answer<T> = Result<Response<ReceiverStream<Result<T, Status>>>, Status>;

/// Says what is said now, then every change, until something ends the stream.
fn stream<T: Clone + Send + Sync + 'static>(said: &watch::Sender<Says<T>>) -> Answer<T> {
    let mut said = said.subscribe();
    if let Says::Fail(status) = &*said.borrow() {
        return Err(status.clone());
    }
    let (answer, answers) = mpsc::channel(8);
    tokio::spawn(async move {
        loop {
            let now = said.borrow_and_update().clone();
            match now {
                Says::Close => return,
                Says::Fail(status) => return drop(answer.send(Err(status)).await),
                Says::Message(message) => drop(answer.send(Ok(message)).await),
            }
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return },
                () = answer.closed() => return,
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(answers)))
}

fn unary<T: Clone>(said: &watch::Sender<Says<T>>) -> Result<Response<T>, Status> {
    match &*said.borrow() {
        Says::Close => Err(Status::unavailable("closed")),
        Says::Fail(status) => Err(status.clone()),
        Says::Message(message) => Ok(Response::new(message.clone())),
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Service {
    type FetchX509SVIDStream = ReceiverStream<Result<wire::X509svidResponse, Status>>;
    type FetchX509BundlesStream = ReceiverStream<Result<wire::X509BundlesResponse, Status>>;
    type FetchJWTBundlesStream = ReceiverStream<Result<wire::JwtBundlesResponse, Status>>;
    type FetchWITSVIDStream = ReceiverStream<Result<wire::WitsvidResponse, Status>>;
    type FetchWITBundlesStream = ReceiverStream<Result<wire::WitBundlesResponse, Status>>;

    async fn fetch_x509svid(&self, _: Request<wire::X509svidRequest>) -> Answer<wire::X509svidResponse> {
        stream(&self.x509)
    }

    async fn fetch_x509_bundles(&self, _: Request<wire::X509BundlesRequest>) -> Answer<wire::X509BundlesResponse> {
        stream(&self.x509_bundles)
    }

    async fn fetch_jwt_bundles(&self, _: Request<wire::JwtBundlesRequest>) -> Answer<wire::JwtBundlesResponse> {
        stream(&self.jwt_bundles)
    }

    async fn fetch_jwtsvid(&self, _: Request<wire::JwtsvidRequest>) -> Result<Response<wire::JwtsvidResponse>, Status> {
        unary(&self.jwt)
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<wire::ValidateJwtsvidRequest>,
    ) -> Result<Response<wire::ValidateJwtsvidResponse>, Status> {
        unary(&self.validated)
    }

    async fn fetch_witsvid(&self, _: Request<wire::WitsvidRequest>) -> Answer<wire::WitsvidResponse> {
        Err(Status::unimplemented("no WIT profile"))
    }

    async fn fetch_wit_bundles(&self, _: Request<wire::WitBundlesRequest>) -> Answer<wire::WitBundlesResponse> {
        Err(Status::unimplemented("no WIT profile"))
    }
}

struct AgentService(watch::Sender<Says<agent::WatchRevocationsResponse>>);

#[tonic::async_trait]
impl Agent for AgentService {
    type WatchRevocationsStream = ReceiverStream<Result<agent::WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        _: Request<agent::WatchRevocationsRequest>,
    ) -> Answer<agent::WatchRevocationsResponse> {
        stream(&self.0)
    }
}

/// Notes path and header of every request of the Workload API.
#[derive(Clone)]
struct Logged<S> {
    inner: S,
    calls: watch::Sender<Vec<Call>>,
}

impl<S, B> tower::Service<http::Request<B>> for Logged<S>
where
    S: tower::Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        let header = request.headers().get_all("workload.spiffe.io");
        let header = header.iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        let call = Call { path: request.uri().path().to_owned(), header, at: Instant::now() };
        if !call.path.starts_with("/chancery.") {
            self.calls.send_modify(|calls| calls.push(call));
        }
        self.inner.call(request)
    }
}

/// A connection that a test can cut.
struct Cuttable {
    io: UnixStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for Cuttable {
    type ConnectInfo = Arc<()>;

    fn connect_info(&self) -> Arc<()> {
        Arc::default()
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
