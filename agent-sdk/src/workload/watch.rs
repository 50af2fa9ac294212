//! Following a stream for as long as the program runs, by the standard's retry rules.

use std::time::Duration;

use chancery_proto::{chancery::agent::v1 as agent, workload as wire};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::{JwtBundles, RevocationsUpdate, UpdateError, X509Bundles, X509Context, backoff::Backoff, client::Caller};

/// What happened on a watched stream.
#[derive(Debug)]
pub enum Event<T> {
    /// The caller is entitled to nothing: what was known must no longer be used (WA-36). The watch
    /// goes on asking, slowly.
    Denied(Status),
    /// A message that breaks the rules was dropped; what was known before it stays (WA-17).
    Discarded(UpdateError),
    /// The watch is over: asking again would give the same answer (`InvalidArgument`, `Unimplemented`).
    Ended(Status),
    /// The connection was lost or the server is not ready. What was known stays (WA-37); the watch
    /// goes on.
    Lost(Status),
    /// The complete state of now. It replaces everything before; absence is redaction (WA-13 to WA-15).
    Update(T),
}

/// A stream of the Workload API that reconnects by itself.
///
/// Only the caller's `next` drives it: there is no task behind it.
pub struct Watch<T: Watched> {
    caller: Caller,
    backoff: Backoff,
    state: State<T>,
}

enum State<T: Watched> {
    Ended,
    Open(Streaming<T::Message>),
    Waiting { until: Instant },
}

/// The streams that can be watched; sealed, since the protocols are closed.
pub trait Watched: Sized + Send + sealed::Stream {}

pub(super) mod sealed {
    use super::*;

    /// How one stream is opened and read. A trait, since the loop around it is the same for each.
    pub trait Stream: Sized {
        type Message: Send + 'static;
        fn open(caller: &mut Caller) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;
        fn read(message: Self::Message) -> Result<Self, UpdateError>;
    }
}

impl<T: Watched> Watch<T> {
    pub(super) fn new(caller: Caller) -> Self {
        Self { caller, backoff: Backoff::default(), state: State::Waiting { until: Instant::now() } }
    }

    /// Waits for the next event; none once the watch has ended.
    ///
    /// Dropping the future loses nothing but an unfinished connection attempt.
    pub async fn next(&mut self) -> Option<Event<T>> {
        loop {
            match &mut self.state {
                State::Ended => return None,
                State::Waiting { until } => {
                    tokio::time::sleep_until(*until).await;
                    match T::open(&mut self.caller).await {
                        Ok(stream) => self.state = State::Open(stream),
                        Err(status) => return Some(self.failed(status)),
                    }
                }
                State::Open(stream) => {
                    return Some(match stream.message().await {
                        Ok(Some(message)) => self.received(message),
                        Ok(None) => self.failed(Status::unavailable("the server closed the stream")),
                        Err(status) => self.failed(status),
                    });
                }
            }
        }
    }

    fn received(&mut self, message: T::Message) -> Event<T> {
        self.backoff.succeeded();
        match T::read(message) {
            Ok(update) => Event::Update(update),
            Err(fault) => Event::Discarded(fault),
        }
    }

    /// Sorts a failure: terminal, denied, or lost. Codes that tell nothing about the request (a
    /// broken transport shows as `Unknown`, `Cancelled` or `Internal`) count as lost.
    fn failed(&mut self, status: Status) -> Event<T> {
        match status.code() {
            Code::InvalidArgument | Code::Unimplemented => {
                self.state = State::Ended;
                Event::Ended(status)
            }
            Code::PermissionDenied => {
                let delay = self.backoff.after_denial();
                self.wait(delay);
                Event::Denied(status)
            }
            _ => {
                let delay = self.backoff.after_loss();
                self.wait(delay);
                Event::Lost(status)
            }
        }
    }

    fn wait(&mut self, delay: Duration) {
        self.state = State::Waiting { until: Instant::now() + delay };
    }
}

impl<T: Watched> std::fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

impl Watched for X509Context {}
impl sealed::Stream for X509Context {
    type Message = wire::X509svidResponse;

    async fn open(caller: &mut Caller) -> Result<Streaming<Self::Message>, Status> {
        caller.workload.fetch_x509svid(wire::X509svidRequest {}).await.map(tonic::Response::into_inner)
    }

    fn read(message: Self::Message) -> Result<Self, UpdateError> {
        Self::read(message)
    }
}

impl Watched for X509Bundles {}
impl sealed::Stream for X509Bundles {
    type Message = wire::X509BundlesResponse;

    async fn open(caller: &mut Caller) -> Result<Streaming<Self::Message>, Status> {
        caller.workload.fetch_x509_bundles(wire::X509BundlesRequest {}).await.map(tonic::Response::into_inner)
    }

    fn read(message: Self::Message) -> Result<Self, UpdateError> {
        Self::read(message)
    }
}

impl Watched for JwtBundles {}
impl sealed::Stream for JwtBundles {
    type Message = wire::JwtBundlesResponse;

    async fn open(caller: &mut Caller) -> Result<Streaming<Self::Message>, Status> {
        caller.workload.fetch_jwt_bundles(wire::JwtBundlesRequest {}).await.map(tonic::Response::into_inner)
    }

    fn read(message: Self::Message) -> Result<Self, UpdateError> {
        Self::read(message)
    }
}

impl Watched for RevocationsUpdate {}
impl sealed::Stream for RevocationsUpdate {
    type Message = agent::WatchRevocationsResponse;

    async fn open(caller: &mut Caller) -> Result<Streaming<Self::Message>, Status> {
        caller.agent.watch_revocations(agent::WatchRevocationsRequest {}).await.map(tonic::Response::into_inner)
    }

    fn read(message: Self::Message) -> Result<Self, UpdateError> {
        Ok(Self::read(message))
    }
}
