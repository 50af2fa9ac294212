//! A connection that ends when the registry says so: its peer's standing changed, or its certificate ended.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::{limits::Slot, live::Lease, peer::Peer};

/// A connection in the registry. Reading it fails once it must end; gRPC always has a read pending.
pub struct PeerIo<S> {
    io: S,
    lease: Lease,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: Option<Slot>,
}

impl<S> PeerIo<S> {
    /// Wraps `io`; its place in the registry and its slot are given up with it.
    pub fn new(io: S, lease: Lease, slot: Option<Slot>) -> Self {
        let cut = Box::pin(lease.cut.clone().cancelled_owned());
        Self { io, lease, cut, _slot: slot }
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Result<(), io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            let text = "closed: the peer's standing changed, or its certificate ended";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
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
