use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rustls::ClientConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Channel};

use super::{
    CaError, DialError, Dialer, Servers,
    alive::{Loss, while_alive},
};
use crate::crypto::fraction;

/// Longest first rest after no server could be dialled, and longest at all: what 5,000 nodes need to come back without
/// taking more than a third of a core, and little against any SVID's life.
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// The way of one node SVID to the CA: one connection at a time, to a server that answers.
pub struct Line {
    dialer: Arc<Dialer>,
    config: Arc<ClientConfig>,
    /// Guards the connection in use or being made; held for a look or a replacement.
    state: Mutex<State>,
}

/// A connection being made, for everybody who waits for it.
type Dialling = Shared<BoxFuture<'static, Result<Arc<Link>, DialError>>>;

#[derive(Default)]
struct State {
    link: Option<Dialling>,
    /// Dials in a row that found no server.
    failures: u32,
    /// Until when none is tried, and what the last one came to.
    rest: Option<(Instant, DialError)>,
}

/// A connection to one server.
pub(super) struct Link {
    channel: Channel,
    server: usize,
    answered: AtomicBool,
    /// Another connection has taken its place. Calls under way go on.
    pub(super) over: CancellationToken,
}

impl Line {
    pub(super) fn new(dialer: Arc<Dialer>, config: Arc<ClientConfig>) -> Self {
        Self { dialer, config, state: Mutex::default() }
    }

    /// A channel over the connection in use, which is made where there is none.
    ///
    /// # Errors
    /// [`DialError`] where no server can be dialled, or none could a moment ago.
    pub async fn channel(self: &Arc<Self>) -> Result<Channel, DialError> {
        Ok(self.link().await?.channel.clone())
    }

    /// Asks a server, and the others where it gives no answer: each once, and one of them twice, for a connection that was
    /// asked to close fails the next call whoever is behind it. What a server *answers* is believed: a no is not taken
    /// elsewhere.
    ///
    /// # Errors
    /// [`CaError`]
    pub(super) async fn ask<T, F, Fut>(self: &Arc<Self>, ask: &F) -> Result<(T, Arc<Link>), CaError>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let servers = self.dialer.servers();
        let mut tries = servers.len() + 1;
        loop {
            let link = self.link().await.map_err(|e| CaError::Lost(e.to_string()))?;
            let status = match while_alive(&servers, &link.channel, ask(link.channel.clone())).await {
                Ok(response) => {
                    link.answers(&servers);
                    return Ok((response.into_inner(), link));
                }
                Err(status) => status,
            };
            let Some(loss) = Loss::of(&status) else {
                link.answers(&servers);
                return Err(status.into());
            };
            tries -= 1;
            let stays = self.lost(&link, &loss);
            if stays || tries == 0 {
                return Err(CaError::Lost(loss.into_reason()));
            }
        }
    }

    /// Gives the connection up for the next one, if it is still in use.
    pub(super) fn close(&self) {
        let link = self.state().link.take();
        if let Some(Ok(link)) = link.as_ref().and_then(Shared::peek) {
            link.over.cancel();
        }
    }

    /// Notes that a call had no answer; whether its connection stays in use all the same, since no other server is better.
    fn lost(&self, link: &Arc<Link>, loss: &Loss) -> bool {
        let servers = self.dialer.servers();
        if let Loss::NotNow(why) = loss {
            servers.refused(link.server, why);
            if servers.nobody_else(link.server) {
                return true;
            }
        }
        if !self.drop_link(link) {
            return false;
        }
        let address = servers.address(link.server);
        match loss {
            Loss::NotNow(why) => {
                tracing::info!(server = address, why, "the server refuses for now: asking another one")
            }
            // It may have been asked to close; one that never answered is no better for being asked again.
            Loss::Broken(why) if link.answered.load(Ordering::Relaxed) => {
                tracing::info!(server = address, why, "the connection to the server ended");
                servers.left(link.server);
            }
            Loss::Broken(why) => servers.failed(link.server, why),
            Loss::Silent(why) => {
                tracing::warn!(server = address, why, "the server is given up: asking another one");
                servers.silent(link.server, why);
            }
        }
        false
    }

    /// Whether it was in use; others may have dropped it before.
    fn drop_link(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        let current = state.link.as_ref().and_then(Shared::peek);
        let is_current = matches!(current, Some(Ok(current)) if Arc::ptr_eq(current, link));
        if is_current {
            state.link = None;
            link.over.cancel();
        }
        is_current
    }

    /// The connection in use; whoever comes first has it made.
    async fn link(self: &Arc<Self>) -> Result<Arc<Link>, DialError> {
        self.dialling()?.await
    }

    fn dialling(self: &Arc<Self>) -> Result<Dialling, DialError> {
        let mut state = self.state();
        if let Some(dialling) = &state.link {
            return Ok(dialling.clone());
        }
        if let Some((until, error)) = &state.rest
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let dialling = Arc::clone(self).dial().boxed().shared();
        state.link = Some(dialling.clone());
        // Whoever waits may give up; the connection is for all.
        tokio::spawn(dialling.clone());
        Ok(dialling)
    }

    async fn dial(self: Arc<Self>) -> Result<Arc<Link>, DialError> {
        let dialled = self.dialer.link(Arc::clone(&self.config)).await;
        let mut state = self.state();
        match dialled {
            Ok((server, channel)) => {
                (state.failures, state.rest) = (0, None);
                drop(state);
                self.dialer.servers().connected(server);
                tracing::debug!(server = self.dialer.servers().address(server), "connected");
                Ok(Arc::new(Link { channel, server, answered: AtomicBool::new(false), over: CancellationToken::new() }))
            }
            Err(error) => {
                let longest = FIRST_REST.saturating_mul(1 << state.failures.min(10)).min(LONGEST_REST);
                state.failures = state.failures.saturating_add(1);
                state.rest = Some((Instant::now() + longest.mul_f64(fraction()), error.clone()));
                state.link = None;
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    fn answers(&self, servers: &Servers) {
        self.answered.store(true, Ordering::Relaxed);
        servers.answers(self.server);
    }
}
