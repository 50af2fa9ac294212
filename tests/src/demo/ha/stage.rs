use std::collections::BTreeMap;

use super::{
    super::{
        agents::{Agent, Agents},
        setting::register,
    },
    Pace, SERVERS,
    newcomers::Newcomers,
    say,
};
use crate::{
    playground::{Lifetimes, Options, Playground},
    postgres,
};

/// Everything that runs during the demo. Fields are dropped in order: processes first, the CA and its folder last.
pub struct Stage {
    /// Processes that come and go.
    pub newcomers: Newcomers,
    /// The instances that stay, and talk.
    pub agents: Agents,
    /// Servers, nodes and TPMs.
    pub playground: Playground,
    /// How much takes part.
    pub pace: Pace,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Brings everything up.
    ///
    /// # Errors
    /// The part that did not come up.
    pub fn build(pace: Pace) -> Result<Self, String> {
        say("starting PostgreSQL, three servers of one CA on it, and the nodes, each with its own TPM, enrolled");
        let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir().map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let playground = Playground::start(&Options {
            nodes: pace.nodes,
            servers: SERVERS,
            db: runtime.block_on(postgres::database()),
            trust_domain: "demo.test".into(),
            // Everything rotates during the acts, nodes too.
            lifetimes: Lifetimes {
                instance_ttl: Some("24s".into()),
                node_ttl: Some("40s".into()),
                ..Lifetimes::default()
            },
            ..Options::new(folder.path().join("playground"))
        })?;
        register(&playground, "tpm:enrolled:yes", &[("demo/talker", "demo-agent"), ("demo/newcomer", "workload")])?;
        let program = playground.bin.path("demo-agent");
        let mut agents = Vec::new();
        for (node, machine) in playground.machines.iter().enumerate() {
            for _ in 0..pace.agents_per_node {
                agents.push(Agent::start(&program, node, &machine.workload_socket)?);
            }
        }
        let newcomers = Newcomers::on(&playground);
        Ok(Self { newcomers, agents: Agents(agents), playground, pace, _folder: folder })
    }

    /// Which server each node's attestor asks, by address.
    ///
    /// # Errors
    /// An attestor does not say.
    pub fn asked(&self) -> Result<Vec<String>, String> {
        self.playground.machines.iter().map(|machine| machine.server_in_use()).collect()
    }

    /// The address of the server that most nodes ask, of those that are not among `dead`; any where none does.
    ///
    /// # Errors
    /// As [`asked`](Self::asked).
    pub fn most_asked(&self, dead: &[String]) -> Result<(String, usize), String> {
        let servers = self.playground.servers().map(|server| server.grpc.to_string());
        let mut count: BTreeMap<String, usize> = servers.filter(|s| !dead.contains(s)).map(|s| (s, 0)).collect();
        for asked in self.asked()? {
            if let Some(count) = count.get_mut(&asked) {
                *count += 1;
            }
        }
        count.into_iter().max_by_key(|(_, nodes)| *nodes).ok_or_else(|| "every server was killed before".into())
    }

    /// What a server is called in the demo.
    pub fn name(&self, address: &str) -> String {
        let place = self.playground.servers().position(|server| server.grpc.to_string() == address);
        place.map_or_else(|| "none".into(), |place| format!("server {}", place + 1))
    }
}
