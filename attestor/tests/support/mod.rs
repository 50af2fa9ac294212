//! A workload side over a CA that lives in the test: real sockets, real processes, real certificates.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod ca;
pub mod client;
pub mod helper;

use std::{path::PathBuf, sync::Arc, time::Duration};

use chancery_attestor::{
    api::{Doors, Verifiers, serve},
    identity::{self, IdentitySender, NodeIdentity},
    metrics::WorkloadMetrics,
    peer::PidProof,
    witness::Settings,
};
use chancery_daemon::{clock, shutdown::Shutdown};
use chancery_proto::workload::X509svidResponse;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::{net::UnixStream, task::JoinHandle};

use self::helper::Helper;

#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use ca::{FakeCa, class, entry};
#[allow(unused_imports, reason = "each test file uses a part of it")]
pub use client::{Client, code};

/// The selector of whoever runs the tests.
pub fn me() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}

/// SPIFFE IDs of an answer, in its order.
pub fn ids(answer: &X509svidResponse) -> Vec<String> {
    answer.svids.iter().map(|s| s.spiffe_id.clone()).collect()
}

/// Another process, and its connection.
pub async fn process(node: &Node) -> (Helper, Client) {
    let (helper, connection) = Helper::connect(&node.socket(), None);
    connection.set_nonblocking(true).unwrap();
    (helper, Client::over(UnixStream::from_std(connection).unwrap()).await)
}

/// Longest wait for an event; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running workload side.
pub struct Node {
    pub ca: Arc<FakeCa>,
    pub dir: Arc<TempDir>,
    pub doors: Doors,
    pub identity: IdentitySender,
    pub registry: Registry,
    pub shutdown: Shutdown,
    pub task: JoinHandle<()>,
}

impl Node {
    /// Starts one that has standing.
    pub async fn start(ca: Arc<FakeCa>) -> Self {
        let node = Self::bare(ca, Arc::new(tempfile::tempdir().unwrap()), Verifiers::Entitled).await;
        node.stand();
        node.ready().await;
        node
    }

    /// Starts one that is not attested yet, in a folder that may hold the state of an earlier run.
    pub async fn bare(ca: Arc<FakeCa>, dir: Arc<TempDir>, verifiers: Verifiers) -> Self {
        let doors = Doors {
            workload_socket: dir.path().join("w.sock"),
            admin_socket: dir.path().join("a.sock"),
            state_file: dir.path().join("instances.json"),
            sync_interval: Duration::from_millis(200),
            pid_proof: PidProof::StartTime,
            verifiers,
            max_digest_bytes: 1 << 30,
            witness: Settings {
                domain: "example.org".parse().unwrap(),
                file: dir.path().join("witness.json"),
                keys: Vec::new(),
            },
        };
        let (identity, watch) = identity::channel();
        let shutdown = Shutdown::manual();
        let mut registry = Registry::default();
        let metrics = WorkloadMetrics::register(&mut registry);
        let running = serve(doors.clone(), Arc::clone(&ca) as _, watch, metrics, shutdown.clone());
        let task = tokio::spawn(async move { running.await.unwrap() });
        let node = Self { ca, dir, doors, identity, registry, shutdown, task };
        node.listening().await;
        node
    }

    /// Gives the node standing.
    pub fn stand(&self) {
        let id = NodeIdentity {
            id: "spiffe://example.org/spire/agent/tpm/00".parse().unwrap(),
            chain: Vec::new(),
            not_before: clock::now(),
            expires_at: clock::now().plus(3600),
            bundle: self.ca.own_bundle(),
        };
        self.identity.send_replace(Some(Arc::new(id)));
    }

    pub fn socket(&self) -> PathBuf {
        self.doors.workload_socket.clone()
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.socket()).await
    }

    async fn listening(&self) {
        self.retry(|| async { tokio::net::UnixStream::connect(self.socket()).await.is_ok() }).await;
    }

    /// Waits until the health check says so.
    pub async fn ready(&self) {
        let client = self.client().await;
        self.retry(|| async { client.serving().await }).await;
    }

    /// Asks again until it holds; each question goes through the event loop, so the answer is an event of ours.
    pub async fn retry<F: Future<Output = bool>>(&self, ask: impl Fn() -> F) {
        let asked = async {
            while !ask().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("in time");
    }

    /// As kill -9 would: nothing is told to anybody. The folder stays.
    pub async fn kill(self) -> (Arc<FakeCa>, Arc<TempDir>) {
        self.shutdown.soft.cancel();
        self.shutdown.hard.cancel();
        self.task.await.unwrap();
        (self.ca, self.dir)
    }
}
