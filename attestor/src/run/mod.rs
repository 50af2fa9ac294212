//! Puts the daemon together: configuration, TPM, state, enrolment, then the doors.

pub(crate) mod bootstrap;

use std::{path::PathBuf, sync::Arc};

use chancery_daemon::{config::ConfigError, hardening, metrics, shutdown::Shutdown, socket::SocketError};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::{
    api::{self, Doors},
    ca::{Ca, DialError, Dialer, x509_bundle},
    config::{Config, Enrolment},
    enroll::{EnrolMetrics, Enroller, Parts},
    identity::{self, IdentityWatch},
    metrics::WorkloadMetrics,
    node::{Collector, JoinToken, Pkcs11Collector, TpmCollector},
    pkcs11::{NodeToken, NodeTokenError},
    state::{Folder, StateError},
    tpm::{Options, Tpm, TpmError},
};

/// What the doors need of the node.
#[derive(Clone)]
pub struct Node {
    /// As loaded.
    pub config: Arc<Config>,
    /// Asks the CA.
    pub ca: Ca,
    /// Who we are; `None` = serve nothing.
    pub identity: IdentityWatch,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// Why the daemon cannot run. Each is one line that says what to do; none of them passes by waiting.
#[derive(Debug, Error)]
pub enum RunError {
    /// The file, or a value in it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A fault of ours in setting up TLS.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A socket, the metrics address, the process itself.
    #[error("{0}")]
    Start(String),
    /// The data folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Whoever answers is not the CA that an operator told us to trust.
    #[error("{trust_bundle}: {source}", trust_bundle = trust_bundle.display())]
    Stranger {
        /// The operator's file.
        trust_bundle: PathBuf,
        /// Who answered, and what to do.
        source: DialError,
    },
    /// No token.
    #[error(transparent)]
    Token(#[from] NodeTokenError),
    /// No TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

/// Runs until `shutdown`. A CA that is away is waited for; a stranger in its place is not, until the first identity.
///
/// # Errors
/// [`RunError`], before any identity is served.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    hardening::make_non_dumpable().map_err(|e| RunError::Start(format!("cannot become non-dumpable: {e}")))?;
    let config = Arc::new(config);
    let mut registry = Registry::default();
    let (enroller, node) = assemble(Arc::clone(&config), shutdown.clone(), &mut registry).await?;
    let metrics = WorkloadMetrics::register(&mut registry);
    serve_metrics(&node, registry).await?;
    // A join token must not be spent by a start that then fails.
    check_sockets(&node.config).await?;
    let trust_bundle = config.trust_bundle.clone();
    let enrolment = tokio::spawn(async move {
        let ended = enroller.run(shutdown.soft.clone()).await;
        shutdown.begin(); // without standing to come there is nothing to serve
        ended
    });
    let stop = node.shutdown.soft.clone();
    let served = serve(node, metrics).await;
    stop.cancel();
    let enrolled = enrolment.await.map_err(|e| RunError::Start(e.to_string()))?;
    enrolled.map_err(|source| RunError::Stranger { trust_bundle, source })?;
    served
}

/// Whether another process serves one of our sockets; the doors open them later.
async fn check_sockets(config: &Config) -> Result<(), RunError> {
    for path in [&config.workload_socket, &config.admin_socket] {
        if UnixStream::connect(path).await.is_ok() {
            return Err(RunError::Start(SocketError::Busy(path.clone()).to_string()));
        }
    }
    Ok(())
}

/// The doors. Ends with the shutdown, or with the reason why a door cannot open.
async fn serve(node: Node, metrics: WorkloadMetrics) -> Result<(), RunError> {
    let doors = Doors::from_config(&node.config);
    let served = api::serve(doors, Arc::new(node.ca), node.identity, metrics, node.shutdown).await;
    served.map_err(|e| RunError::Start(e.to_string()))
}

/// Makes the enrolment task and what the doors need, starting nothing.
///
/// # Errors
/// [`RunError`].
pub async fn assemble(
    config: Arc<Config>,
    shutdown: Shutdown,
    registry: &mut Registry,
) -> Result<(Enroller, Node), RunError> {
    let folder = Folder::open(&config.data_dir)?;
    let file = bootstrap::load(&config)?;
    let saved = folder.load()?;
    // The newest bundle the CA told outdoes the file, unless an operator replaced the file since.
    let known = saved.as_ref().filter(|saved| saved.bootstrap_sha256 == file.sha256);
    let bundle = known.and_then(|saved| saved.bundle.open(&config.trust_domain)).unwrap_or(file.bundle);
    let trusted = x509_bundle(&config.trust_domain, &bundle.x509_authorities).map_err(RunError::Start)?;
    let dialer = Dialer::new(&config.trust_domain, config.ca_address.list(), trusted)?;
    let dialer = Arc::new(dialer.pinging(config.ca_ping_interval.0));
    let tpm = open_tpm(&config).await?;
    let token = open_token(&config).await?;
    let collector = collector(&config, tpm.clone(), token.clone());
    let (identity, watch) = identity::channel();
    let (ca, trouble) = Ca::new(config.trust_domain.clone(), dialer.servers(), identity.clone());
    let parts = Parts {
        domain: config.trust_domain.clone(),
        dialer,
        collector,
        tpm,
        token,
        ca: ca.clone(),
        trouble,
        identity,
        folder,
        bootstrap_sha256: file.sha256,
        saved,
        bundle: Arc::new(bundle),
        metrics: EnrolMetrics::register(registry),
    };
    Ok((Enroller::new(parts), Node { config, ca, identity: watch, shutdown }))
}

async fn open_tpm(config: &Config) -> Result<Option<Tpm>, RunError> {
    if config.node_attestor != Enrolment::Tpm {
        return Ok(None);
    }
    let options = Options::from_config(config)?;
    let opened = tokio::task::spawn_blocking(move || Tpm::open(options)).await;
    Ok(Some(opened.map_err(|e| RunError::Start(e.to_string()))??))
}

async fn open_token(config: &Arc<Config>) -> Result<Option<NodeToken>, RunError> {
    if config.pkcs11.is_none() {
        return Ok(None);
    }
    let config = Arc::clone(config);
    let opened = tokio::task::spawn_blocking(move || {
        let table = config.pkcs11.as_ref();
        table.map(|table| NodeToken::open(table, &config.trust_domain, &config.data_dir)).transpose()
    });
    Ok(opened.await.map_err(|e| RunError::Start(e.to_string()))??)
}

fn collector(config: &Config, tpm: Option<Tpm>, token: Option<NodeToken>) -> Collector {
    let by_tpm = |tpm| TpmCollector::new(tpm, config.trust_domain.clone(), config.tpm.event_log.clone());
    match (tpm, token) {
        (Some(tpm), Some(token)) => Collector::Tpm(by_tpm(tpm).beside(token)),
        (Some(tpm), None) => Collector::Tpm(by_tpm(tpm)),
        (None, Some(token)) => Collector::Pkcs11(Pkcs11Collector::new(token)),
        (None, None) => Collector::JoinToken(JoinToken::new(config.join_token_file.clone().unwrap_or_default())),
    }
}

async fn serve_metrics(node: &Node, registry: Registry) -> Result<(), RunError> {
    let Some(address) = node.config.metrics_listen else { return Ok(()) };
    let identity = node.identity.clone();
    let ready: metrics::Ready =
        Arc::new(move || identity.borrow().as_ref().map(drop).ok_or_else(|| "the node has no standing".to_owned()));
    let served = metrics::serve(address, Arc::new(registry), ready, node.shutdown.soft.clone()).await;
    served.map(drop).map_err(|e| {
        RunError::Start(format!("metrics_listen {address}: {e}; stop what listens there or choose another address"))
    })
}
