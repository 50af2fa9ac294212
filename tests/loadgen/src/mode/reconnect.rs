//! Every connection is lost at once: how long until all nodes are back, and what that costs.

use std::time::Duration;

use serde_json::json;

use super::{
    agents::ENTRY_BYTES,
    muster::{Alias, FleetArgs, echo, muster, placed},
};
use crate::{cli::Common, fleet::Order, moment::Moment, report::Reporter, site::Site, span};

pub const EXAMPLE: &str = "Example:
  loadgen --playground /tmp/pg/playground.json reconnect 1000 --rounds 3 --within 5s";

/// From the order to the first dial: the server sees every connection end before.
const AHEAD: Duration = Duration::from_millis(500);

/// How many nodes, and how they come back.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Each node dials at a moment of its own within this time; 0s: all at once.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span::parse)]
    within: Duration,
    /// How often all connections are lost.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,
    /// How long a node tries to come back.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span::parse)]
    patience: Duration,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let mut mustered = muster(&args.fleet, 0, Alias::None, common, site, reporter).await?;
    let echoed = echo(ENTRY_BYTES, common, site, reporter).await?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    for round in 1..=args.rounds {
        if site.stop.is_cancelled() {
            break;
        }
        eprintln!("loadgen: {} connections lost, round {round}", mustered.paths.len());
        let phase = reporter.begin("reconnect");
        let (at, within_ms) = (Moment::now().plus(AHEAD), millis(args.within));
        let order = Order::Reconnect { at, within_ms, patience_ms: millis(args.patience) };
        let answer = mustered.fleet.all(order).await?;
        let took = Moment::now().since(at).as_secs_f64();
        let mut more = placed(mustered.paths.len(), &mustered.spread);
        more["round"] = json!(round);
        more["within_seconds"] = json!(args.within.as_secs_f64());
        more["all_back_seconds"] = json!(took);
        let done = reporter.end(&phase, answer.tally, more);
        if round == args.rounds {
            reporter.summary("first", &done, echoed.as_ref(), json!({}));
        }
    }
    Ok(())
}
