//! A TLS stream that ends when its peer's certificate does.

use std::{
    fmt,
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::TlsStream;
use tonic::transport::server::Connected;

use super::PeerIdentity;
use crate::{revocation::Names, time::UnixTime, tls::PeerVerifier};

/// How often, at most, a connection goes without being judged again by the wall clock.
///
/// Timers run on the monotonic clock: without this a clock step or a suspended machine would extend
/// a certificate's life.
pub const RECHECK: Duration = Duration::from_secs(30);

/// A connection to a verified peer.
///
/// Reading and writing fail with [`ErrorKind::TimedOut`] after the last second of the peer's
/// certificate, and with [`ErrorKind::ConnectionAborted`] at most [`RECHECK`] after its authority
/// left the bundle, and as soon as the peer is on the verifier's list of revocations, or held. A pending read or
/// write is woken for it.
#[derive(Debug)]
pub struct GuardedStream<IO> {
    tls: TlsStream<IO>,
    peer: PeerIdentity,
    guard: Guard,
}

impl<IO> GuardedStream<IO> {
    /// Guards a finished handshake.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] when the peer presented nothing, or is no longer trusted.
    pub fn new(tls: TlsStream<IO>, verifier: Arc<PeerVerifier>) -> io::Result<Self> {
        let (_, state) = tls.get_ref();
        let peer = PeerIdentity::of(state, &verifier)
            .map_err(|fault| io::Error::new(ErrorKind::PermissionDenied, fault))?
            .ok_or_else(|| io::Error::new(ErrorKind::PermissionDenied, "peer presented no certificate"))?;
        let chain = state.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
        let guard = Guard::new(verifier, chain, &peer);
        Ok(Self { tls, peer, guard })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The stream inside and its TLS state.
    pub fn get_ref(&self) -> (&IO, &rustls::CommonState) {
        self.tls.get_ref()
    }
}

#[derive(Debug)]
struct Guard {
    verifier: Arc<PeerVerifier>,
    /// As the peer sent it, leaf first.
    chain: Vec<CertificateDer<'static>>,
    not_after: UnixTime,
    ended: Option<ErrorKind>,
    /// As a list of revocations names the chain.
    names: Names,
    id: String,
    /// Reader and writer may be different tasks, and a timer wakes only the last that asked.
    read: Alarm,
    write: Alarm,
}

/// What wakes one side: its timer, and additions to the list of revocations.
struct Alarm {
    timer: Pin<Box<Sleep>>,
    list: Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send + Sync>>,
}

impl Alarm {
    fn new(wait: Duration, list: watch::Receiver<u64>) -> Self {
        Self { timer: Box::pin(sleep(wait)), list: addition(list) }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("timer", &self.timer).finish_non_exhaustive()
    }
}

/// Waits for the next addition. The verifier holds the sender, so the channel does not close before the guard goes.
fn addition(mut list: watch::Receiver<u64>) -> Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send + Sync>> {
    Box::pin(async move {
        if list.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        list
    })
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl Guard {
    fn new(verifier: Arc<PeerVerifier>, chain: Vec<CertificateDer<'static>>, peer: &PeerIdentity) -> Self {
        let not_after = peer.not_after();
        let wait = until_end(not_after, verifier.now());
        let (names, id) = (Names::of(&chain), peer.id().to_string());
        // What came since the handshake was judged is seen at the first look: these have seen nothing yet.
        let alarm = || {
            let mut list = verifier.revocations().changed();
            list.mark_changed();
            Alarm::new(wait, list)
        };
        let (read, write) = (alarm(), alarm());
        Self { verifier, chain, not_after, ended: None, names, id, read, write }
    }

    /// Fails when the connection has ended; otherwise sees to it that `side` is woken when it does.
    fn check(&mut self, side: Side, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if let Some(kind) = self.ended {
                return Err(io::Error::new(kind, "the peer's certificate ended or is no longer trusted"));
            }
            let alarm = match side {
                Side::Read => &mut self.read,
                Side::Write => &mut self.write,
            };
            if let Poll::Ready(list) = alarm.list.as_mut().poll(cx) {
                alarm.list = addition(list);
                let list = self.verifier.revocations().list();
                let held = list.held(&self.id, self.verifier.now()).is_some();
                if held || list.refuses(&self.id, &self.names) {
                    tracing::warn!(peer = self.id, held, "the connection of a peer that is revoked or held is closed");
                    self.ended = Some(ErrorKind::ConnectionAborted);
                }
                continue;
            }
            if alarm.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            let now = self.verifier.now();
            alarm.timer.as_mut().reset(Instant::now() + until_end(self.not_after, now));
            self.ended = self.judge(now);
        }
    }

    fn judge(&self, now: UnixTime) -> Option<ErrorKind> {
        if now > self.not_after {
            return Some(ErrorKind::TimedOut);
        }
        self.verifier.verify(&self.chain).err().map(|_| ErrorKind::ConnectionAborted)
    }
}

/// Time until the first second after `not_after`, between 1 s and [`RECHECK`].
fn until_end(not_after: UnixTime, now: UnixTime) -> Duration {
    let secs = u64::try_from(not_after.plus(1).since(now)).unwrap_or(0);
    Duration::from_secs(secs.max(1)).min(RECHECK)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedStream<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.guard.check(Side::Read, cx)?;
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.guard.check(Side::Write, cx)?;
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.guard.check(Side::Write, cx)?;
        Pin::new(&mut self.tls).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard.check(Side::Write, cx)?;
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

impl<IO> Connected for GuardedStream<IO> {
    type ConnectInfo = PeerIdentity;

    fn connect_info(&self) -> PeerIdentity {
        self.peer.clone()
    }
}
