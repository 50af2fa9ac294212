use std::collections::BTreeSet;

use super::{say, setting::Setting};

/// Calls a second each pair must have made over the whole time, at least.
const CALLS_PER_SECOND: u64 = 20;

/// Prints the figures and judges them.
///
/// # Errors
/// A figure is not as told.
pub fn print(setting: &mut Setting) -> Result<(), String> {
    say("summary");
    let (mut calls, mut handshakes, mut failures) = (0, 0, 0);
    let good: BTreeSet<String> = setting.agents.0.iter().filter(|a| a.node == 0).map(|a| a.seen().id).collect();
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
        if serials.len() < 4 || seen.keys.len() < 4 {
            return Err(format!("{}: fewer than 4 serials or keys", seen.id));
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
