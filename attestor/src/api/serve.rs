use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chancery_daemon::{
    clock,
    shutdown::Shutdown,
    socket::{self, SocketError},
};
use chancery_proto::{
    chancery::{agent::v1::agent_server::AgentServer, attestor::v1::attestor_server::AttestorServer},
    workload::{DESCRIPTOR, spiffe_workload_api_server::SpiffeWorkloadApiServer},
};
use chancery_sdk::tls::LiveRevocations;
use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::net::UnixListener;
use tonic::{service::interceptor::InterceptedService, transport::Server};
use tonic_health::pb::health_server::HealthServer;

use super::{
    Door, Verifiers, admin::AdminApi, agent::AgentApi, count::Counted, header, health::HealthApi, outage::Outlook,
    service::WorkloadApi, tokens::Tokens,
};
use crate::{
    cache::Cache,
    config::Config,
    crypto::random,
    identity::IdentityWatch,
    instance::{Instances, StateFile},
    metrics::WorkloadMetrics,
    peer::{PidProof, accept},
    plan::Rotation,
    sync::{Ask, Parts, Syncer},
    taint::Taints,
    upstream::Upstream,
    witness::{self, Witness},
    workload::{Attestors, DEADLINE, Unix},
};

/// Any local process may connect: who it is decides what it gets.
const WORKLOAD_MODE: u32 = 0o777;
/// The operator alone.
const ADMIN_MODE: u32 = 0o600;
/// Largest request: a JWT-SVID of 16 KiB with its audience fits.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Descriptors asked for; 20,000 callers.
const MOST_DESCRIPTORS: u64 = 65_536;
/// Calls and streams under way in one connection.
const MAX_STREAMS: u32 = 128;

/// Why the doors cannot be opened or had to close.
#[derive(Debug, Error)]
pub enum DoorError {
    /// The listener broke.
    #[error("local socket: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The reflection service cannot read the protocol's description.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// No randomness.
    #[error("the system gives no randomness: {0}")]
    Random(String),
}

/// What the doors need of the configuration.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Socket of the Workload API.
    pub workload_socket: PathBuf,
    /// Socket of the operator.
    pub admin_socket: PathBuf,
    /// File of live instances.
    pub state_file: PathBuf,
    /// How often the CA is polled.
    pub sync_interval: Duration,
    /// The weakest proof of a caller's process that is taken.
    pub pid_proof: PidProof,
    /// Who gets bundles.
    pub verifiers: Verifiers,
    /// Largest program that is measured.
    pub max_digest_bytes: u64,
    /// How the CA's record is witnessed.
    pub witness: witness::Settings,
}

impl Doors {
    /// As the operator configured.
    pub fn from_config(config: &Config) -> Self {
        Self {
            workload_socket: config.workload_socket.clone(),
            admin_socket: config.admin_socket.clone(),
            state_file: config.data_dir.join("instances.json"),
            sync_interval: config.sync_interval.0,
            pid_proof: if config.require_peer_pidfd { PidProof::PeerPidfd } else { PidProof::StartTime },
            verifiers: if config.allow_unauthenticated_verifiers { Verifiers::Anyone } else { Verifiers::Entitled },
            max_digest_bytes: config.unix.max_digest_bytes,
            witness: witness::Settings {
                domain: config.trust_domain.clone(),
                file: config.data_dir.join("witness.json"),
                keys: config.log_keys.iter().map(|key| *key.public()).collect(),
            },
        }
    }
}

/// Opens both sockets and serves until `shutdown`; everything of the workload side runs below this call.
///
/// # Errors
/// [`DoorError`]; a socket that cannot be opened is told before anything runs.
pub async fn serve(
    doors: Doors,
    upstream: Arc<dyn Upstream>,
    identity: IdentityWatch,
    metrics: WorkloadMetrics,
    shutdown: Shutdown,
) -> Result<(), DoorError> {
    raise_descriptor_limit();
    let workload = socket::bind(&doors.workload_socket, WORKLOAD_MODE).await?;
    let admin = socket::bind(&doors.admin_socket, ADMIN_MODE).await?;
    let door = open(&doors, upstream, identity, metrics, &shutdown).await?;
    let both = async {
        tokio::try_join!(
            serve_workload(Arc::clone(&door), workload, doors.pid_proof, &shutdown),
            serve_admin(door, admin, &shutdown)
        )
    };
    tokio::select! {
        served = both => { served?; }
        () = shutdown.hard.cancelled() => {}
    }
    for path in [&doors.workload_socket, &doors.admin_socket] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Takes as many descriptors as we may have: the usual soft limit, 1024, is 340 callers.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map_or(Some(MOST_DESCRIPTORS), |hard| Some(hard.min(MOST_DESCRIPTORS)));
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays low");
    }
}

/// Wires the parts and starts their tasks.
async fn open(
    doors: &Doors,
    upstream: Arc<dyn Upstream>,
    identity: IdentityWatch,
    metrics: WorkloadMetrics,
    shutdown: &Shutdown,
) -> Result<Arc<Door>, DoorError> {
    let key = random().map_err(|e| DoorError::Random(e.to_string()))?;
    let rotation = Arc::new(Rotation::new(key));
    let revoked = LiveRevocations::new();
    let taints = Arc::new(Taints::new(clock::system(), revoked.clone()));
    let (cache, ask, stop) = (Arc::new(Cache::new()), Arc::new(Ask::new()), shutdown.soft.clone());
    let file = StateFile::new(doors.state_file.clone());
    let instances = Instances::new(
        Arc::clone(&upstream),
        Arc::clone(&rotation),
        Arc::clone(&taints),
        clock::system(),
        file,
        metrics.clone(),
        stop.clone(),
    );
    let syncer = Syncer::new(Parts {
        upstream: Arc::clone(&upstream),
        cache: Arc::clone(&cache),
        identity: identity.clone(),
        ask: Arc::clone(&ask),
        instances: instances.clone(),
        interval: doors.sync_interval,
        rotation,
        taints,
        clock: clock::system(),
        metrics: metrics.clone(),
        revoked: revoked.clone(),
        witness: Witness::open(doors.witness.clone(), metrics.clone()),
    });
    instances.start(identity.clone()).await;
    tokio::spawn(syncer.run(stop.clone()));
    let attestors = Attestors::new(vec![Box::new(Unix::new(doors.max_digest_bytes))], DEADLINE);
    let door = Door {
        attestors,
        cache,
        instances,
        ask,
        identity,
        upstream,
        clock: clock::system(),
        stop,
        verifiers: doors.verifiers,
        metrics,
        revoked,
        tokens: Tokens::default(),
        stood: AtomicBool::new(false),
    };
    let door = Arc::new(door);
    door.metrics.outlook.set(Outlook(Arc::downgrade(&door)));
    tokio::spawn(Door::forget_tokens(Arc::clone(&door)));
    tokio::spawn(Door::tell_outages(Arc::clone(&door)));
    Ok(door)
}

async fn serve_workload(
    door: Arc<Door>,
    listener: UnixListener,
    proof: PidProof,
    shutdown: &Shutdown,
) -> Result<(), DoorError> {
    let api = SpiffeWorkloadApiServer::new(WorkloadApi(Arc::clone(&door))).max_decoding_message_size(MAX_REQUEST_BYTES);
    // The Workload API and our own service ask for the header: clients of the others do not send it (CF-08).
    let api = InterceptedService::new(api, header::require);
    let api = Counted { inner: api, metrics: door.metrics.clone() };
    let agent = AgentServer::new(AgentApi(Arc::clone(&door))).max_decoding_message_size(MAX_REQUEST_BYTES);
    let agent = InterceptedService::new(agent, header::require);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(api)
        .add_service(agent)
        .add_service(HealthServer::new(HealthApi(door)))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(accept(listener, proof, shutdown.soft.clone()), shutdown.soft.cancelled())
        .await?;
    Ok(())
}

async fn serve_admin(door: Arc<Door>, listener: UnixListener, shutdown: &Shutdown) -> Result<(), DoorError> {
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(AttestorServer::new(AdminApi(door)).max_decoding_message_size(MAX_REQUEST_BYTES))
        .serve_with_incoming_shutdown(incoming, shutdown.soft.cancelled())
        .await?;
    Ok(())
}
