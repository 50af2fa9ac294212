//! `kill -9` at random moments. `CHANCERY_KILLS` = number of times (`make soak`: 20), `CHANCERY_SEED` repeats a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use chancery_tests::{demo::agents::Agents, playground::Attest, process::until};

use crate::support::{SOON, Stage, identity, stage};

/// Kills without `CHANCERY_KILLS`.
const KILLS: u64 = 4;
/// Processes that begin and end instances at the same time.
const WORKERS: usize = 8;
/// Longest time between a recovery and the next kill.
const CALM_MILLIS: u64 = 900;
/// Identities that must be given out after a kill before the next one: everyone's outage is over then.
const RECOVERED: usize = WORKERS;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// Numbers of splitmix64 from a printed seed.
struct Dice(u64);

impl Dice {
    fn cast() -> Self {
        let nanos = || u64::from(SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos());
        let seed = number("CHANCERY_SEED").unwrap_or_else(nanos);
        println!("CHANCERY_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// What short-lived processes got.
#[derive(Default)]
struct Got {
    ids: Vec<String>,
    refusals: BTreeMap<String, u32>,
}

/// One process after the other, each asks once and ends.
fn begin_and_end(program: &PathBuf, endpoint: &str, stop: &AtomicBool, got: &Mutex<Got>) {
    while !stop.load(Ordering::Relaxed) {
        let mut command = Command::new(program);
        command.arg("once").env("SPIFFE_ENDPOINT_SOCKET", endpoint).stdin(Stdio::null());
        let out = command.output().unwrap();
        let answer = identity(&String::from_utf8_lossy(&out.stdout));
        let mut got = got.lock().unwrap();
        match answer {
            Ok(id) => got.ids.push(id),
            Err(words) => *got.refusals.entry(words).or_default() += 1,
        }
    }
}

/// Two TPM nodes, a class of short-lived processes and one of agents that talk all the time.
fn busy_stage() -> (Stage, Agents) {
    let stage = stage(Attest::Tpm, |o| {
        o.nodes = 2;
        (o.lifetimes.instance_ttl, o.lifetimes.node_ttl) = (Some("24s".into()), Some("40s".into()));
    });
    let fleet = stage.fleet();
    stage.class(&fleet, "soak/worker", "workload", &[]);
    stage.class(&fleet, "soak/agent", "demo-agent", &[]);
    let mut agents = Agents((0..2).map(|node| stage.agent(node)).collect());
    agents.introduce().unwrap();
    (stage, agents)
}

fn calls(agents: &Agents) -> u64 {
    agents.0.iter().flat_map(|agent| agent.seen().peers.into_values()).map(|counts| counts.calls).sum()
}

#[test]
fn no_id_is_lost_or_given_twice_while_the_ca_is_killed() {
    let (mut stage, agents) = busy_stage();
    let (stop, got) = (AtomicBool::new(false), Mutex::new(Got::default()));
    let (program, kills) = (stage.playground.bin.path("workload"), number("CHANCERY_KILLS").unwrap_or(KILLS));
    let endpoints: Vec<_> = (0..WORKERS).map(|worker| stage.endpoint(worker % 2)).collect();
    thread::scope(|scope| {
        for endpoint in &endpoints {
            scope.spawn(|| begin_and_end(&program, endpoint, &stop, &got));
        }
        let outcome = kill_again_and_again(&mut stage, kills, &got);
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    let got = got.into_inner().unwrap();
    let distinct: BTreeSet<_> = got.ids.iter().cloned().collect();
    assert_eq!(distinct.len(), got.ids.len(), "an ID was given to two processes");
    let listed: Vec<_> = stage.instances().into_iter().map(|(id, _)| id).collect();
    let known: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(known.len(), listed.len(), "instance list has an ID twice");
    assert_eq!(distinct.difference(&known).next(), None, "a client received an ID that is not in instance list");
    agents.check_calls().unwrap();
    let talked = calls(&agents);
    only_agents_live(&stage, &agents);
    check_record(&stage);
    println!(
        "{kills} kills: {} IDs received, {} listed, none twice; {talked} calls between the agents, 0 failed; refusals: {:?}",
        got.ids.len(),
        listed.len(),
        got.refusals
    );
}

fn kill_again_and_again(stage: &mut Stage, kills: u64, got: &Mutex<Got>) -> Result<(), String> {
    let mut dice = Dice::cast();
    for kill in 1..=kills {
        let before = got.lock().unwrap().ids.len();
        until(SOON, || match got.lock().unwrap().ids.len() - before {
            fresh if fresh >= RECOVERED => Ok(()),
            fresh => Err(format!("kill {kill}: only {fresh} identities since the CA came back")),
        })?;
        // The random moment itself; nothing is waited for.
        thread::sleep(Duration::from_millis(dice.below(CALM_MILLIS)));
        stage.playground.authority.process().kill();
        stage.playground.authority.restart()?;
    }
    Ok(())
}

/// What the processes began has ended with them: nothing lives but the agents.
fn only_agents_live(stage: &Stage, agents: &Agents) {
    let ours: BTreeSet<_> = agents.0.iter().map(|agent| agent.seen().id).collect();
    let live = || stage.instances().into_iter().filter(|(_, standing)| standing == "good").map(|(id, _)| id);
    until(SOON, || match live().collect::<BTreeSet<_>>() {
        live if live == ours => Ok(()),
        live => Err(format!("{} live instances, not {}", live.len(), ours.len())),
    })
    .unwrap();
}

/// The record has every number once, in order.
fn check_record(stage: &Stage) {
    let text = stage.ca(&["audit", "list"]);
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].as_i64().unwrap();
    let numbers: Vec<_> = text.lines().map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "the record has a gap or a double");
}

/// `kill -9` of the attestor while one of four processes dies: three keep their IDs with new keys, one is ended.
#[test]
fn a_killed_attestor_finds_its_instances_again() {
    let mut stage = stage(Attest::Tpm, |_| {});
    let fleet = stage.fleet();
    stage.class(&fleet, "soak/agent", "demo-agent", &[]);
    let mut agents: Vec<_> = (0..4).map(|_| stage.agent(0)).collect();
    let known = |agent: &chancery_tests::demo::agents::Agent| agent.wait(SOON, "an identity", |s| s.address.is_some());
    let before: Vec<_> = agents.iter().map(|agent| known(agent).unwrap()).collect();

    let mut dying = agents.pop().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| stage.playground.machines[0].process().unwrap().kill());
        scope.spawn(|| dying.kill());
    });
    stage.playground.machines[0].start().unwrap();
    stage.playground.machines[0].wait_until_serving().unwrap();

    for (agent, before) in agents.iter().zip(&before) {
        let after = agent.wait(SOON, "a new key", |s| s.keys.len() > before.keys.len()).unwrap();
        assert_eq!(after.id, before.id);
    }
    stage.wait_for_standing(&before[3].id, "ended");
    let listed = stage.instances();
    let good = listed.iter().filter(|(_, standing)| standing == "good").count();
    assert_eq!((listed.len(), good), (4, 3), "{listed:?}");
}
