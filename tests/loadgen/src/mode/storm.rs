//! Every node renews at once, its own SVID or those of its workloads: how even the server's work stays, and how long the last one waits.

use std::time::Duration;

use serde_json::json;

use super::{
    agents::{ENTRY_BYTES, PollArgs, rest},
    muster::{Alias, FleetArgs, Mustered, echo, muster, placed},
};
use crate::{
    cli::Common,
    fleet::{Order, Polling},
    moment::Moment,
    report::{Done, Reporter},
    site::Site,
    span,
    stats::Tally,
};

pub const EXAMPLE: &str = "Examples:
  loadgen --playground /tmp/pg/playground.json storm 1000                       (all at once, no authority touched)
  loadgen --playground /tmp/pg/playground.json storm 100 --svids 100 --within 60s
  loadgen --playground /tmp/pg/playground.json storm 1000 --taint --within 60s  (EVERY node of the trust domain rotates)";

/// From the order to the storm: every process has it by then.
const AHEAD: Duration = Duration::from_millis(500);
/// Between two looks whether everybody has rotated.
const LOOK: Duration = Duration::from_millis(100);

/// How many nodes, and what makes them renew.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    polls: PollArgs,
    /// Each node renews at a moment of its own within this time; 0s: as SPIRE's agent does, at once.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span::parse)]
    within: Duration,
    /// Renew so many workload SVIDs of each node instead of its own: an entry is made for each, and a BatchNewX509SVID.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "taint")]
    svids: usize,
    /// Prepare, activate and taint the server's X.509 authority: nodes renew when a poll tells them. This rotates every
    /// SVID of the trust domain, not only those made here.
    #[arg(long)]
    taint: bool,
    /// From preparing the next authority to its use, so that every verifier has it.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span::parse)]
    publish: Duration,
    /// Longest time for all to rotate after a taint.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = span::parse)]
    patience: Duration,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let entries = args.fleet.nodes.get().saturating_mul(args.svids);
    let mut mustered = muster(&args.fleet, entries, Alias::None, common, site, reporter).await?;
    let echoed = echo(ENTRY_BYTES, common, site, reporter).await?;
    let done = match args.taint {
        true => tainted(args, site, reporter, &mut mustered).await?,
        false => at_once(args, reporter, &mut mustered).await?,
    };
    let name = if args.svids > 0 { "issue" } else { "renew" };
    reporter.summary(name, &done, echoed.as_ref(), json!({}));
    Ok(())
}

async fn at_once(args: &Args, reporter: &mut Reporter, mustered: &mut Mustered) -> Result<Done, String> {
    let within_ms = millis(args.within);
    let renewals = mustered.paths.len() * args.svids.max(1);
    eprintln!("loadgen: {renewals} renewals within {} s", args.within.as_secs_f64());
    let phase = reporter.begin("storm");
    let at = Moment::now().plus(AHEAD);
    let order = if args.svids > 0 { Order::Issue { at, within_ms } } else { Order::Renew { at, within_ms } };
    let answer = mustered.fleet.all(order).await?;
    Ok(reporter.end(&phase, answer.tally, told(args, mustered)))
}

async fn tainted(args: &Args, site: &Site, reporter: &mut Reporter, mustered: &mut Mustered) -> Result<Done, String> {
    let polling = args.polls.order().ok_or("--poll 0s: nodes that never ask never learn of a taint")?;
    let (active, prepared) = site.admin.prepare_authority().await?;
    let zero = Moment::now().plus(args.publish);
    let rotate_within_ms = Some(millis(args.within));
    mustered.fleet.all(Order::Poll(Polling { rotate_within_ms, zero, ..polling })).await?;
    eprintln!("loadgen: authority {prepared} is prepared; {active} is tainted in {} s", args.publish.as_secs_f64());
    rest(args.publish, site).await;
    mustered.fleet.all(Order::Read).await?;
    let phase = reporter.begin("storm");
    if !site.stop.is_cancelled() {
        site.admin.activate_and_taint(&prepared, &active).await?;
    }
    let mut tally = Tally::default();
    let wanted = mustered.paths.len() as u64;
    let end = Moment::now().plus(args.patience);
    let rotated = |tally: &Tally| tally.counts.get("rotated").copied().unwrap_or_default();
    while rotated(&tally) < wanted && Moment::now() < end && !site.stop.is_cancelled() {
        rest(LOOK, site).await;
        tally.merge(&mustered.fleet.all(Order::Read).await?.tally);
    }
    tally.merge(&mustered.fleet.all(Order::Halt).await?.tally);
    let late = wanted.saturating_sub(rotated(&tally));
    tally.count("not_rotated", late);
    Ok(reporter.end(&phase, tally, told(args, mustered)))
}

fn told(args: &Args, mustered: &Mustered) -> serde_json::Value {
    let mut more = placed(mustered.paths.len(), &mustered.spread);
    more["within_seconds"] = json!(args.within.as_secs_f64());
    more["taint"] = json!(args.taint);
    more["svids_per_node"] = json!(args.svids);
    more
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
