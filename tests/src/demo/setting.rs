use std::path::{Path, PathBuf};

use rustix::process::{Signal, geteuid};

use super::{
    agents::{Agent, Agents},
    say,
    timeline::Timeline,
};
use crate::playground::{Options, Playground};

/// The class of all demo agents.
pub(super) const CLASS: &str = "demo/talker";

/// What a demo is played with.
pub struct Scene {
    /// What is told first.
    pub opening: &'static str,
    /// The system to bring up.
    pub options: Options,
    /// What the nodes have that the class is for: a proof of hardware.
    pub proof: &'static str,
    /// Instances on each node.
    pub agents_per_node: usize,
}

/// Everything that runs during the demo. Fields are dropped in order: agents first, the CA last.
pub struct Setting {
    /// The instances.
    pub agents: Agents,
    /// The CA's events.
    pub timeline: Timeline,
    /// CA, nodes, TPMs and tokens.
    pub playground: Playground,
    /// Scratch space of the acts.
    pub scratch: PathBuf,
    _folder: tempfile::TempDir,
}

impl Setting {
    /// Brings everything up to the point where the agents can be introduced to each other. `scene` is given a
    /// folder for its files, which is removed in the end.
    ///
    /// # Errors
    /// The part that did not come up.
    pub fn build(scene: impl FnOnce(&Path) -> Result<Scene, String>) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir().map_err(|e| e.to_string())?;
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).map_err(|e| e.to_string())?;
        let scene = scene(folder.path())?;
        say(scene.opening);
        let playground = Playground::start(&scene.options)?;
        let timeline = Timeline::follow(&playground)?;
        register(&playground, scene.proof, &[(CLASS, "demo-agent")])?;
        say("starting the agents on each node; each process becomes an instance with an ID of its own");
        let program = playground.bin.path("demo-agent");
        let mut agents = Vec::new();
        for (node, machine) in playground.machines.iter().enumerate() {
            for _ in 0..scene.agents_per_node {
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

/// One alias over all proven nodes, and below it each class: a name, and the program that is for.
pub(super) fn register(playground: &Playground, proof: &str, classes: &[(&str, &str)]) -> Result<(), String> {
    let td = &playground.trust_domain;
    let (server, fleet) = (format!("spiffe://{td}/spire/server"), format!("spiffe://{td}/fleet"));
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--parent-id", &server, "--spiffe-id", &fleet, "--selector", proof])?;
    let uid = format!("unix:uid:{}", geteuid().as_raw());
    for (class, program) in classes {
        let path = format!("unix:path:{}", playground.bin.path(program).display());
        #[rustfmt::skip]
        playground.ca(&["class", "create", "--parent-id", &fleet, "--name", class, "--selector", &uid, "--selector", &path])?;
    }
    Ok(())
}
