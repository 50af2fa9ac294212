//! One running CA: parts made in order, doors opened last, tasks stopped by the shutdown.

use std::{
    io,
    net::SocketAddr,
    num::NonZero,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_daemon::{
    clock::{self, Clock},
    metrics,
    shutdown::Shutdown,
    socket,
};
use chancery_sdk::time::UnixTime;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    authority::{AuthorityError, AuthorityManager, Settings},
    chance,
    claim::{Claim, ClaimError},
    config::Config,
    crls,
    detect::{self, Detectors},
    enroll::{Trust, TrustError},
    grpc::{
        self, accept,
        selftest::{self, SelfTestError},
    },
    keys::{self, KeyError},
    lifetimes,
    limits::Slots,
    log,
    mark::{Keeper, MarkError},
    metrics::Metrics,
    rates::Rates,
    siem,
    signing::Signing,
    state::State,
    store::{Fact, ServerStarted, Store, StoreError},
    sweep,
    throttle::Throttle,
    tls::{IdentityError, Tls},
    upstream,
    view::View,
    waiting,
};

/// How long a clean stop waits for the last checkpoint of the record.
const LAST_CHECKPOINT: Duration = Duration::from_secs(5);

/// Why the CA does not run; each prints as one line that says what to do.
#[derive(Debug, Error)]
pub enum RunError {
    /// The authorities.
    #[error("authorities: {0}")]
    Authority(#[from] AuthorityError),
    /// An address is taken or not ours.
    #[error("{key} = \"{addr}\": {source}; stop what listens there or choose another address")]
    Bind {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another process has the server id.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The data folder.
    #[error("data_dir = \"{path}\": {source}; make the folder or choose another one", path = path.display())]
    DataDir {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Our own SVID.
    #[error("own SVID: {0}")]
    Identity(#[from] IdentityError),
    /// The keys.
    #[error("keys: {0}")]
    Keys(#[from] KeyError),
    /// The thread that opens the keys ended without a word.
    #[error("keys: opening them ended without an answer; look at the log")]
    KeysDied,
    /// The key that signs the record.
    #[error(transparent)]
    LogKey(#[from] log::key::LogKeyError),
    /// The database is not the newest.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The file was never made.
    #[error("database = \"{0}\": no such file; run `chancery-ca migrate` with the same --config first")]
    NoDatabase(String),
    /// No randomness at start.
    #[error("the system yields no randomness")]
    Randomness,
    /// A protected method is open.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// An output of the record.
    #[error(transparent)]
    Siem(#[from] siem::SiemError),
    /// The admin socket.
    #[error("admin_socket: {0}")]
    Socket(#[from] socket::SocketError),
    /// The database.
    #[error("database: {}; look at `database` in the configuration and at the server behind it", crate::run::chain(.0))]
    Store(#[from] StoreError),
    /// The threads that sign.
    #[error("threads: {0}; raise the limit of processes (ulimit -u)")]
    Threads(#[source] io::Error),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] chancery_sdk::tls::TlsError),
    /// A door failed while serving.
    #[error("serving: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Anchors or policies.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The CA above cannot be used.
    #[error(transparent)]
    Upstream(#[from] upstream::UpstreamError),
    /// The thread that opens the upstream ended without a word.
    #[error("upstream: opening it ended without an answer; look at the log")]
    UpstreamDied,
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        // sqlx tells its cause in its own line too.
        let told = deeper.to_string();
        if !text.ends_with(&told) {
            text = format!("{text}: {told}");
        }
        cause = deeper.source();
    }
    text
}

/// Runs until the shutdown.
///
/// # Errors
/// [`RunError`]; nothing is half-open then.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    start(config, shutdown, clock::system()).await?.stopped().await
}

/// A CA whose doors are open and tested.
pub struct Running {
    /// Its parts.
    pub state: Arc<State>,
    /// Where the TCP door is.
    pub bound: SocketAddr,
    tcp: Serving,
    local: Serving,
}

/// Opens the doors and tests them.
///
/// # Errors
/// [`RunError`]; nothing is half-open then.
pub async fn start(config: Config, shutdown: Shutdown, clock: Clock) -> Result<Running, RunError> {
    let listener = bind("listen", config.listen).await?;
    let (state, tls, registry) = assemble(config, shutdown, clock).await?;
    let bound = listener.local_addr().unwrap_or(state.config.listen);
    serve_metrics(&state, registry).await?;
    let admin = socket::bind(&state.config.admin_socket, 0o600).await?;
    state.commit(Fact::ServerStarted(ServerStarted { version: env!("CARGO_PKG_VERSION").into() })).await?;
    log::start(&state)?;
    siem::start(&state)?;
    serve_log(&state).await?;
    detect::start(&state);
    sweep::start(&state, &tls);
    let crl_bind =
        |source| RunError::Bind { key: "crl.listen", addr: state.config.crl.listen.unwrap_or(bound), source };
    crls::start(&state).await.map_err(crl_bind)?;
    let soft = &state.shutdown.soft;
    let local =
        grpc::local(&state).serve_with_incoming_shutdown(accept::unix(admin, &state), soft.clone().cancelled_owned());
    let local = tokio::spawn(async move { local.await.map_err(RunError::from) });
    if state.authority.x509_id().is_none() {
        let tcp = tokio::spawn(once_signing(listener, tls, Arc::clone(&state), bound));
        return Ok(Running { bound, tcp, local, state });
    }
    let tcp = serve(listener, tls, &state);
    let running = Running { bound, tcp, local, state };
    if let Err(open) = selftest::run(&running.state, bound).await {
        running.state.shutdown.begin();
        running.stopped().await?;
        return Err(open.into());
    }
    told_ready(&running.state, bound);
    Ok(running)
}

type Serving = tokio::task::JoinHandle<Result<(), RunError>>;

/// The TCP door.
fn serve(listener: TcpListener, tls: Tls, state: &Arc<State>) -> Serving {
    let soft = state.shutdown.soft.clone();
    let served =
        grpc::tcp(state).serve_with_incoming_shutdown(accept::tcp(listener, tls, state), soft.cancelled_owned());
    tokio::spawn(async move { served.await.map_err(RunError::from) })
}

/// The TCP door of a CA whose first authority is still to be imported: opened and tested when it is.
async fn once_signing(listener: TcpListener, tls: Tls, state: Arc<State>, bound: SocketAddr) -> Result<(), RunError> {
    if !waiting::until_signing(&listener, &state, &tls).await {
        return Ok(());
    }
    let tcp = serve(listener, tls, &state);
    let tested = selftest::run(&state, bound).await;
    match &tested {
        Ok(()) => told_ready(&state, bound),
        Err(_) => state.shutdown.begin(),
    }
    let served = tcp.await.unwrap_or_else(|died| {
        tracing::error!(%died, "a door's task died");
        Ok(())
    });
    tested.map(|()| served)?
}

fn told_ready(state: &State, bound: SocketAddr) {
    tracing::info!(listen = %bound, admin_socket = %state.config.admin_socket.display(), "ready");
}

impl Running {
    /// Waits until both doors are closed; after the hard word every connection is cut, so that they are.
    ///
    /// # Errors
    /// [`RunError::Transport`].
    pub async fn stopped(self) -> Result<(), RunError> {
        let cutter = Arc::clone(&self.state);
        tokio::spawn(async move {
            cutter.shutdown.hard.cancelled().await;
            cutter.live.close_where(|_| true);
        });
        let mut served = Ok(());
        for door in [self.tcp, self.local] {
            match door.await {
                Ok(done) => served = served.and(done),
                Err(died) => tracing::error!(%died, "a door's task died"),
            }
            // One door alone is no CA.
            self.state.shutdown.soft.cancel();
        }
        if let Err(problem) = std::fs::remove_file(&self.state.config.admin_socket) {
            tracing::debug!(%problem, "admin socket");
        }
        served.and(leave(&self.state).await)
    }
}

/// Signs the last checkpoint, writes down how far the database is, gives the server id up, closes the store.
///
/// # Errors
/// [`ClaimError::Overtaken`] where another process had the server id already.
pub(crate) async fn leave(state: &State) -> Result<(), RunError> {
    if timeout(LAST_CHECKPOINT, state.log.finish()).await.is_err() {
        tracing::warn!("no last checkpoint of the record: signing takes too long; the next start signs it");
    }
    // What is not written down is only noticed later.
    let sequence = state.authority.published().borrow().sequence;
    if let Err(problem) = state.mark.keep(&state.store, sequence, UnixTime(i64::MAX)).await {
        tracing::warn!(%problem, "mark of the database");
    }
    let left = match state.claim.release(&state.store).await {
        Err(overtaken @ ClaimError::Overtaken(_)) => Err(overtaken.into()),
        Err(problem) => {
            tracing::warn!(%problem, "server id not given up; the next start looks at the lock");
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    state.store.clone().close().await;
    left
}

/// Makes the parts; no door is open yet.
///
/// # Errors
/// [`RunError`].
pub async fn assemble(
    config: Config,
    shutdown: Shutdown,
    clock: Clock,
) -> Result<(Arc<State>, Tls, Registry), RunError> {
    make_dir(&config.data_dir)?;
    let server_id = server_id(&config)?;
    let database = config.database();
    if !database.contains(':') && !Path::new(&database).exists() {
        return Err(RunError::NoDatabase(database));
    }
    let mark = Keeper::new(&config.data_dir);
    let seen = mark.read()?;
    let store = Store::open_requiring(&database, &server_id, config.database_requires, seen.as_ref()).await?;
    mark.check(&store).await?;
    let claim = Claim::take(&config.data_dir, &server_id, &store).await?;
    let own = config.clone();
    // A token's module may take its time, and hang.
    let keys = tokio::task::spawn_blocking(move || keys::open(&own)).await.map_err(|_| RunError::KeysDied)??;
    let own = config.clone();
    let above = tokio::task::spawn_blocking(move || upstream::open(&own.upstream, &own.trust_domain, &own.data_dir));
    let above = above.await.map_err(|_| RunError::UpstreamDied)??;
    let mut registry = Registry::default();
    let settings = Settings {
        trust_domain: config.trust_domain.clone(),
        server: server_id.clone(),
        life_secs: config.ttl.ca.as_secs(),
        publish_delay_secs: config.ttl.publish_delay.as_secs(),
        refresh_hint_secs: config.bundle.refresh_hint.as_secs(),
        jwt_issuer: config.jwt_issuer.clone(),
        x509_key_type: config.keys.x509_key_type,
        jwt_key_type: config.keys.jwt_key_type,
        longest_ttl_secs: lifetimes::longest_secs(&config.ttl),
        destroy_after_secs: config.keys.destroy_after.as_secs(),
        missing_patience_secs: config.keys.missing_patience_secs(),
        delegated_issuer_secs: config.keys.delegated_issuer.map(|life| life.as_secs()),
        upstream: above,
        offline: upstream::offline(&config.upstream),
    };
    let authority = AuthorityManager::new(settings, Arc::clone(&keys));
    authority.unfollow(&store).await?;
    authority.start(&store, &clock).await?;
    let tls = Tls::new(&config.trust_domain, &authority, &clock)?;
    let trust = Trust::load(&config, &store).await?;
    let live = Arc::default();
    let view = View::open(&store, &live).await?;
    view.start(shutdown.soft.clone());
    let metrics = Arc::new(Metrics::register(&mut registry));
    let state = State {
        trust_domain: config.trust_domain.clone(),
        server_id,
        store,
        claim,
        mark,
        authority: Arc::new(authority),
        log: log::LogStatus::default(),
        keys,
        live,
        view,
        trust: ArcSwap::from_pointee(trust),
        detectors: Detectors::new(config.detectors, &metrics),
        failures: Arc::default(),
        attestations: Slots::new(config.limits.attestations, config.limits.attestations_per_source),
        begins: Rates::new(config.limits.begins_per_class),
        throttle: Throttle::new(&config.limits),
        signing: Signing::start(signers(&config), &metrics).map_err(RunError::Threads)?,
        metrics,
        clock,
        shutdown,
        config,
    };
    // Without an authority of a ceremony there is nobody to sign it: see `waiting`.
    if state.authority.x509_id().is_some() || !state.authority.is_offline() {
        sweep::renew_own_svid(&state, &tls).await?;
    }
    Ok((Arc::new(state), tls, registry))
}

/// Threads that sign: one for each core, and where a token signs each SVID one for each of its workers, which wait.
fn signers(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.max(config.keys.pkcs11.as_ref().map_or(1, |token| token.workers))
}

async fn bind(key: &'static str, addr: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(addr).await.map_err(|source| RunError::Bind { key, addr, source })
}

async fn serve_metrics(state: &Arc<State>, registry: Registry) -> Result<(), RunError> {
    let Some(addr) = state.config.metrics_listen else { return Ok(()) };
    let ready = Arc::clone(state);
    let served =
        metrics::serve(addr, Arc::new(registry), Arc::new(move || ready.readiness()), state.shutdown.hard.clone());
    served.await.map(drop).map_err(|source| RunError::Bind { key: "metrics_listen", addr, source })
}

async fn serve_log(state: &Arc<State>) -> Result<(), RunError> {
    let Some(addr) = state.config.log.listen else { return Ok(()) };
    let served = log::serve::serve(addr, state.config.log_dir(), state.shutdown.soft.clone());
    served.await.map(drop).map_err(|source| RunError::Bind { key: "log.listen", addr, source })
}

fn make_dir(path: &Path) -> Result<(), RunError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RunError::DataDir { path: path.into(), source })
}

/// The configured name, or the one made at the first start.
pub(crate) fn server_id(config: &Config) -> Result<String, RunError> {
    if let Some(id) = &config.server_id {
        return Ok(id.clone());
    }
    let path = config.data_dir.join("server_id");
    let io = |source| RunError::DataDir { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_string()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let id = chance::uuid_v4().map_err(|_| RunError::Randomness)?.to_string();
            chancery_daemon::file::write_atomic(&path, format!("{id}\n").as_bytes(), 0o600).map_err(io)?;
            Ok(id)
        }
        Err(e) => Err(io(e)),
    }
}
