//! The server's half: handshakes, and a listener that yields only verified peers.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::server::ResolvesServerCert;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{GuardedStream, HANDSHAKE_TIMEOUT};
use crate::tls::{PeerVerifier, TlsError, server_config};

/// Handshakes in progress at once on one listener; each costs one verification and some kilobytes.
const MAX_HANDSHAKES: usize = 1024;
/// Pause after a failed `accept` (out of files, for example), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Does the server's half of mutual TLS.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    verifier: Arc<PeerVerifier>,
    speaks_alpn: bool,
}

impl Acceptor {
    /// An acceptor that presents `certificate` and speaks the protocols of `alpn`.
    ///
    /// # Errors
    /// As [`server_config`].
    pub fn new(
        verifier: Arc<PeerVerifier>,
        certificate: Arc<dyn ResolvesServerCert>,
        alpn: &[&[u8]],
    ) -> Result<Self, TlsError> {
        let config = server_config(verifier.clone(), certificate, alpn)?;
        Ok(Self { tls: Arc::new(config).into(), verifier, speaks_alpn: !alpn.is_empty() })
    }

    /// Does one handshake, within [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`], or why the peer was refused.
    pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(&self, io: IO) -> io::Result<GuardedStream<IO>> {
        let tls = timeout(HANDSHAKE_TIMEOUT, self.tls.accept(io)).await??;
        // rustls refuses a client that offers other protocols, but not one that offers none.
        if self.speaks_alpn && tls.get_ref().1.alpn_protocol().is_none() {
            return Err(io::Error::new(ErrorKind::InvalidData, "peer offers no application protocol"));
        }
        GuardedStream::new(tls.into(), self.verifier.clone())
    }

    /// Accepts on `listener` and yields connections whose handshake succeeded.
    ///
    /// Handshakes run beside each other: a silent peer holds up nobody. They stop when the result is
    /// dropped. For tonic: `Server::builder().serve_with_incoming(acceptor.incoming(listener))`.
    pub fn incoming(self, listener: TcpListener) -> Incoming {
        let (found, verified) = mpsc::channel(1);
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(self.accept_all(listener, found)));
        Incoming { verified, _stop: stop.drop_guard() }
    }

    async fn accept_all(self, listener: TcpListener, found: mpsc::Sender<GuardedStream<TcpStream>>) {
        let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            // Never closed, so this never fails; nothing is accepted while all slots are taken.
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let tcp = match listener.accept().await {
                Ok((tcp, _)) => tcp,
                Err(fault) => {
                    tracing::warn!(%fault, "accepting a connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (acceptor, found) = (self.clone(), found.clone());
            tokio::spawn(async move {
                let _ = tcp.set_nodelay(true); // costs only latency when it fails
                match acceptor.accept(tcp).await {
                    Ok(stream) => drop(found.send(stream).await),
                    Err(fault) => tracing::debug!(%fault, "peer refused in the handshake"),
                }
                drop(slot);
            });
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

/// Verified connections of one listener, as a stream that never yields an error.
#[derive(Debug)]
pub struct Incoming {
    verified: mpsc::Receiver<GuardedStream<TcpStream>>,
    _stop: DropGuard,
}

impl Incoming {
    /// The next verified connection; cancel-safe.
    pub async fn accept(&mut self) -> Option<GuardedStream<TcpStream>> {
        self.verified.recv().await
    }
}

impl Stream for Incoming {
    type Item = io::Result<GuardedStream<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.verified.poll_recv(cx).map(|found| found.map(Ok))
    }
}
