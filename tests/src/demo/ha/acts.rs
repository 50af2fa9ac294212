//! A server dies, and comes back.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Spoil, Stage, say};
use crate::process::until;

/// For attestors to ask another server. It takes a few dozen milliseconds; the rest is for a busy machine.
const MOVED_WITHIN: Duration = Duration::from_secs(5);
/// For new instances after a death.
const BEGUN_WITHIN: Duration = Duration::from_secs(40);
/// For agents to tell of calls, which they do every second.
const TOLD_WITHIN: Duration = Duration::from_secs(6);

/// How a server ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Death {
    /// SIGKILL: connections break.
    Killed,
    /// SIGTERM: it asks everybody to go.
    Stopped,
}

/// Agents are introduced, newcomers come, and each attestor says whom it asks.
pub fn everybody_talks(stage: &mut Stage) -> Result<(), String> {
    say("act 1: agents talk, one process after the other begins and ends; each attestor has chosen a server");
    stage.agents.introduce_at(stage.pace.call_every_ms)?;
    stage.newcomers.begin(&stage.playground);
    let none = vec![0; stage.playground.machines.len()];
    stage.newcomers.wait_for(&none, stage.pace.newcomers, BEGUN_WITHIN)?;
    more_calls(stage)?;
    tell_who_asks_whom(stage)
}

/// The server that most attestors ask dies in the middle of it all: they ask another one, and nothing fails.
pub fn dies(
    stage: &mut Stage,
    act: usize,
    death: Death,
    dead: &mut Vec<String>,
    spoil: Option<Spoil>,
) -> Result<(), String> {
    let (victim, asking) = stage.most_asked(dead)?;
    let (name, nodes) = (stage.name(&victim), stage.playground.machines.len());
    let how = if death == Death::Killed { "killed (SIGKILL)" } else { "stopped (SIGTERM)" };
    say(&format!("act {act}: {name}, which {asking} of {nodes} attestors ask, is {how}"));
    let (begun, calls) = (stage.newcomers.counts(), stage.agents.calls());
    let began = Instant::now();
    let server = stage.playground.server_at(&victim).ok_or("no such server")?.process();
    match death {
        Death::Killed => server.kill(),
        Death::Stopped => server.signal(Signal::TERM),
    }
    let moved = until(MOVED_WITHIN, || all_ask_another(stage, &victim))
        .map(|()| began.elapsed())
        .map_err(|problem| format!("{name} is dead, and no other server is asked: {problem}"))?;
    println!("every attestor asks another server {} ms after that", moved.as_millis());
    stage.playground.server_at(&victim).ok_or("no such server")?.process().stop();
    stage.newcomers.wait_for(&begun, stage.pace.newcomers, BEGUN_WITHIN)?;
    more_calls(stage)?;
    let after = stage.newcomers.counts();
    let newcomers: usize = after.iter().zip(&begun).map(|(after, before)| after - before).sum();
    let calls = stage.agents.calls() - calls;
    println!("without it: {newcomers} instances began, {calls} calls among the agents; none failed");
    tell_who_asks_whom(stage)?;
    dead.push(victim.clone());
    if spoil != Some(Spoil::NeverBack) {
        let back = Instant::now();
        stage.playground.server_at(&victim).ok_or("no such server")?.restart()?;
        println!("{name} serves again, {} ms after its start", back.elapsed().as_millis());
    }
    Ok(())
}

fn all_ask_another(stage: &Stage, victim: &str) -> Result<(), String> {
    for (node, asked) in stage.asked()?.iter().enumerate() {
        if asked.is_empty() || asked == victim {
            return Err(format!("node {node} asks {}", stage.name(asked)));
        }
    }
    Ok(())
}

/// Every agent has had answers since, and none of its calls failed.
fn more_calls(stage: &Stage) -> Result<(), String> {
    for agent in &stage.agents.0 {
        let before = agent.calls();
        agent.wait(TOLD_WITHIN, "more calls", |seen| {
            seen.lost || seen.peers.values().map(|counts| counts.calls).sum::<u64>() > before
        })?;
        if agent.seen().lost {
            return Err(format!("agent {} lost its identity", agent.seen().id));
        }
    }
    stage.agents.check_calls()
}

fn tell_who_asks_whom(stage: &Stage) -> Result<(), String> {
    let asked = stage.asked()?;
    let told: Vec<_> =
        asked.iter().enumerate().map(|(node, asked)| format!("node {node} asks {}", stage.name(asked))).collect();
    println!("{}", told.join(", "));
    Ok(())
}
