//! Small answers over plain HTTP/1: GET and HEAD only, and bounded in connections and time for whoever asks.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections of a door with short answers at once; more wait in the system's queue.
pub const CONNECTIONS: usize = 256;
/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Age of a connection: a reader that takes nothing holds an answer no longer.
const AGE: Duration = Duration::from_secs(60);

/// What a path is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Whether somebody between may keep it, and how long; the value of `Cache-Control`.
    pub cache: &'static str,
    /// The body.
    pub body: Bytes,
}

/// It is another one next time.
pub const NO_CACHE: &str = "no-cache";
/// An error is nothing to keep.
const NO_STORE: &str = "no-store";

impl Answer {
    /// An answer of status 200.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: 200, content_type, cache: NO_CACHE, body: body.into() }
    }

    /// A text of another status.
    pub fn text(status: u16, text: &str) -> Self {
        let body = Bytes::copy_from_slice(text.as_bytes());
        Self { status, content_type: "text/plain; charset=utf-8", cache: NO_STORE, body }
    }
}

/// Answers a path, on a thread that may wait for a disk; `None`: there is nothing there.
pub type Answers = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Listens on `addr` and answers at most `connections` at once until `stop`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(
    addr: SocketAddr,
    connections: usize,
    answers: Answers,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let slots = Arc::new(Semaphore::new(connections));
    tokio::spawn(async move {
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
                let (tcp, _) = listener.accept().await?;
                Ok::<_, io::Error>((slot, tcp))
            };
            let accepted = tokio::select! { () = stop.cancelled() => return, accepted = accepted => accepted };
            let Ok((slot, tcp)) = accepted else { continue };
            let (answers, stop) = (Arc::clone(&answers), stop.clone());
            tokio::spawn(async move {
                let _slot = slot;
                let service = service_fn(move |request| {
                    let answers = Arc::clone(&answers);
                    async move { Ok::<_, Infallible>(respond(&request, answers).await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD);
                let mut connection = pin!(http.serve_connection(TokioIo::new(tcp), service));
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = connection.as_mut() => return,
                    () = sleep(AGE) => connection.as_mut().graceful_shutdown(),
                }
                // The answer under way is finished, if its reader takes it.
                tokio::select! { () = stop.cancelled() => {}, _ = timeout(HEAD, connection) => {} }
            });
        }
    });
    Ok(bound)
}

async fn respond(request: &Request<Incoming>, answers: Answers) -> Response<Full<Bytes>> {
    let answer = match *request.method() {
        Method::GET | Method::HEAD => {
            let path = request.uri().path().to_owned();
            let answer = tokio::task::spawn_blocking(move || answers(&path)).await;
            let answer = answer.unwrap_or_else(|_| Some(Answer::text(500, "it cannot be answered\n")));
            answer.unwrap_or_else(|| Answer::text(404, "not found\n"))
        }
        _ => Answer::text(405, "only GET\n"),
    };
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(answer.cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
