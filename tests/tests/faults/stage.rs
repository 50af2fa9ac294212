use std::{path::Path, sync::Arc, time::Duration};

use chancery_tests::process::until;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{load::Load, node::Node, server::Server};

/// The realm of every fault.
pub const DOMAIN: &str = "faults.test";
/// The user of every process the nodes speak of.
pub const UID: u32 = 4711;
/// Nodes that ask all the time.
const NODES: usize = 4;
/// Until every server shows every authority.
const PUBLISHED: Duration = Duration::from_secs(20);

/// Servers on one database, and nodes that know all of them.
pub struct Stage {
    pub servers: Vec<Server>,
    pub nodes: Vec<Arc<Node>>,
    pub runtime: Runtime,
    _folder: TempDir,
}

/// A folder for the servers of a stage.
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix("chy-f").tempdir().unwrap()
}

/// Servers `ca-0`, `ca-1`, ... of one database, not yet started.
pub fn servers(folder: &Path, count: usize, database: &str) -> Vec<Server> {
    (0..count).map(|index| Server::new(folder, &format!("ca-{index}"), database, "")).collect()
}

impl Stage {
    /// Migrates, starts the servers, and lets the nodes join.
    pub fn raise(folder: TempDir, mut servers: Vec<Server>) -> Self {
        servers[0].offline("migrate").unwrap_or_else(|e| panic!("{e}"));
        for server in &mut servers {
            server.start();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // Nodes are to trust whichever server answers.
        let published = until(PUBLISHED, || {
            let pem = servers[0].cli(&["bundle", "show", "--format", "pem"])?;
            match pem.matches("BEGIN CERTIFICATE").count() {
                all if all == servers.len() => Ok(()),
                some => Err(format!("{some} of {} authorities", servers.len())),
            }
        });
        published.unwrap_or_else(|e| panic!("{e}"));
        let mut this = Self { servers, nodes: Vec::new(), runtime, _folder: folder };
        this.more_nodes(NODES);
        this
    }

    /// Lets further nodes join.
    pub fn more_nodes(&mut self, count: usize) {
        for index in self.nodes.len()..self.nodes.len() + count {
            let joined = self.runtime.block_on(Node::join(&self.servers, &format!("node-{index}")));
            self.nodes.push(Arc::new(joined));
        }
    }

    /// Every node begins to ask.
    pub fn load(&self) -> Load {
        Load::start(&self.runtime, &self.nodes, self.servers.len())
    }
}
