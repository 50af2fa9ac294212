//! A node without doors: the enrolment task and its client of the CA.

use std::{path::Path, sync::Arc, time::Duration};

use chancery_attestor::{
    ca::{Ca, DialError},
    config::Config,
    identity::{IdentityWatch, NodeIdentity},
    run::assemble,
};
use chancery_daemon::shutdown::Shutdown;
use chancery_sdk::{id::TrustDomain, x509::X509Bundle};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    Machine,
    ca::{Authority, DOMAIN, FakeCa},
};

/// A running enrolment task; it ends with its guard.
pub struct Running {
    pub identity: IdentityWatch,
    pub ca: Ca,
    shutdown: Shutdown,
    pub task: JoinHandle<Result<(), DialError>>,
}

impl Running {
    pub async fn start(config: Config) -> Self {
        let shutdown = Shutdown::manual();
        let (enroller, node) = assemble(Arc::new(config), shutdown.clone(), &mut Default::default()).await.unwrap();
        let task = tokio::spawn(enroller.run(shutdown.soft.clone()));
        Self { identity: node.identity, ca: node.ca, shutdown, task }
    }

    pub async fn identity(&mut self) -> Arc<NodeIdentity> {
        let found = timeout(Duration::from_secs(20), self.identity.wait_for(Option::is_some)).await;
        found.expect("an identity within 20 s").unwrap().clone().unwrap()
    }

    pub async fn without_identity(&mut self) {
        timeout(Duration::from_secs(20), self.identity.wait_for(Option::is_none)).await.expect("no identity").unwrap();
    }

    pub async fn stop(self) {
        self.shutdown.soft.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub fn config(dir: &Path, address: &str, bundle: &str, attestor: &str) -> Config {
    std::fs::write(dir.join("bundle.pem"), bundle).unwrap();
    std::fs::write(dir.join("token"), "token\n").unwrap();
    // One address, or a list as TOML has it.
    let address = if address.starts_with('[') { address.to_owned() } else { format!("\"{address}\"") };
    let dir = dir.display();
    chancery_daemon::config::parse(&format!(
        "trust_domain = \"{DOMAIN}\"\nca_address = {address}\ntrust_bundle = \"{dir}/bundle.pem\"\ndata_dir = \"{dir}/data\"\n\
         workload_socket = \"{dir}/w.sock\"\nadmin_socket = \"{dir}/a.sock\"\njoin_token_file = \"{dir}/token\"\n{attestor}"
    ))
    .unwrap()
}

pub const TOKEN: &str = "node_attestor = \"join_token\"\n";

pub fn by_tpm(machine: &Machine) -> String {
    format!("node_attestor = \"tpm\"\n[tpm]\ntcti = \"{}\"\nevent_log = \"/nonexistent\"\n", machine.tpm.tcti())
}

pub struct Rig {
    pub ca: FakeCa,
    pub authority: Arc<Authority>,
    pub dir: TempDir,
}

impl Rig {
    pub async fn new(life: i64) -> Self {
        let authority = Authority::new();
        let ca = FakeCa::start(&authority).await;
        ca.known.send_modify(|known| known.life = life);
        Self { ca, authority, dir: tempfile::tempdir().unwrap() }
    }

    pub fn config(&self, attestor: &str) -> Config {
        config(self.dir.path(), &self.ca.address.to_string(), &self.authority.pem, attestor)
    }

    pub fn bundle(&self) -> X509Bundle {
        X509Bundle::from_pem(TrustDomain::new(DOMAIN).unwrap(), &self.authority.pem).unwrap()
    }
}
