//! Prometheus text over HTTP, on a loopback address by default: `GET /metrics`, `/live`, `/ready`.

use std::{io, net::SocketAddr, sync::Arc};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer};

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
    let answers = Arc::new(move |path: &str| answer(path, &registry, &ready));
    http::serve(addr, http::CONNECTIONS, answers, stop).await
}

fn answer(path: &str, registry: &Registry, ready: &Ready) -> Option<Answer> {
    Some(match path {
        "/metrics" => {
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => Answer::ok(OPENMETRICS, text),
                Err(_) => Answer::text(500, "encoding failed\n"),
            }
        }
        "/live" => Answer::text(200, "live\n"),
        "/ready" => match ready() {
            Ok(()) => Answer::text(200, "ready\n"),
            Err(why) => Answer::text(503, &format!("not ready\n{why}\n")),
        },
        _ => return None,
    })
}
