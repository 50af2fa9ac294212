//! Several servers of one CA, and none at all: what agents notice of it.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use chancery_sdk::{
    tls::system_clock,
    workload::{Endpoint, WorkloadClient},
};
use chancery_tests::{
    demo::{
        agents::{Agent, Agents},
        hsm::gauge,
    },
    playground::{Attest, Authority},
    process::until,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{SOON, Stage, postgres_database, stage};

/// 1 s of patience, 1 s for the probe, a dial; and what a busy machine adds.
const FROZEN_BOUND: Duration = Duration::from_secs(6);

/// A ping after 10 s without a word (`ca_ping_interval`), 5 s for its answer, half a second of jitter; and what a busy
/// machine adds.
const PINGS_BOUND: Duration = Duration::from_secs(30);

/// States that the stream told the attestor of node 0.
fn told(stage: &Stage, state: &str) -> i64 {
    let label = format!("state=\"{state}\"");
    gauge::sum(stage.playground.machines[0].metrics, "chancery_attestor_states_told_total", &label).unwrap()
}

/// Fetches until told to stop; how often, and the words of what failed.
fn fetch_all_the_time(stage: &Stage, stop: &AtomicBool) -> (u64, Vec<String>) {
    let endpoint = Endpoint::unix(&stage.playground.machines[0].workload_socket).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = WorkloadClient::connect(&endpoint);
        let (mut calls, mut failures) = (0, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            calls += 1;
            failures.extend(client.fetch_x509().await.err().map(|e| e.to_string()));
        }
        (calls, failures)
    })
}

fn ids(stage: &Stage) -> Vec<String> {
    let endpoint = Endpoint::unix(&stage.playground.machines[0].workload_socket).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = runtime.block_on(async { WorkloadClient::connect(&endpoint).fetch_x509().await }).unwrap();
    context.svids.iter().map(|svid| svid.svid.id().to_string()).collect()
}

/// An entry for every process of this user on node 0, made at one server; its SPIFFE ID.
fn create_entry(stage: &Stage, server: &Authority) -> Result<String, String> {
    let id = format!("spiffe://{}/after", stage.playground.trust_domain);
    let parent = &stage.playground.machines[0].spiffe_id;
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    server.cli(&["entry", "create", "--parent-id", parent, "--spiffe-id", &id, "--selector", &uid]).map(|_| id)
}

/// What `doctor` says of node 0, and its exit code.
fn doctor(stage: &Stage) -> (Option<i32>, Value) {
    let mut command = Command::new(stage.playground.bin.path("chancery-attestor"));
    command.args(["doctor", "--output", "json", "--config"]).arg(&stage.playground.machines[0].config);
    let out = command.output().unwrap();
    (out.status.code(), serde_json::from_slice(&out.stdout).unwrap())
}

/// Whether each server is as it should be, and whether the attestor cannot do without it.
fn servers_of(doctor: &Value) -> Vec<(bool, bool)> {
    let findings = doctor["findings"].as_array().unwrap().iter().filter(|finding| finding["name"] == "ca");
    findings.map(|finding| (finding["ok"] == true, finding["required"] == true)).collect()
}

/// kill -9 of the server in use: the Workload API answers on, a new instance begins at its first call, and the stream goes
/// on at the other server where it was.
#[test]
fn a_killed_server_costs_no_call_and_no_full_state() {
    let Some(url) = postgres_database("attestor_moves") else { return };
    let mut stage = stage(Attest::JoinToken, |o| (o.servers, o.db) = (2, url));
    let ours = stage.entry_for_us(0, "/before");
    stage.unproven_class("soak/worker");
    let first = stage.workload(0).await_x509();
    assert_eq!(ids(&stage), std::slice::from_ref(&ours));
    let victim = stage.playground.machines[0].server_in_use().unwrap();
    let (full, stop) = (told(&stage, "full"), AtomicBool::new(false));
    let (second, moved, (calls, failures)) = thread::scope(|scope| {
        stage.playground.server_at(&victim).unwrap().process().kill();
        let killed = Instant::now();
        let stage = &stage;
        let fetching = scope.spawn(|| fetch_all_the_time(stage, &stop));
        // Asked once: a refusal is a failure.
        let second = stage.workload(0).x509();
        let asks_another = || match stage.playground.machines[0].server_in_use()? {
            asked if asked.is_empty() || asked == victim => Err(format!("asks '{asked}'")),
            asked => Ok(asked),
        };
        let asked = until(SOON, asks_another);
        let moved = killed.elapsed();
        // Pushed by the other server; whoever has an identity already lets nobody poll.
        let other = stage.playground.servers().find(|server| Ok(server.grpc.to_string()) == asked);
        let made = other.ok_or_else(|| format!("{asked:?}")).and_then(|other| create_entry(stage, other));
        let arrived = made.and_then(|after| {
            until(SOON, || match ids(stage) {
                ids if ids.contains(&after) && ids.contains(&ours) => Ok(()),
                ids => Err(format!("{ids:?}")),
            })
        });
        stop.store(true, Ordering::SeqCst);
        let fetched = fetching.join().unwrap();
        arrived.unwrap();
        (second.unwrap(), moved, fetched)
    });
    assert_ne!(first, second);
    assert!(calls > 0 && failures.is_empty(), "{calls} calls, {} failed: {:?}", failures.len(), failures.first());
    assert_eq!(told(&stage, "full"), full, "full state was needed");
    assert!(told(&stage, "changes") > 0);
    let (code, said) = doctor(&stage);
    let mut servers = servers_of(&said);
    servers.sort();
    assert_eq!((code, servers), (Some(0), vec![(false, false), (true, false)]), "{said}");
    println!("another server was asked {moved:?} after the kill; {calls} calls meanwhile, none failed");
}

/// A process that stands still keeps its connections and answers nothing; so does a host without power, but for the kernel.
/// A new instance waits for 2 s of patience and the dial, and its process is not refused.
#[test]
fn a_frozen_server_holds_a_new_instance_up_for_no_longer_than_the_bound() {
    let Some(url) = postgres_database("attestor_frozen") else { return };
    let mut stage = stage(Attest::JoinToken, |o| (o.servers, o.db) = (2, url));
    stage.unproven_class("soak/worker");
    // It lives on: its end would be a commit, and a server that freezes in one holds up every other's too, until
    // PostgreSQL ends its session.
    let mut first = stage.workload(0);
    first.await_x509();
    let victim = stage.playground.machines[0].server_in_use().unwrap();
    stage.playground.server_at(&victim).unwrap().process().signal(Signal::STOP);
    let began = Instant::now();
    stage.workload(0).x509().unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}: nobody waited for the frozen server");
    assert!(took < FROZEN_BOUND, "{took:?}");
    assert_ne!(stage.playground.machines[0].server_in_use().unwrap(), victim);
    // Nobody waits for it again.
    let began = Instant::now();
    stage.workload(0).x509().unwrap();
    println!("a new instance had its SVID {took:?} after the freeze, the next one after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Nobody asks the CA anything: only the pings of the connection notice that its server stands still.
#[test]
fn a_frozen_server_that_only_pushes_is_left_within_its_pings() {
    let Some(url) = postgres_database("attestor_pings") else { return };
    let mut stage = stage(Attest::JoinToken, |o| (o.servers, o.db) = (2, url));
    let ours = stage.entry_for_us(0, "/before");
    until(SOON, || if ids(&stage).contains(&ours) { Ok(()) } else { Err("no identity yet".into()) }).unwrap();
    let victim = stage.playground.machines[0].server_in_use().unwrap();
    stage.playground.server_at(&victim).unwrap().process().signal(Signal::STOP);
    let began = Instant::now();
    let other = stage.playground.servers().find(|server| server.grpc.to_string() != victim).unwrap();
    let after = create_entry(&stage, other).unwrap();
    until(PINGS_BOUND, || if ids(&stage).contains(&after) { Ok(()) } else { Err("not pushed".into()) }).unwrap();
    println!("an entry made at the other server arrived {:?} after the freeze", began.elapsed());
}

/// All servers are away: agents talk on until the printed second, and not one second after the last of what they hold.
#[test]
fn agents_work_for_as_long_as_the_outage_budget_says_and_fail_closed_after_it() {
    let mut stage = stage(Attest::JoinToken, |o| o.lifetimes.instance_ttl = Some("20s".into()));
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "soak/agent", "demo-agent", &["--allow-unproven-nodes"]);
    let mut agents = Agents((0..2).map(|_| stage.agent(0)).collect());
    agents.introduce().unwrap();
    stage.playground.authority.process().kill();
    let killed = system_clock()().0;

    let machine = &stage.playground.machines[0];
    let is_away = || match machine.status()? {
        status if status.servers.iter().all(|server| server.state == "failed") => Ok(status),
        status => Err(format!("{:?}", status.servers)),
    };
    let budget = until(SOON, is_away).unwrap().outage_budget.unwrap();
    let first_end = agents.0.iter().map(|agent| agent.seen().not_after).min().unwrap();
    assert_eq!((budget.what.as_str(), budget.expires_at), ("instance_svid", first_end));
    let shown = gauge::sum(machine.metrics, "chancery_attestor_outage_budget_seconds", "instance_svid").unwrap();
    assert!(shown > 0 && shown <= budget.seconds_left, "{shown} > {}", budget.seconds_left);
    let log = machine.log();
    let says_so = || match std::fs::read_to_string(log) {
        Ok(text) if text.contains("outage_budget_seconds") => Ok(()),
        other => Err(format!("no line of the budget: {}", other.unwrap_or_default())),
    };
    until(SOON, says_so).unwrap();
    let (code, said) = doctor(&stage);
    assert_eq!((code, servers_of(&said)), (Some(1), vec![(false, true)]), "{said}");
    assert_eq!(said["outage_budget"]["expires_at"], first_end.to_string(), "{said}");

    // Until then everything goes on; the last second is that of the clocks' rounding.
    let calls = agents.calls();
    while system_clock()().0 < first_end - 1 {
        agents.check_calls().unwrap_or_else(|e| panic!("{} s before the end: {e}", first_end - system_clock()().0));
        thread::sleep(Duration::from_millis(50));
    }
    let worked = agents.calls() - calls;
    assert!(worked > 0);
    let failures = |agent: &Agent| agent.seen().peers.values().map(|counts| counts.failures).sum::<u64>();
    for agent in &agents.0 {
        agent.wait(SOON, "the end", |seen| seen.peers.values().any(|counts| counts.failures > 0)).unwrap();
    }
    assert!(system_clock()().0 >= first_end);
    // Closed: more is tried, and nothing is answered any more.
    let last_end = agents.0.iter().map(|agent| agent.seen().not_after).max().unwrap();
    until(SOON, || if system_clock()().0 > last_end + 1 { Ok(()) } else { Err("time".into()) }).unwrap();
    let (answered, failed) = (agents.calls(), failures(&agents.0[0]));
    agents.0[0]
        .wait(SOON, "more tries", |seen| seen.peers.values().map(|counts| counts.failures).sum::<u64>() >= failed + 20)
        .unwrap();
    assert_eq!(agents.calls(), answered, "a call was answered without an identity");
    let left = stage.playground.machines[0].status().unwrap().outage_budget.unwrap().seconds_left;
    assert_eq!(left, 0);
    println!(
        "killed at {killed}: {} s promised until {first_end}, {worked} calls until then, none failed; then none was answered",
        budget.seconds_left
    );
}
