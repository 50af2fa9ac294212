//! How long a new entry takes until its nodes know of it.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{
    agents::{ENTRY_BYTES, FIRST_MS, PollArgs, rest},
    muster::{Alias, FleetArgs, Mustered, echo, muster, placed},
};
use crate::{
    cli::Common,
    dice::Dice,
    fleet::{Order, Polling},
    moment::Moment,
    report::Reporter,
    site::{FLEET, Site},
    span,
    stats::Tally,
};

pub const EXAMPLE: &str = "Examples:
  loadgen --playground /tmp/pg/playground.json propagate 100 --rounds 20
  loadgen --playground /tmp/pg/playground.json propagate 1000 --native --reach one --rounds 200
  loadgen --playground /tmp/pg/playground.json propagate 1000 --reach one --rounds 200 --patience 30s";

/// Whom a new entry is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Reach {
    /// All nodes, by an ID they share.
    All,
    /// One node, another each round.
    One,
}

/// How many nodes and entries.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    polls: PollArgs,
    /// Whom each new entry is for.
    #[arg(long, value_enum, default_value_t = Reach::All)]
    reach: Reach,
    /// Entries made one after the other; the next at a random moment after the last has arrived everywhere.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,
    /// How long an entry may take; what has not arrived then is counted as missing.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = span::parse)]
    patience: Duration,
    /// Entries that are there before, over all nodes in turn.
    #[arg(long, value_name = "N", default_value_t = 0)]
    entries: usize,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let polling = args.polls.order().ok_or("--poll 0s: nodes that never ask never learn of an entry")?;
    let alias = if args.reach == Reach::All { Alias::Shared } else { Alias::None };
    let mut mustered = muster(&args.fleet, args.entries, alias, common, site, reporter).await?;
    let echoed = echo(ENTRY_BYTES, common, site, reporter).await?;
    let prefix = site.path("propagate/");
    mustered.fleet.all(Order::Poll(Polling { clocked: Some(prefix), ..polling })).await?;
    rest(args.polls.turn().mul_f64(1.2), site).await;
    if args.polls.native {
        let first = mustered.fleet.all(Order::Followed { within_ms: FIRST_MS }).await?;
        first.problem.iter().for_each(|problem| eprintln!("loadgen: {problem}"));
    }
    mustered.fleet.all(Order::Read).await?;

    let mut tally = Tally::default();
    let mut dice = Dice::new(args.rounds as u64);
    let phase = reporter.begin("propagate");
    for round in 0..args.rounds {
        // Made as soon as the last one had arrived, every entry would come at the same moment of somebody's poll.
        rest(args.polls.turn().mul_f64(dice.share()), site).await;
        if site.stop.is_cancelled() {
            break;
        }
        self::round(round, args, site, &mut mustered, &mut tally).await?;
    }
    let polled = mustered.fleet.all(Order::Halt).await?.tally;
    let mut more = placed(mustered.paths.len(), &mustered.spread);
    if let (Value::Object(more), Value::Object(told)) = (&mut more, args.polls.told()) {
        more.extend(told);
    }
    more["reach"] = json!(format!("{:?}", args.reach).to_lowercase());
    more["entries"] = json!(args.entries);
    more["polls"] = json!(polled.times("sync"));
    more["poll_errors"] = json!(polled.errors);
    let done = reporter.end(&phase, tally, more);
    reporter.summary("arrival", &done, echoed.as_ref(), json!({}));
    Ok(())
}

/// Makes one entry and clocks its way.
async fn round(
    round: usize,
    args: &Args,
    site: &Site,
    mustered: &mut Mustered,
    tally: &mut Tally,
) -> Result<(), String> {
    let target = round % mustered.paths.len();
    let (parent, only) = match args.reach {
        Reach::All => (site.path(FLEET), None),
        Reach::One => (mustered.paths[target].clone(), Some(target)),
    };
    let path = site.path(&format!("propagate/{round}"));
    let asked = Moment::now();
    site.entries(vec![(parent, path.clone())]).await?;
    let made = Moment::now();
    tally.time("create", made.since(asked));
    let within_ms = u64::try_from(args.patience.as_millis()).unwrap_or(u64::MAX);
    let answer = mustered.fleet.all(Order::Await { path, only, within_ms }).await?;
    let expected = if only.is_some() { 1 } else { mustered.paths.len() };
    for at in answer.arrivals.values() {
        // From the server's answer: whoever made the entry knows only then that it is there.
        tally.call("arrival", at.since(made), Ok(1));
        tally.time("arrival.from_request", at.since(asked));
    }
    if let Some(last) = answer.arrivals.values().max() {
        tally.time("last", last.since(made));
    }
    // Whoever was not reached counts as long as we waited, so that a lost entry does not look fast.
    let missing = expected.saturating_sub(answer.arrivals.len());
    if missing > 0 && !site.stop.is_cancelled() {
        tally.count("missing", missing as u64);
        (0..missing).for_each(|_| tally.time("arrival", args.patience));
    }
    Ok(())
}
