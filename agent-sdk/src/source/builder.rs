use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustls::crypto::CryptoProvider;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, Source, SourceError,
    follow::{Known, Live, follow_jwt_bundles, follow_revocations, follow_x509},
};
use crate::{
    origin::Origin,
    tls::{self, Clock},
    workload::{Endpoint, WorkloadClient},
};

/// How long [`SourceBuilder::connect`] waits unless told otherwise.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(60);

/// Makes a [`Source`].
#[derive(Default)]
pub struct SourceBuilder {
    endpoint: Option<Endpoint>,
    wait: Option<Duration>,
    provider: Option<Arc<CryptoProvider>>,
    clock: Option<Clock>,
    jwt: JwtBundlesWanted,
    dumpable: Dumpable,
    origin: Origin,
}

#[derive(Default, PartialEq)]
enum JwtBundlesWanted {
    #[default]
    No,
    Yes,
}

#[derive(Default, PartialEq)]
enum Dumpable {
    #[default]
    AsItIs,
    Never,
}

impl SourceBuilder {
    /// Where the Workload API is; without it, `SPIFFE_ENDPOINT_SOCKET` says (conformance WE-12).
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// How long [`connect`](Self::connect) waits for the first identity; [`DEFAULT_WAIT`] otherwise.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The application's own TLS provider; [`tls::provider`] otherwise. It must speak TLS 1.3.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Another clock than the machine's, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Also follows JWT bundles, for programs that validate tokens themselves.
    ///
    /// [`connect`](Self::connect) then waits for the first answer about them too, whatever it is.
    #[must_use]
    pub fn with_jwt_bundles(mut self) -> Self {
        self.jwt = JwtBundlesWanted::Yes;
        self
    }

    /// Which request of somebody's this process was started for: the CA's record of its instance names it.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Forbids core dumps of the process and reading of its memory by other processes of its user.
    ///
    /// Never done unless asked for, since it concerns the whole process: debuggers and profilers lose
    /// access, `/proc/self` belongs to root from then on, and the attestor needs CAP_SYS_PTRACE to see
    /// what program this is. What root reads it does not hinder.
    #[must_use]
    pub fn forbid_dumps(mut self) -> Self {
        self.dumpable = Dumpable::Never;
        self
    }

    /// Waits for the first identity; the one time that anything here waits.
    ///
    /// While there is no identity yet (`PermissionDenied`, or no endpoint) it goes on asking. Works
    /// on tokio runtimes of either flavour.
    ///
    /// # Errors
    /// [`SourceError::Endpoint`], [`SourceError::Timeout`] with the last reason, or
    /// [`SourceError::NoIdentity`] when the answer is final (`InvalidArgument`, `Unimplemented`).
    pub async fn connect(self) -> Result<Source, SourceError> {
        if self.dumpable == Dumpable::Never {
            set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .map_err(|errno| SourceError::Hardening(errno.into()))?;
        }
        let endpoint = self.endpoint.map_or_else(Endpoint::from_env, Ok)?;
        let wait = self.wait.unwrap_or(DEFAULT_WAIT);
        let provider = self.provider.unwrap_or_else(tls::provider);
        let clock = self.clock.unwrap_or_else(tls::system_clock);
        let client = WorkloadClient::connect(&endpoint);
        let first = client.with_origin(self.origin);
        let jwt_bundles = (self.jwt == JwtBundlesWanted::Yes).then(ArcSwap::default);
        let live = Arc::new(Live::empty(provider.clone(), clock.clone(), jwt_bundles));
        let revision = live.revision.subscribe();
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow_x509(first.watch_x509(), live.clone())));
        let follow = follow_revocations(client.watch_revocations(), live.clone(), clock.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow));
        if live.jwt_bundles.is_some() {
            let follow = follow_jwt_bundles(client.watch_jwt_bundles(), live.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(follow));
        }
        let _stop = stop.drop_guard();
        match timeout(wait, first_identity(revision, &live)).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(SourceError::Timeout { waited: wait, why: live.why_nothing() }),
        }
        Ok(Source { shared: Arc::new(Shared { client, provider, clock, live, _stop }) })
    }
}

async fn first_identity(mut revision: watch::Receiver<u64>, live: &Live) -> Result<(), SourceError> {
    loop {
        if live.is_complete() {
            return Ok(());
        }
        match &**live.known.load() {
            Known::Nothing { why } if live.has_ended() => return Err(SourceError::NoIdentity { why: why.clone() }),
            Known::Held(_) | Known::Nothing { .. } => {}
        }
        revision.changed().await.expect("`live` holds the sender");
    }
}

impl std::fmt::Debug for SourceBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceBuilder").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
