//! Many nodes and many entries: how fast a change arrives, what waiting costs, how long a start takes.
//!
//! `BENCH_NODES`, `BENCH_ENTRIES`, `BENCH_MANY` and `BENCH_IDLE` (seconds) make it smaller.

use std::time::Instant;

use super::{
    figure::{Figure, Target},
    load::{Lines, load, size},
};
use crate::{
    playground::{Attest, Options, Playground},
    postgres,
};

/// Entries made one after the other, each for another node.
const ROUNDS: &str = "300";

/// From an entry to the node that may serve it: on one server, and through another one.
pub(super) fn push() -> Result<Vec<Figure>, String> {
    let folder = folder()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let db = runtime.block_on(postgres::database());
    let alone = server(&folder, "alone", "sqlite")?;
    let one = propagate(&alone, &alone)?;
    drop(alone);
    let (first, second) = (server(&folder, "first", &db)?, server(&folder, "second", &db)?);
    let same = propagate(&first, &first)?;
    let other = propagate(&second, &first)?;
    let p99 = |lines: &Lines| lines.ms("propagate", "arrival.from_request", "p99");
    let note = |lines: &Lines| -> Result<String, String> {
        let at = |quantile: &str| lines.ms("propagate", "arrival.from_request", quantile);
        let missing = lines.number("propagate", &["missing"]).unwrap_or_default();
        Ok(format!("{ROUNDS} entries: p50 {:.2} ms, max {:.2} ms; {missing:.0} missing", at("p50")?, at("max")?))
    };
    let to_echo = p99(&one)? / one.ms("echo", "echo", "p99")?;
    Ok(vec![
        Figure::new("entry to node, p99", " ms", Target::AtMost(93.0), vec![p99(&one)?], note(&one)?)?,
        Figure::new("  the same / an echo's p99", "", Target::AtMost(50.0), vec![to_echo], String::new())?,
        Figure::new(
            "  through a second server / through one, p99",
            "",
            Target::AtMost(5.0),
            vec![p99(&other)? / p99(&same)?],
            note(&other)?,
        )?,
    ])
}

/// What nodes cost that only follow.
pub(super) fn fleet() -> Result<Vec<Figure>, String> {
    let folder = folder()?;
    let ca = server(&folder, "fleet", "sqlite")?;
    let idle = idle(&ca, size("BENCH_ENTRIES", 10_000)?)?;
    let storm = storm(&ca)?;
    Ok(vec![
        Figure::new("idle CPU of the CA, share of a core", " %", Target::AtMost(1.0), vec![idle.percent], idle.note)?,
        Figure::new(
            "resident memory for each node",
            " KiB",
            Target::AtMost(40.0),
            vec![idle.kib_per_node],
            String::new(),
        )?,
        Figure::new(
            "storm: peak / mean of rotations in a second",
            "",
            Target::AtMost(1.5),
            vec![storm.number("storm", &["peak_to_mean"])?],
            "every node renews within a minute".into(),
        )?,
    ])
}

/// A hundred times the entries: memory, a restart, and waiting again.
pub(super) fn many() -> Result<Vec<Figure>, String> {
    let folder = folder()?;
    let (few, many) = (size("BENCH_ENTRIES", 10_000)?, size("BENCH_MANY", 1_000_000)?);
    let mut small = server(&folder, "small", "sqlite")?;
    let waiting_few = idle_kept(&small, few)?;
    small.authority.restart()?;
    let resident_few = resident(small.authority.pid())?;
    drop(small);
    let mut large = server(&folder, "large", "sqlite")?;
    let waiting_many = idle_kept(&large, many)?;
    let began = Instant::now();
    large.authority.restart()?;
    let took = began.elapsed().as_secs_f64();
    let per_entry = (resident(large.authority.pid())? - resident_few) / (many - few) as f64;
    let note = format!("{:.3} % with {few}, {:.3} % with {many}", waiting_few.percent, waiting_many.percent);
    let ratio = waiting_many.percent / waiting_few.percent.max(0.01);
    Ok(vec![
        Figure::new("restart to serving, 1,000,000 entries", " s", Target::AtMost(10.0), vec![took], String::new())?,
        Figure::new("resident memory for each entry", " B", Target::AtMost(350.0), vec![per_entry], String::new())?,
        Figure::new("idle CPU with 1,000,000 entries / 10,000", "", Target::AtMost(1.1), vec![ratio], note)?,
    ])
}

/// What a fleet cost while nothing happened.
struct Idle {
    /// Of one core.
    percent: f64,
    kib_per_node: f64,
    note: String,
}

fn idle(ca: &Playground, entries: u64) -> Result<Idle, String> {
    waiting(ca, entries, &[])
}

/// The entries stay: a restart reads them.
fn idle_kept(ca: &Playground, entries: u64) -> Result<Idle, String> {
    waiting(ca, entries, &["--keep"])
}

fn waiting(ca: &Playground, entries: u64, more: &[&str]) -> Result<Idle, String> {
    let (nodes, seconds) = (nodes()?, size("BENCH_IDLE", 300)?);
    let before = resident(ca.authority.pid())?;
    let (nodes_arg, entries_arg, time) = (nodes.to_string(), entries.to_string(), format!("{seconds}s"));
    let mut args = vec!["agents", &nodes_arg, "--native", "--entries", &entries_arg, "--for", &time, "--echo", "0s"];
    args.extend(more);
    let lines = load(ca, ca, &args)?;
    let at_end = |phase: &str| lines.number(phase, &["server", "0", "resident_bytes"]);
    let grown = at_end("watch")? - at_end("entries")?;
    let mb = |bytes: f64| bytes / 1e6;
    Ok(Idle {
        percent: lines.number("watch", &["server_cpu_share"])? * 100.0,
        kib_per_node: grown / nodes as f64 / 1024.0,
        note: format!(
            "{nodes} streams, {entries} entries, {seconds} s; CA {:.0} MB before, {:.0} with entries, {:.0} with streams",
            mb(before),
            mb(at_end("entries")?),
            mb(at_end("watch")?)
        ),
    })
}

fn propagate(server: &Playground, admin: &Playground) -> Result<Lines, String> {
    let (nodes, entries) = (nodes()?.to_string(), size("BENCH_ENTRIES", 10_000)?.to_string());
    load(server, admin, &propagation(&nodes, "one", ROUNDS, &entries))
}

/// What the load generator is asked for the way of an entry to its node.
pub(super) fn propagation<'a>(nodes: &'a str, reach: &'a str, rounds: &'a str, entries: &'a str) -> [&'a str; 9] {
    ["propagate", nodes, "--native", "--reach", reach, "--rounds", rounds, "--entries", entries]
}

fn storm(ca: &Playground) -> Result<Lines, String> {
    load(ca, ca, &["storm", &nodes()?.to_string(), "--within", "60s", "--echo", "0s"])
}

fn nodes() -> Result<u64, String> {
    size("BENCH_NODES", 5000)
}

fn folder() -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new().prefix("chancery-bench-").tempdir().map_err(|e| e.to_string())
}

/// A CA without nodes of its own.
fn server(folder: &tempfile::TempDir, name: &str, db: &str) -> Result<Playground, String> {
    let options =
        Options { nodes: 0, attest: Attest::JoinToken, db: db.into(), ..Options::new(folder.path().join(name)) };
    Playground::start(&options)
}

/// Resident bytes of a process.
fn resident(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let row = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = row.and_then(|row| row.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("{path}: no VmRSS"))
}
