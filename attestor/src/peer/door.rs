use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{Caller, PidProof, authority::Rewriter};

/// Connections identified and not yet taken by the server.
const BACKLOG: usize = 64;
/// Wait after `accept` fails (descriptors used up): neither spin nor give up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of one user at a time: each costs us three descriptors, and one user may not use up all.
const MAX_PER_USER: usize = 1000;

/// Bytes read from a connection at once.
const READ_BYTES: usize = 8 << 10;

/// A connection whose caller is known.
pub struct DoorStream {
    io: UnixStream,
    rewriter: Rewriter,
    caller: Arc<Caller>,
    _seat: Seat,
}

/// How many connections each user has.
#[derive(Clone, Default)]
struct Seats {
    /// Guards the counts by uid; held for one change.
    taken: Arc<Mutex<HashMap<u32, usize>>>,
}

/// One connection of a user, counted until it is dropped.
struct Seat {
    seats: Seats,
    uid: u32,
}

impl Seats {
    fn take(&self, uid: u32) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(uid).or_default();
        if *count >= MAX_PER_USER {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), uid })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

/// Accepts callers until `stop`. One whose process is not known is cut at once: there is nobody to answer.
pub fn accept(
    listener: UnixListener,
    require: PidProof,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<DoorStream>> {
    let (tx, rx) = mpsc::channel(BACKLOG);
    let seats = Seats::default();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let io = match accepted {
                Ok((io, _)) => io,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a local connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match Caller::of(&io, require) {
                Ok(caller) => {
                    let Some(seat) = seats.take(caller.uid) else {
                        tracing::warn!(uid = caller.uid, max = MAX_PER_USER, "user has too many connections");
                        continue;
                    };
                    if tx.send(Ok(DoorStream::new(io, caller, seat))).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "local caller refused"),
            }
        }
    });
    ReceiverStream::new(rx)
}

impl DoorStream {
    fn new(io: UnixStream, caller: Caller, seat: Seat) -> Self {
        Self { io, rewriter: Rewriter::default(), caller: Arc::new(caller), _seat: seat }
    }
}

impl Connected for DoorStream {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        Arc::clone(&self.caller)
    }
}

impl AsyncRead for DoorStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let piece = self.rewriter.take(buf.remaining());
            if !piece.is_empty() || buf.remaining() == 0 {
                buf.put_slice(piece);
                return Poll::Ready(Ok(()));
            }
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut fresh = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut fresh))?;
            if fresh.filled().is_empty() {
                self.rewriter.end();
                buf.put_slice(self.rewriter.take(buf.remaining()));
                return Poll::Ready(Ok(()));
            }
            self.rewriter.feed(fresh.filled());
        }
    }
}

impl AsyncWrite for DoorStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_every_seat_and_gets_them_back() {
        let seats = Seats::default();
        let mut all: Vec<_> = (0..MAX_PER_USER).map(|_| seats.take(1).unwrap()).collect();
        assert!(seats.take(1).is_none() && seats.take(2).is_some());
        all.pop();
        assert!(seats.take(1).is_some());
        all.clear();
        assert!(seats.taken.lock().unwrap().is_empty());
    }
}
