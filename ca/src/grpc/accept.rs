//! The two doors: accept, handshake, facts, registry; then the connection is tonic's.
//!
//! A connection is listed before anything is served on it, and the gate asks for the standing at every
//! call after that: a revocation in between hits one of the two.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chancery_core::transcript::Exporters;
use chancery_daemon::tcp::watched;
use chancery_sdk::{tls::H2, x509};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    State,
    limits::{Slot, Slots},
    metrics::Metrics,
    peer::{LocalPeer, Peer},
    tls::{PeerIo, Tls},
};

/// Finished connections waiting for tonic.
const BACKLOG: usize = 64;
/// Open connections of the admin socket; only the operator's own processes can hold them.
const ADMIN_CONNECTIONS: usize = 256;
/// A node's host that says nothing for so long is asked whether it is there; attestors ask us oftener.
const SILENCE: Duration = Duration::from_secs(60);
/// Rest after accept() failed (no file descriptors left): neither spin nor end.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Connections as tonic takes them.
pub type Incoming<S> = ReceiverStream<io::Result<PeerIo<S>>>;

/// Accepts on the TCP door until the soft word.
pub fn tcp(listener: TcpListener, tls: Tls, state: &Arc<State>) -> Incoming<TlsStream<TcpStream>> {
    let (ready, incoming) = mpsc::channel(BACKLOG);
    let limits = &state.config.limits;
    let door = Door {
        tls,
        slots: Slots::new(limits.connections, limits.connections_per_source),
        handshakes: Arc::new(Semaphore::new(limits.handshakes)),
        timeout: limits.handshake_timeout.0,
        state: Arc::clone(state),
        ready,
    };
    tokio::spawn(Arc::new(door).accept(listener));
    ReceiverStream::new(incoming)
}

struct Door {
    tls: Tls,
    slots: Arc<Slots>,
    handshakes: Arc<Semaphore>,
    timeout: Duration,
    state: Arc<State>,
    ready: mpsc::Sender<io::Result<PeerIo<TlsStream<TcpStream>>>>,
}

impl Door {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.state.shutdown.soft.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, from) = match accepted {
                Ok(accepted) => accepted,
                Err(problem) => {
                    tracing::warn!(%problem, "accept");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let (slot, permit) = (self.slots.take(from.ip()), Arc::clone(&self.handshakes).try_acquire_owned());
            let (Some(slot), Ok(permit)) = (slot, permit) else {
                Metrics::count(&self.state.metrics.handshakes, "result", "no_slot");
                continue;
            };
            let door = Arc::clone(&self);
            tokio::spawn(async move {
                let admitted = door.admit(tcp, from, slot).await;
                drop(permit);
                if let Some(io) = admitted {
                    // Closed when the server stopped: then the connection ends here.
                    let _ = door.ready.send(Ok(io)).await;
                }
            });
        }
    }

    /// Handshake, facts, registry; `None` when the connection came to nothing.
    async fn admit(&self, tcp: TcpStream, from: SocketAddr, slot: Slot) -> Option<PeerIo<TlsStream<TcpStream>>> {
        let result = |word| Metrics::count(&self.state.metrics.handshakes, "result", word);
        if let Err(problem) = watched(&tcp, SILENCE) {
            tracing::debug!(%problem, "the connection goes on without probes");
        }
        let tls = match tokio::time::timeout(self.timeout, self.tls.acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(problem)) => {
                tracing::debug!(%problem, %from, "handshake");
                result("refused");
                return None;
            }
            Err(_) => {
                result("timeout");
                return None;
            }
        };
        let Some(peer) = self.facts(&tls, from) else {
            result("refused");
            return None;
        };
        result("done");
        let lease = self.state.live.register(Arc::new(peer));
        Some(PeerIo::new(tls, lease, Some(slot)))
    }

    /// What the finished handshake says of the caller.
    fn facts(&self, tls: &TlsStream<TcpStream>, from: SocketAddr) -> Option<Peer> {
        let (_, connection) = tls.get_ref();
        // rustls lets a client pass that offers no ALPN at all.
        if connection.alpn_protocol() != Some(H2) {
            return None;
        }
        let exporters = Exporters::of(|out, label| connection.export_keying_material(out, label, None));
        let mut peer = Peer {
            id: None,
            serial: String::new(),
            not_after: None,
            authorities: Vec::new(),
            exporters: Some(exporters.ok()?),
            source: Some(from.ip()),
            local: None,
        };
        if let Some(chain) = connection.peer_certificates() {
            let known = self.tls.verifier.verify(chain).ok()?;
            // A delegated issuer is in no bundle: the authority behind it counts.
            peer.authorities = chain.iter().filter_map(|der| x509::authority_key_id(der)).map(hex::encode).collect();
            peer.not_after = Some(known.not_after);
            peer.serial = known.serial_decimal;
            peer.id = Some(known.id);
        }
        Some(peer)
    }
}

/// Accepts on the admin socket until the soft word; the file mode has judged the caller already.
pub fn unix(listener: UnixListener, state: &Arc<State>) -> Incoming<UnixStream> {
    let (ready, incoming) = mpsc::channel(BACKLOG);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = state.shutdown.soft.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let io = match accepted {
                Ok((stream, _)) => local(stream, &state),
                Err(problem) => {
                    tracing::warn!(%problem, "accept on the admin socket");
                    tokio::time::sleep(ACCEPT_REST).await;
                    None
                }
            };
            if let Some(io) = io {
                let _ = ready.send(Ok(io)).await;
            }
        }
    });
    ReceiverStream::new(incoming)
}

fn local(stream: UnixStream, state: &State) -> Option<PeerIo<UnixStream>> {
    let credentials = stream.peer_cred().ok()?;
    let peer = Peer::local(LocalPeer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) });
    (state.live.len() < ADMIN_CONNECTIONS + state.config.limits.connections)
        .then(|| PeerIo::new(stream, state.live.register(Arc::new(peer)), None))
}
