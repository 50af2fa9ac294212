//! The beginning of every mode with many nodes: sizes, tokens, attestations, connections.

use std::{net::IpAddr, num::NonZeroUsize};

use chancery_proto::spire::api::types::Spiffeid;
use clap::Args;
use serde_json::{Value, json};

use crate::{
    bout::{self, Transport},
    capacity::{Limits, Spread, short_servers, spread},
    cli::Common,
    fleet::{Answer, Fleet},
    pace::Pace,
    report::{Done, Reporter},
    site::{FLEET, Site},
    target::Target,
};

/// How many nodes, and from where.
#[derive(Args, Clone, Debug)]
pub struct FleetArgs {
    /// Nodes, each with an SVID and a connection of its own.
    #[arg(value_name = "NODES", default_value = "100")]
    pub nodes: NonZeroUsize,
    /// At least so many processes; more where descriptors run out.
    #[arg(long, value_name = "N", default_value = "1")]
    processes: NonZeroUsize,
    /// Connect from this address of this machine; may be given more than once. Loopback: chosen by itself.
    #[arg(long, value_name = "IP")]
    source: Vec<IpAddr>,
}

/// A fleet that is attested and connected.
pub struct Mustered {
    pub fleet: Fleet,
    /// Path of each node, in the fleet's order.
    pub paths: Vec<String>,
    pub spread: Spread,
}

/// Whether all nodes share an ID that an entry can have for its parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alias {
    Shared,
    None,
}

/// Checks the sizes, then attests and connects all nodes, with `entries` entries over them.
///
/// # Errors
/// It does not fit, or too little of it worked.
pub async fn muster(
    args: &FleetArgs,
    entries: usize,
    alias: Alias,
    common: &Common,
    site: &Site,
    reporter: &mut Reporter,
) -> Result<Mustered, String> {
    let (target, nodes) = (Target::of(common)?, args.nodes.get());
    let spread = spread(nodes, target.server, args.processes.get(), &args.source, Limits::of_this_machine())?;
    let warnings = short_servers(nodes, &target.pids);
    spread.told.iter().chain(&warnings).for_each(|line| eprintln!("loadgen: {line}"));
    eprintln!("loadgen: {nodes} join tokens");
    let shared = site.path(FLEET);
    let tokens = site.tokens(nodes, (alias == Alias::Shared).then_some(shared.as_str())).await?;
    let mut fleet = Fleet::muster(site, target.server, &spread, nodes).await?;

    eprintln!("loadgen: {nodes} attestations, {} at once", common.setup_parallel);
    let phase = reporter.begin("attest").per("node", nodes);
    let answer = fleet.attest(&tokens, common.setup_parallel).await?;
    let id = |path: &String| Spiffeid { trust_domain: site.domain.clone(), path: path.clone() };
    site.remember_nodes(answer.nodes.values().map(id));
    let paths: Vec<String> = answer.nodes.values().cloned().collect();
    reporter.end(&phase, answer.tally.clone(), placed(nodes, &spread));
    enough("attest", nodes, paths.len(), &answer, site)?;

    if entries > 0 {
        eprintln!("loadgen: {entries} entries");
        let phase = reporter.begin("entries").per("entry", entries);
        let of = |at: usize| (paths[at % paths.len()].clone(), site.path(&format!("entry-{at}")));
        let made = site.unless_stopped(site.entries((0..entries).map(of).collect())).await?;
        reporter.end(&phase, Default::default(), json!({ "entries": made.len() }));
    }

    eprintln!("loadgen: {nodes} connections");
    let phase = reporter.begin("connect").per("node", nodes);
    let answer = fleet.connect(common.setup_parallel).await?;
    let connected = usize::try_from(answer.tally.calls).unwrap_or_default();
    reporter.end(&phase, answer.tally.clone(), placed(nodes, &spread));
    enough("connect", nodes, connected, &answer, site)?;
    Ok(Mustered { fleet, paths, spread })
}

/// Calls the echo one at a time, for ratios; `bytes` are those of the answer that is measured.
///
/// # Errors
/// The echo does not start.
pub async fn echo(bytes: usize, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<Option<Done>, String> {
    if common.echo.is_zero() || site.stop.is_cancelled() {
        return Ok(None);
    }
    let calibration =
        bout::Calibration::new(Transport::Mtls, 1, Pace::Closed { in_flight: 1 }, (bytes.min(64), bytes)).await?;
    Ok(Some(calibration.phase(common.echo, reporter, &site.stop).await))
}

/// Fields that every line of a fleet has.
pub fn placed(nodes: usize, spread: &Spread) -> Value {
    json!({ "nodes": nodes, "processes": spread.processes, "source_addresses": spread.sources.len() })
}

/// A fleet that lacks a few is told and used; one of which nothing is there is none.
fn enough(what: &str, wanted: usize, there: usize, answer: &Answer, site: &Site) -> Result<(), String> {
    let why = answer.problem.as_deref().unwrap_or("no reason was told");
    match there {
        _ if site.stop.is_cancelled() => Err("stopped before anything was measured".into()),
        0 => Err(format!("{what}: none of {wanted} nodes made it: {why}")),
        _ if there < wanted => {
            eprintln!("loadgen: {what}: {there} of {wanted} nodes made it; the first that did not: {why}");
            Ok(())
        }
        _ => Ok(()),
    }
}
