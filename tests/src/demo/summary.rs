use std::collections::BTreeSet;

use super::{say, setting::Setting};

/// Calls a second each pair must have made over the whole time, at least.
const CALLS_PER_SECOND: u64 = 20;

/// First identity and three rotations, each with a serial and a key of its own.
const LEAST_SVIDS: usize = 4;

/// Prints the figures and judges them; `is_good` says which nodes nobody stopped on purpose.
///
/// # Errors
/// A figure is not as told.
pub fn print(setting: &Setting, is_good: impl Fn(usize) -> bool) -> Result<(), String> {
    say("summary");
    let (mut calls, mut handshakes, mut failures) = (0, 0, 0);
    let good: BTreeSet<String> = setting.agents.0.iter().filter(|a| is_good(a.node)).map(|a| a.seen().id).collect();
    for agent in &setting.agents.0 {
        let seen = agent.seen();
        for (peer, counts) in &seen.peers {
            calls += counts.calls;
            handshakes += counts.handshakes;
            if good.contains(&seen.id) && good.contains(peer) {
                failures += counts.failures;
            }
            if counts.calls < counts.handshakes * CALLS_PER_SECOND * 8 / 10 {
                return Err(format!(
                    "{} -> {peer}: {} calls over {} connections are too few",
                    seen.id, counts.calls, counts.handshakes
                ));
            }
        }
    }
    println!("calls {calls}, TLS handshakes {handshakes}, failures among good nodes {failures}");
    for agent in &setting.agents.0 {
        let seen = agent.seen();
        let serials: BTreeSet<&String> = seen.serials.iter().collect();
        println!("node {}: {}  {} serials, {} keys", agent.node, seen.id, serials.len(), seen.keys.len());
        if serials.len() < LEAST_SVIDS || seen.keys.len() < LEAST_SVIDS {
            return Err(format!("{}: fewer than {LEAST_SVIDS} serials or keys", seen.id));
        }
        check_record(setting, &seen.id, &serials)?;
    }
    if failures > 0 {
        return Err(format!("{failures} calls among good nodes failed"));
    }
    Ok(())
}

/// Every serial an agent saw must stand in the CA's record, in an event about that instance.
fn check_record(setting: &Setting, id: &str, serials: &BTreeSet<&String>) -> Result<(), String> {
    let recorded: BTreeSet<String> = setting
        .timeline
        .all()
        .iter()
        .filter(|e| e.subject == id)
        .filter_map(|e| e.fields["serial"].as_str().map(str::to_owned))
        .collect();
    match serials.iter().find(|s| !recorded.contains(**s)) {
        Some(missing) => Err(format!("{id}: serial {missing} was used and is not in the record")),
        None => Ok(()),
    }
}
