//! A lazily connected h2c channel to the endpoint. Reconnecting is tonic's, waiting is ours.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::Channel;
use tower::service_fn;

use super::Endpoint;

/// How long a TCP connection may take; a UNIX socket answers at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle TCP connection is asked whether the host still lives.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// A channel that dials when it is first used and again whenever it was lost.
///
/// Must be called on a tokio runtime of either flavour.
pub(super) fn channel(endpoint: &Endpoint) -> Channel {
    // The authority of a gRPC call over a UNIX socket is "localhost", as gRPC's other clients send.
    let base = tonic::transport::Endpoint::from_static("http://localhost");
    match endpoint {
        Endpoint::Tcp(address) => {
            let address = *address;
            base.connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(TCP_KEEPALIVE)
                .keep_alive_while_idle(true)
                .connect_with_connector_lazy(service_fn(move |_: Uri| async move {
                    TcpStream::connect(address).await.map(TokioIo::new)
                }))
        }
        Endpoint::Unix(path) => {
            let path: Arc<PathBuf> = Arc::new(path.clone());
            base.connect_with_connector_lazy(service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(&*path).await.map(TokioIo::new) }
            }))
        }
    }
}
