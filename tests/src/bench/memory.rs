//! Resident memory of the daemons after a load like the demo's.

use std::{path::Path, time::Duration};

use chancery_proto::spire::api::{
    server::entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient},
    types,
};
use rustix::process::geteuid;

use super::{
    ROUNDS,
    figure::{Figure, Target},
    load::channel,
};
use crate::{
    demo::agents::{Agent, Agents},
    playground::{Lifetimes, Options, Playground},
};

/// As the demo has it.
const NODES: usize = 2;
const AGENTS_PER_NODE: usize = 2;
/// Entries of the CA, shared equally by the nodes, besides the class.
const ENTRIES: usize = 1000;
/// Entries in one request: the CA's limit.
const BATCH: usize = 500;
/// How long the agents talk before memory is read.
const TALK: Duration = Duration::from_secs(20);
/// Between two readings.
const BETWEEN: Duration = Duration::from_secs(1);

/// The figures of both daemons.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let folder = tempfile::Builder::new().prefix("chancery-bench-").tempdir().map_err(|e| e.to_string())?;
    let lifetimes =
        Lifetimes { instance_ttl: Some("24s".into()), node_ttl: Some("40s".into()), ..Lifetimes::default() };
    let options = Options { nodes: NODES, lifetimes, ..Options::new(folder.path().join("playground")) };
    let mut playground = Playground::start(&options)?;
    register(&playground)?;
    let mut agents = start_agents(&playground)?;
    agents.introduce()?;
    std::thread::sleep(TALK);
    let (mut attestor, mut ca, mut notes) = (Vec::new(), Vec::new(), (String::new(), String::new()));
    for _ in 0..ROUNDS {
        std::thread::sleep(BETWEEN);
        playground.tend()?;
        let of_ca = Resident::of(playground.authority.pid())?;
        let of_nodes = playground.machines.iter().map(|m| Resident::of(m.pid()));
        let of_nodes = of_nodes.collect::<Result<Vec<_>, String>>()?;
        // The larger of the two attestors.
        let of_node = of_nodes.into_iter().max_by(|a, b| a.all.total_cmp(&b.all)).ok_or("no node")?;
        attestor.push(of_node.all);
        ca.push(of_ca.all);
        notes = (of_node.note(), of_ca.note());
    }
    agents.check_calls()?;
    Ok(vec![
        Figure::new("resident memory of an attestor", " MB", Target::AtMost(25.0), attestor, notes.0)?,
        Figure::new("resident memory of the CA, 1,000 entries", " MB", Target::AtMost(50.0), ca, notes.1)?,
    ])
}

/// The agents' class, and the entries.
fn register(playground: &Playground) -> Result<(), String> {
    let td = &playground.trust_domain;
    let (server, fleet) = (format!("spiffe://{td}/spire/server"), format!("spiffe://{td}/fleet"));
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--parent-id", &server, "--spiffe-id", &fleet, "--selector", "tpm:enrolled:yes"])?;
    let uid = format!("unix:uid:{}", geteuid().as_raw());
    let path = format!("unix:path:{}", playground.bin.path("demo-agent").display());
    #[rustfmt::skip]
    playground.ca(&["class", "create", "--parent-id", &fleet, "--name", "bench/talker", "--selector", &uid, "--selector", &path])?;
    let parents: Vec<_> = playground.machines.iter().map(|m| m.spiffe_id.as_str()).collect();
    let entries: Vec<_> = (0..ENTRIES).map(|n| entry(td, parents[n % parents.len()], n)).collect();
    made(playground, &entries)
}

/// Makes entries of one node that match no process here.
pub(super) fn register_many(playground: &Playground, parent: &str, count: usize) -> Result<(), String> {
    let entries: Vec<_> = (0..count).map(|n| entry(&playground.trust_domain, parent, n)).collect();
    made(playground, &entries)
}

fn made(playground: &Playground, entries: &[types::Entry]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(create(&playground.authority.admin_socket, entries))
}

/// An entry that matches no process here: its user does not exist.
fn entry(td: &str, parent: &str, number: usize) -> types::Entry {
    let id = |path: String| types::Spiffeid { trust_domain: td.into(), path };
    let parent = parent.strip_prefix(&format!("spiffe://{td}")).unwrap_or_default();
    let selector = types::Selector { r#type: "unix".into(), value: format!("uid:{}", 3_000_000_000 + number) };
    types::Entry {
        spiffe_id: Some(id(format!("/workload/{number}"))),
        parent_id: Some(id(parent.into())),
        selectors: vec![selector],
        ..types::Entry::default()
    }
}

async fn create(admin_socket: &Path, entries: &[types::Entry]) -> Result<(), String> {
    let mut client = EntryClient::new(channel(admin_socket).await?);
    for batch in entries.chunks(BATCH) {
        let asked = BatchCreateEntryRequest { entries: batch.to_vec(), output_mask: None };
        let answer = client.batch_create_entry(asked).await.map_err(|e| format!("entries: {e}"))?.into_inner();
        let status = answer.results.iter().filter_map(|r| r.status.as_ref()).find(|s| s.code != 0);
        if let Some(status) = status {
            return Err(format!("entries: {}", status.message));
        }
    }
    Ok(())
}

fn start_agents(playground: &Playground) -> Result<Agents, String> {
    let program = playground.bin.path("demo-agent");
    let mut agents = Vec::new();
    for (node, machine) in playground.machines.iter().enumerate() {
        for _ in 0..AGENTS_PER_NODE {
            agents.push(Agent::start(&program, node, &machine.workload_socket)?);
        }
    }
    Ok(Agents(agents))
}

/// Resident memory of a process, in millions of bytes.
struct Resident {
    all: f64,
    /// Heap and stacks; the rest is the program's own file.
    own: f64,
}

impl Resident {
    fn of(pid: u32) -> Result<Self, String> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        let row = |name: &str| -> Option<f64> {
            let value = text.lines().find_map(|l| l.strip_prefix(name))?;
            let kib: f64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib * 1024.0 / 1e6)
        };
        let rows = row("VmRSS:").zip(row("RssAnon:"));
        let (all, own) = rows.ok_or_else(|| format!("{path}: no VmRSS"))?;
        Ok(Self { all, own })
    }

    fn note(&self) -> String {
        format!("last reading: {:.1} MB of its own, {:.1} MB of program file", self.own, self.all - self.own)
    }
}
