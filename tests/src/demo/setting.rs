use std::path::{Path, PathBuf};

use rustix::process::{Signal, geteuid};

use super::{
    Spoil,
    agents::{Agent, Agents},
    say,
    timeline::Timeline,
};
use crate::playground::{Lifetimes, Options, Playground};

/// Nodes of the demo.
const NODES: usize = 2;
/// Instances on each node.
const AGENTS_PER_NODE: usize = 2;
/// The class of all demo agents.
pub const CLASS: &str = "demo/talker";
/// The PCR the policy watches and the attack extends; firmware does not use it.
pub const WATCHED_PCR: u32 = 11;

/// Everything that runs during the demo. Fields are dropped in order: agents first, the CA last.
pub struct Setting {
    /// The four instances.
    pub agents: Agents,
    /// The CA's events.
    pub timeline: Timeline,
    /// CA, nodes and TPMs.
    pub playground: Playground,
    /// Scratch space of the attacks.
    pub scratch: PathBuf,
    _folder: tempfile::TempDir,
}

impl Setting {
    /// Brings everything up to the point where the agents can be introduced to each other.
    ///
    /// # Errors
    /// The part that did not come up.
    pub fn build(spoil: Option<Spoil>) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir().map_err(|e| e.to_string())?;
        let scratch = folder.path().join("attacks");
        std::fs::create_dir(&scratch).map_err(|e| e.to_string())?;
        let policy = folder.path().join("policies.toml");
        std::fs::write(&policy, policy_text()).map_err(|e| e.to_string())?;
        say("starting a CA and two nodes, each with its own TPM, enrolled");
        let playground = Playground::start(&options(folder.path(), policy, spoil))?;
        let timeline = Timeline::follow(&playground)?;
        register(&playground)?;
        say("starting two agents on each node; each process becomes an instance with an ID of its own");
        let program = playground.bin.path("demo-agent");
        let mut agents = Vec::new();
        for (node, machine) in playground.machines.iter().enumerate() {
            for _ in 0..AGENTS_PER_NODE {
                agents.push(Agent::start(&program, node, &machine.workload_socket)?);
            }
        }
        Ok(Self { agents: Agents(agents), timeline, playground, scratch, _folder: folder })
    }

    /// Stops an attestor in its tracks (SIGSTOP), for a demo that must fail.
    ///
    /// # Errors
    /// There is no such node.
    pub fn stop_attestor(&mut self, node: usize) -> Result<(), String> {
        let process = self.playground.machines.get_mut(node).and_then(|m| m.process());
        process.ok_or_else(|| format!("no node {node}"))?.signal(Signal::STOP);
        Ok(())
    }
}

/// Spoiled, the CA has no policy: PCRs are quoted and nothing is asked of them.
fn options(folder: &Path, policy: PathBuf, spoil: Option<Spoil>) -> Options {
    let lifetimes = Lifetimes {
        instance_ttl: Some("24s".into()),
        node_ttl: Some("40s".into()),
        policy_file: (spoil != Some(Spoil::NoPolicy)).then_some(policy),
        ..Lifetimes::default()
    };
    Options { nodes: NODES, trust_domain: "demo.test".into(), lifetimes, ..Options::new(folder.join("playground")) }
}

/// The watched PCR must still be zero.
fn policy_text() -> String {
    let zero = hex::encode([0; 32]);
    format!(
        "[[tpm.policy]]\nname = \"demo\"\nmatch = {{}}\nbank = \"sha256\"\npcrs = [{WATCHED_PCR}]\n\n\
         [tpm.policy.golden]\n\"{WATCHED_PCR}\" = [\"{zero}\"]\n\n\
         [tpm.policy.log]\nrequired = false\n\n[tpm.policy.state]\nfirst_use = \"allow\"\non_change = \"alert\"\n"
    )
}

/// One alias over all proven nodes, and the class below it.
fn register(playground: &Playground) -> Result<(), String> {
    let td = &playground.trust_domain;
    let (server, fleet) = (format!("spiffe://{td}/spire/server"), format!("spiffe://{td}/fleet"));
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--parent-id", &server, "--spiffe-id", &fleet, "--selector", "tpm:enrolled:yes"])?;
    let uid = format!("unix:uid:{}", geteuid().as_raw());
    let path = format!("unix:path:{}", playground.bin.path("demo-agent").display());
    #[rustfmt::skip]
    playground.ca(&["class", "create", "--parent-id", &fleet, "--name", CLASS, "--selector", &uid, "--selector", &path])?;
    Ok(())
}
