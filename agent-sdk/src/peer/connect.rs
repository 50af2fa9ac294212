//! The client's half: handshakes, and a connector for tonic and hyper.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower::Service;

use super::{GuardedStream, HANDSHAKE_TIMEOUT};
use crate::tls::{PeerVerifier, TlsError, client_config};

/// A guarded connection in the form hyper and tonic take.
pub type PeerIo = TokioIo<GuardedStream<TcpStream>>;

/// Does the client's half of mutual TLS.
///
/// The host and port of a URI say only where to dial: who answers is decided by SPIFFE ID. As a
/// tower service it fits `tonic::transport::Endpoint::connect_with_connector_lazy`.
///
/// A live connection keeps the certificate it began with. The server ends it when that certificate
/// ends; the next call dials anew with the current one, so a client should retry an idempotent call
/// once.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    verifier: Arc<PeerVerifier>,
}

impl Connector {
    /// A connector that presents `certificate` and speaks the protocols of `alpn`.
    ///
    /// # Errors
    /// As [`client_config`].
    pub fn new(
        verifier: Arc<PeerVerifier>,
        certificate: Arc<dyn ResolvesClientCert>,
        alpn: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let config = client_config(verifier.clone(), certificate, alpn)?;
        Ok(Self { tls: Arc::new(config).into(), verifier })
    }

    /// Does one handshake over `io`, within [`HANDSHAKE_TIMEOUT`].
    ///
    /// Under TLS 1.3 this succeeds before the server has judged us: only its first answer proves that
    /// we are welcome.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], or why the server was refused.
    pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> io::Result<GuardedStream<IO>> {
        // A name is needed for the type and neither sent nor checked.
        let name = ServerName::try_from("spiffe.invalid").expect("a DNS name");
        let tls = timeout(HANDSHAKE_TIMEOUT, self.tls.connect(name, io)).await??;
        GuardedStream::new(tls.into(), self.verifier.clone())
    }

    /// Dials `uri`'s host and port (443 when there is none) and does the handshake.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), or why the address can not be reached.
    pub async fn dial(&self, uri: &Uri) -> io::Result<GuardedStream<TcpStream>> {
        let host = uri.host().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "address has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = timeout(HANDSHAKE_TIMEOUT, TcpStream::connect((host, uri.port_u16().unwrap_or(443)))).await??;
        tcp.set_nodelay(true)?;
        self.connect(tcp).await
    }
}

impl Service<Uri> for Connector {
    type Response = PeerIo;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<PeerIo>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.dial(&uri).await.map(TokioIo::new) })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}
