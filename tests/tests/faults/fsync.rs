//! A disk that takes 100 ms for every fsync: strace holds each of them up before the kernel does it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chancery_tests::process::{Process, until};
use rustix::process::Signal;

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    load::Load,
    report::{installed, ran, root, rounds},
    stage::{Stage, folder, servers},
};

/// Each is this much longer, in microseconds.
const DELAY_MICROS: u64 = 100_000;
/// Fsyncs that must have been held up.
const DELAYED: usize = 10;
/// SVIDs received meanwhile.
const CALM: usize = 40;
/// Nobody waits for longer: a commit, and the one before it.
const SLOWEST: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);

/// Processes whose fsyncs are slow.
struct Slow {
    strace: Process,
    out: PathBuf,
}

impl Slow {
    fn attach(folder: &Path, pids: &[u32]) -> Self {
        let (out, log) = (folder.join("fsyncs"), folder.join("strace.log"));
        let inject = format!("inject=fsync,fdatasync:delay_enter={DELAY_MICROS}");
        let mut args = vec!["-f".to_owned(), "-T".into(), "-o".into(), out.display().to_string()];
        args.extend(["-e".into(), "trace=fsync,fdatasync".into(), "-e".into(), inject]);
        args.extend(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let strace = Process::start("strace", Path::new("/usr/bin/strace"), &args, &log).unwrap();
        let attached = || match std::fs::read_to_string(&log).unwrap_or_default() {
            text if text.contains("attached") => Ok(()),
            text => Err(text),
        };
        until(SOON, attached).unwrap_or_else(|e| panic!("strace does not attach: {e}"));
        Self { strace, out }
    }

    /// How long each took, as far as they were held up.
    fn delayed(&self) -> Vec<f64> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        let took = |line: &str| line.rsplit_once('<')?.1.strip_suffix('>')?.parse::<f64>().ok();
        text.lines().filter(|line| line.contains("(DELAYED)")).filter_map(took).collect()
    }

    fn detach(mut self) {
        self.strace.signal(Signal::INT);
        self.strace.stop();
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    std::iter::once(pid).chain(children.split_whitespace().map(|pid| pid.parse().unwrap())).collect()
}

fn possible(fault: &str) -> bool {
    root(fault, "trace another process") && installed(fault, "strace", "strace")
}

/// The load while fsyncs are slow; answers figures.
fn slow_rounds(load: &Load, folder: &Path, pids: impl Fn() -> Vec<u32>) -> String {
    let mut fsyncs = 0;
    let mut fastest = f64::MAX;
    for _ in 0..rounds() {
        load.go_on(CALM, SOON);
        let slow = Slow::attach(folder, &pids());
        let since = Instant::now();
        load.go_on(CALM, SOON);
        load.back(since, |_| true, SLOWEST);
        until(SOON, || match slow.delayed().len() {
            count if count >= DELAYED => Ok(()),
            count => Err(format!("{count} fsyncs were slow")),
        })
        .unwrap();
        fsyncs += slow.delayed().len();
        fastest = slow.delayed().into_iter().fold(fastest, f64::min);
        slow.detach();
    }
    // strace reads the clock after the delay began: what it lost to others by then is not in its figure.
    assert!(fastest >= 0.09, "an fsync took {fastest} s, not 100 ms");
    format!("{fsyncs} fsyncs of at least {fastest:.3} s")
}

fn verdict(stage: &Stage, load: Load, how: &str, fault: &str) {
    let received = load.end(&stage.runtime);
    let slowest = received.got.iter().map(|got| got.came - got.asked).max().unwrap();
    assert!(slowest < SLOWEST, "an SVID took {slowest:?}");
    assert!(received.refusals.is_empty(), "slow is not broken: {:?}", received.refusals);
    let figures = Ledger::check(&stage.servers[0], &received);
    ran(fault, &format!("{how}; slowest SVID {slowest:?} of {SLOWEST:?}; {figures}"));
}

#[test]
fn slow_fsyncs_of_the_server_slow_calls_and_break_none() {
    let fault = "100 ms fsync, SQLite";
    if !possible(fault) {
        return;
    }
    let folder = folder();
    let database = folder.path().join("ca.sqlite3").display().to_string();
    let (place, servers) = (folder.path().to_owned(), servers(folder.path(), 1, &database));
    let mut stage = Stage::raise(folder, servers);
    let load = stage.load();
    let pid = stage.servers[0].process().pid();
    let how = slow_rounds(&load, &place, || vec![pid]);
    verdict(&stage, load, &how, fault);
}

#[test]
fn slow_fsyncs_of_the_database_slow_calls_and_break_none() {
    let fault = "100 ms fsync, PostgreSQL";
    if !possible(fault) {
        return;
    }
    let cluster = Cluster::start(&[]);
    let folder = folder();
    let (place, servers) = (folder.path().to_owned(), servers(folder.path(), 2, &cluster.url()));
    let stage = Stage::raise(folder, servers);
    let load = stage.load();
    let how = slow_rounds(&load, &place, || family(cluster.pid()));
    verdict(&stage, load, &how, fault);
}
