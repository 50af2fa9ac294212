//! The load generator against the real CA, with small numbers: every mode measures, and what it says is what the CA recorded.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use chancery_tests::{playground::Attest, process::until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{SOON, Stage, stage};

/// What makes a run short.
const SHORT: [&str; 6] = ["--for", "400ms", "--warm-up", "100ms", "--echo", "100ms"];

/// Lines of a run, by phase; a phase that comes twice (the echo) keeps its last line.
type Lines = BTreeMap<String, Value>;

fn command(stage: &Stage, args: &[&str]) -> Command {
    let program = stage.playground.bin.path("loadgen");
    assert!(program.is_file(), "{} is missing: run `cargo build -p chancery-loadgen`", program.display());
    let mut command = Command::new(program);
    command.arg("--playground").arg(stage.playground.dir.join("playground.json")).args(SHORT).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn parsed(out: &[u8]) -> Lines {
    let text = String::from_utf8_lossy(out);
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    text.lines().map(line).map(|line| (line["phase"].as_str().unwrap().to_owned(), line)).collect()
}

/// Runs a mode to its end; no call of it may fail.
fn load(stage: &Stage, args: &[&str]) -> Lines {
    let out = command(stage, args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    let lines = parsed(&out.stdout);
    for (phase, line) in lines.iter().filter(|(phase, _)| *phase != "summary") {
        assert_eq!(line["errors"], serde_json::json!({}), "{args:?}, {phase}: {line}");
        assert_eq!(line["interrupted"], false, "{args:?}, {phase}");
    }
    lines
}

fn number(lines: &Lines, phase: &str, field: &str) -> u64 {
    let line = lines.get(phase).unwrap_or_else(|| panic!("no line of {phase}: {:?}", lines.keys()));
    line[field].as_u64().unwrap_or_else(|| panic!("{phase} has no {field}: {line}"))
}

/// Microseconds of something that was timed.
fn micros(lines: &Lines, phase: &str, name: &str, quantile: &str) -> f64 {
    lines[phase]["latency_us"][name][quantile].as_f64().unwrap_or_else(|| panic!("{phase}: {}", lines[phase]))
}

/// Events in the CA's record by kind.
fn recorded(stage: &Stage) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    for line in stage.ca(&["audit", "list"]).lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        *kinds.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    kinds
}

/// What was recorded since `before`.
fn more(stage: &Stage, before: &BTreeMap<String, u64>, kind: &str) -> u64 {
    let count = |kinds: &BTreeMap<String, u64>| kinds.get(kind).copied().unwrap_or_default();
    count(&recorded(stage)) - count(before)
}

#[test]
fn what_the_load_generator_counts_is_what_the_ca_recorded() {
    let stage = stage(Attest::JoinToken, |_| {});
    let issued = |lines: &Lines, phase: &str| number(lines, "warm-up", "items") + number(lines, phase, "items");

    let before = recorded(&stage);
    let lines =
        load(&stage, &["issue", "--batch", "8", "--in-flight", "2", "--nodes", "2", "--csrs", "16", "--entries", "8"]);
    assert!(number(&lines, "issue", "items") > 0);
    assert_eq!(number(&lines, "issue", "items"), 8 * number(&lines, "issue", "calls"));
    assert_eq!(more(&stage, &before, "svid.issued"), issued(&lines, "issue"));
    assert_eq!((more(&stage, &before, "node.attested"), more(&stage, &before, "node.evicted")), (2, 2));
    assert_eq!((more(&stage, &before, "entry.created"), more(&stage, &before, "entry.deleted")), (16, 16));
    let server = &lines["issue"]["server"][0];
    assert_eq!(server["pid"].as_u64(), Some(u64::from(stage.playground.authority.pid())));
    assert!(server["resident_bytes"].as_u64().unwrap() > 1 << 20, "{server}");
    assert!(lines["summary"]["to_echo"]["p50"].as_f64().unwrap() > 1.0, "{}", lines["summary"]);
    assert!(micros(&lines, "echo", "echo", "p50") > 0.0);

    let before = recorded(&stage);
    let lines = load(&stage, &["issue", "--rate", "40", "--nodes", "1", "--csrs", "4", "--entries", "1"]);
    let asked = number(&lines, "issue", "calls") + number(&lines, "issue", "unsent");
    assert_eq!(asked, 16, "40 a second for 400 ms");
    assert_eq!(more(&stage, &before, "svid.issued"), issued(&lines, "issue"));
    let (due, service) = (micros(&lines, "issue", "issue", "max"), micros(&lines, "issue", "issue.service", "max"));
    assert!(due >= service, "from the moment due {due}, from sending {service}");

    let before = recorded(&stage);
    let lines = load(&stage, &["jwt", "--in-flight", "2", "--nodes", "1", "--entries", "4"]);
    assert_eq!(more(&stage, &before, "jwt.issued"), issued(&lines, "jwt"));

    let lines = load(&stage, &["workload", "--in-flight", "2", "--connections", "2"]);
    assert!(number(&lines, "fetch", "items") > 0 && number(&lines, "echo", "calls") > 0);
    assert_eq!(lines["fetch"]["server"][0]["pid"].as_u64(), Some(u64::from(stage.playground.machines[0].pid())));
    assert_eq!(stage.ca_json(&["entry", "list"])["entries"], serde_json::json!([]), "nothing is left");
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 1, "but the playground's node");
}

#[test]
fn a_fleet_polls_learns_of_entries_renews_and_comes_back() {
    let stage = stage(Attest::JoinToken, |_| {});
    let polls = ["--poll", "200ms"];

    let before = recorded(&stage);
    let lines = load(&stage, &[&["agents", "4", "--entries", "12", "--processes", "2"], &polls[..]].concat());
    assert_eq!((number(&lines, "attest", "calls"), number(&lines, "connect", "calls")), (4, 4));
    assert_eq!(number(&lines, "poll", "processes"), 2);
    let syncs = lines["poll"]["latency_us"]["sync"]["count"].as_u64().unwrap();
    assert!((4..=12).contains(&syncs), "4 nodes that ask every 200 ms, for 400 ms: {syncs}");
    assert_eq!(number(&lines, "poll", "items"), 3 * syncs, "each node sees its three entries");
    assert_eq!((more(&stage, &before, "node.attested"), more(&stage, &before, "node.evicted")), (4, 4));

    for reach in ["all", "one"] {
        let args = [&["propagate", "3", "--rounds", "2", "--reach", reach, "--sync", "get"], &polls[..]].concat();
        let lines = load(&stage, &args);
        let expected = if reach == "all" { 6 } else { 2 };
        assert_eq!(number(&lines, "propagate", "calls"), expected, "{}", lines["propagate"]);
        assert!(lines["propagate"].get("missing").is_none());
        assert!(micros(&lines, "propagate", "arrival", "max") < 30e6);
    }

    let before = recorded(&stage);
    let lines = load(&stage, &["storm", "4", "--processes", "2"]);
    assert_eq!((number(&lines, "storm", "calls"), more(&stage, &before, "node.renewed")), (4, 4));
    let by_second: u64 = lines["storm"]["by_second"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(by_second, 4);
    assert!(lines["storm"]["peak_to_mean"].as_f64().unwrap() >= 1.0);

    let before = recorded(&stage);
    let lines = load(&stage, &["storm", "2", "--svids", "3", "--within", "200ms"]);
    assert_eq!((number(&lines, "storm", "items"), more(&stage, &before, "svid.issued")), (6, 6));

    let before = recorded(&stage);
    let args = [&["storm", "3", "--taint", "--publish", "500ms", "--within", "300ms"], &polls[..]].concat();
    let lines = load(&stage, &args);
    assert_eq!((number(&lines, "storm", "rotated"), number(&lines, "storm", "not_rotated")), (3, 0));
    assert!(more(&stage, &before, "node.renewed") >= 3);
    assert_eq!(more(&stage, &before, "authority.tainted"), 1);

    let lines = load(&stage, &["reconnect", "4", "--rounds", "2"]);
    assert_eq!(number(&lines, "reconnect", "calls"), 4);
    assert_eq!(stage.ca_json(&["entry", "list"])["entries"], serde_json::json!([]), "aliases are gone too");
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_stopped_run_tells_what_it_measured_and_cleans_up() {
    let stage = stage(Attest::JoinToken, |_| {});
    let before = recorded(&stage);
    let args = ["agents", "3", "--processes", "2", "--poll", "100ms", "--for", "1h"];
    let child = command(&stage, &args).spawn().unwrap();
    // Both processes have their nodes and ask.
    until(SOON, || match more(&stage, &before, "node.attested") {
        3 => Ok(()),
        attested => Err(format!("{attested} nodes attested")),
    })
    .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(parsed(&out.stdout)["attest"]["calls"], 3);
    assert_eq!(more(&stage, &before, "node.evicted"), 3);
}

#[test]
fn what_is_wrong_is_told_in_a_line_that_says_what_to_do() {
    let stage = stage(Attest::JoinToken, |_| {});
    let refused = |args: &[&str]| {
        let out = command(&stage, args).output().unwrap();
        assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0), "{args:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let said = refused(&["issue", "--admin-socket", "/nonexistent/api.sock"]);
    assert!(said.contains("/nonexistent/api.sock") && said.contains("is the server up"), "{said}");
    let said = refused(&["issue", "--pid", "4294967295"]);
    assert!(said.contains("--pid 4294967295"), "{said}");
    let said = refused(&["agents", "100000000"]);
    assert!(said.contains("MiB"), "{said}");
    let said = refused(&["propagate", "--poll", "0s"]);
    assert!(said.contains("never ask"), "{said}");
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 1, "nothing was made");
}
