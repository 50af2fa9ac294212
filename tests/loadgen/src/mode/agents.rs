//! Nodes that stay: what they cost while they ask every few seconds, or only hold their connections.

use std::time::Duration;

use serde_json::{Value, json};

use super::muster::{Alias, FleetArgs, echo, muster, placed};
use crate::{
    cli::Common,
    fleet::{Order, Polling},
    moment::Moment,
    report::Reporter,
    server::SyncBy,
    site::Site,
    span,
};

pub const EXAMPLE: &str = "Examples:
  loadgen --playground /tmp/pg/playground.json agents 1000 --entries 10000 --poll 5s --for 60s
  loadgen --playground /tmp/pg/playground.json agents 1000 --entries 10000 --native --for 5m
  loadgen --playground /tmp/pg/playground.json agents 1000 --poll 0s --for 60s      (connections only)";

/// Bytes of an answer that the echo of these modes stands for: an entry, as SPIRE's agent asks for it.
pub const ENTRY_BYTES: usize = 400;

/// A change is at every node within this, if it is pushed.
const PUSHED: Duration = Duration::from_millis(200);

/// How long the first state of all nodes may take.
pub const FIRST_MS: u64 = 120_000;

/// How nodes learn of changes.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct PollArgs {
    /// Every so often a node asks for its entries, then for the bundle; 0s: never.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = span::parse)]
    pub poll: Duration,
    /// Which call asks for entries.
    #[arg(long, value_enum, default_value_t = SyncBy::Sync)]
    pub sync: SyncBy,
    /// Nodes follow chancery.node.v1.Watch instead, as our attestor does: each change comes by itself.
    #[arg(long)]
    pub native: bool,
}

/// How many nodes, and what they do.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub polls: PollArgs,
    /// Entries made before the nodes connect, over all nodes in turn.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub entries: usize,
}

impl PollArgs {
    /// An order to poll; `None` where nobody is to.
    pub fn order(self) -> Option<Polling> {
        let interval_ms = u64::try_from(self.poll.as_millis()).unwrap_or(u64::MAX);
        let nobody = interval_ms == 0 && !self.native;
        (!nobody).then(|| Polling {
            native: self.native,
            interval_ms,
            by: self.sync,
            clocked: None,
            rotate_within_ms: None,
            zero: Moment::now(),
        })
    }

    /// Fields of the line.
    pub fn told(self) -> Value {
        if self.native {
            return json!({ "native": true });
        }
        json!({ "poll_seconds": self.poll.as_secs_f64(), "sync_by": format!("{:?}", self.sync).to_lowercase() })
    }

    /// About how long nodes take to notice something.
    pub fn turn(self) -> Duration {
        if self.native { PUSHED } else { self.poll }
    }
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let mut mustered = muster(&args.fleet, args.entries, Alias::None, common, site, reporter).await?;
    let echoed = echo(ENTRY_BYTES, common, site, reporter).await?;
    let nodes = mustered.paths.len();
    let mut more = placed(nodes, &mustered.spread);
    if let (Value::Object(more), Value::Object(told)) = (&mut more, args.polls.told()) {
        more.extend(told);
        more.insert("entries".into(), json!(args.entries));
    }
    let fleet = &mut mustered.fleet;
    let polling = args.polls.order();
    if let Some(polling) = &polling {
        fleet.all(Order::Poll(polling.clone())).await?;
        // The first round is everybody's first: what is kept of it afterwards is not what it costs to go on.
        eprintln!("loadgen: everybody's first look, unmeasured");
        rest(args.polls.turn().mul_f64(1.2), site).await;
        if args.polls.native {
            let first = fleet.all(Order::Followed { within_ms: FIRST_MS }).await?;
            first.problem.iter().for_each(|problem| eprintln!("loadgen: {problem}"));
        }
    }
    fleet.all(Order::Read).await?;
    eprintln!("loadgen: {nodes} nodes for {} s", common.lasting.as_secs_f64());
    let name = match &polling {
        Some(polling) if polling.native => "watch",
        Some(_) => "poll",
        None => "hold",
    };
    let phase = reporter.begin(name);
    rest(common.lasting, site).await;
    // Read before halting: what ends a poll is not in the figures.
    let tally = fleet.all(Order::Read).await?.tally;
    let done = reporter.end(&phase, tally, more);
    fleet.all(Order::Halt).await?;
    // Who only holds a connection, or waits, made no call to compare.
    if name == "poll" {
        reporter.summary("sync", &done, echoed.as_ref(), json!({}));
    }
    Ok(())
}

/// Lets time pass, unless the run is stopped.
pub async fn rest(time: Duration, site: &Site) {
    let _ = tokio::time::timeout(time, site.stop.cancelled()).await;
}
