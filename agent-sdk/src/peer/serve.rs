//! A serve loop for hyper services and axum routers over verified connections.

use std::{convert::Infallible, error::Error, pin::pin, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming as RequestBody},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use super::{GuardedStream, Incoming};

/// How long requests in progress may go on after `stop`.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves HTTP/1.1 and HTTP/2 (whatever ALPN settled on) until `stop` is cancelled.
///
/// `service` is an axum `Router` or any tower service of that form. Each request carries the
/// [`PeerIdentity`](super::PeerIdentity) of its connection in its extensions. After `stop`, requests
/// in progress have [`SHUTDOWN_GRACE`]; then their connections are closed.
pub async fn serve<S, B>(mut incoming: Incoming, service: S, stop: CancellationToken)
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let connections = TaskTracker::new();
    let abandon = CancellationToken::new();
    while let Some(Some(stream)) = stop.run_until_cancelled(incoming.accept()).await {
        let one = serve_one(stream, service.clone(), stop.clone());
        connections.spawn(abandon.clone().run_until_cancelled_owned(one));
    }
    drop(incoming);
    connections.close();
    if timeout(SHUTDOWN_GRACE, connections.wait()).await.is_err() {
        abandon.cancel();
        connections.wait().await;
    }
}

async fn serve_one<S, B>(stream: GuardedStream<TcpStream>, service: S, stop: CancellationToken)
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let peer = stream.peer().clone();
    let told = peer.clone();
    let with_peer = service_fn(move |mut request: Request<RequestBody>| {
        request.extensions_mut().insert(told.clone());
        service.clone().oneshot(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), with_peer));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(fault) = outcome {
        tracing::debug!(peer = %peer.id(), %fault, "connection ended");
    }
}
