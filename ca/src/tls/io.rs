//! A connection that ends when it must: cut by the registry, or at the end of the peer's certificate.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use chancery_daemon::clock::Clock;
use chancery_sdk::time::UnixTime;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::{limits::Slot, live::Lease, peer::Peer};

/// The wall clock is asked at least this often: the timer's clock does not see a step or a suspended machine.
const REARM: Duration = Duration::from_secs(30);

/// A connection in the registry. Reading it fails once it must end; gRPC always has a read pending.
pub struct PeerIo<S> {
    io: S,
    lease: Lease,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    end: Option<End>,
    _slot: Option<Slot>,
}

struct End {
    not_after: UnixTime,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
}

impl<S> PeerIo<S> {
    /// Wraps `io`; its place in the registry and its slot are given up with it.
    pub fn new(io: S, lease: Lease, slot: Option<Slot>, clock: &Clock) -> Self {
        let cut = Box::pin(lease.cut.clone().cancelled_owned());
        let end = lease.peer.not_after.map(|not_after| {
            let timer = Box::pin(tokio::time::sleep(wait(not_after, clock())));
            End { not_after, clock: Arc::clone(clock), timer }
        });
        Self { io, lease, cut, end, _slot: slot }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Result<(), io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed: the peer's standing changed"));
        }
        let Some(end) = &mut self.end else { return Ok(()) };
        while end.timer.as_mut().poll(cx).is_ready() {
            let now = (end.clock)();
            if now > end.not_after {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "closed: the peer's certificate ended"));
            }
            end.timer.as_mut().reset(Instant::now() + wait(end.not_after, now));
        }
        Ok(())
    }
}

/// Until the first second after `not_after`, or the next look at the wall clock.
fn wait(not_after: UnixTime, now: UnixTime) -> Duration {
    let left = u64::try_from(not_after.since(now).saturating_add(1)).unwrap_or(0);
    Duration::from_secs(left).min(REARM)
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S> Connected for PeerIo<S> {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        Arc::clone(&self.lease.peer)
    }
}

impl<S> fmt::Debug for PeerIo<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerIo").field("peer", &self.lease.peer).finish_non_exhaustive()
    }
}
