//! Small answers over plain HTTP/1: GET only, and bounded in connections and time for whoever asks.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections of one door at once; more wait in the system's queue.
const CONNECTIONS: usize = 256;
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
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of status 200.
    pub fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: 200, content_type, body }
    }

    /// A text of another status.
    pub fn text(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain", body: text.as_bytes().to_vec() }
    }
}

/// Answers a path; `None`: there is nothing there.
pub type Answers = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// Listens on `addr` and answers until `stop`.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(addr: SocketAddr, answers: Answers, stop: CancellationToken) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
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
                    let response = respond(&request, &answers);
                    async move { Ok::<_, Infallible>(response) }
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

fn respond(request: &Request<Incoming>, answers: &Answers) -> Response<Full<Bytes>> {
    let answer = match *request.method() {
        Method::GET => answers(request.uri().path()).unwrap_or_else(|| Answer::text(404, "not found\n")),
        _ => Answer::text(405, "only GET\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(answer.content_type));
    response
}
