//! Prometheus text over HTTP, on a loopback address by default: `GET /metrics`, `/live`, `/ready`.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Content type of the OpenMetrics text form.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Says whether the daemon can do its work now, else why not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Listens on `addr` and answers until `stop`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    registry: Arc<Registry>,
    ready: Ready,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! { () = stop.cancelled() => return, a = listener.accept() => a };
            let Ok((tcp, _)) = accepted else { continue };
            let (registry, ready, stop) = (Arc::clone(&registry), Arc::clone(&ready), stop.clone());
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let response = respond(&request, &registry, &ready);
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer);
                tokio::select! { () = stop.cancelled() => {}, _ = connection => {} }
            });
        }
    });
    Ok(bound)
}

fn respond(request: &Request<Incoming>, registry: &Registry, ready: &Ready) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => (StatusCode::OK, OPENMETRICS, text),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "encoding failed\n".into()),
            }
        }
        (&Method::GET, "/live") => (StatusCode::OK, "text/plain", "live\n".into()),
        (&Method::GET, "/ready") => match ready() {
            Ok(()) => (StatusCode::OK, "text/plain", "ready\n".into()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", format!("not ready\n{why}\n")),
        },
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
