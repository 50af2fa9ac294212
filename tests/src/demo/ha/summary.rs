use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{Stage, say};

/// Adds everything up, and holds it against the CA's record.
///
/// # Errors
/// A call or a beginning failed, an ID came twice, or the record lacks something.
pub fn print(stage: &mut Stage) -> Result<(), String> {
    say("summary");
    let got = stage.newcomers.end();
    let ids: Vec<&String> = got.iter().flat_map(|node| &node.ids).collect();
    let failed: Vec<&String> = got.iter().flat_map(|node| &node.failures).collect();
    let longest = got.iter().map(|node| node.longest).max().unwrap_or(Duration::ZERO);
    let seen: Vec<_> = stage.agents.0.iter().map(|agent| agent.seen()).collect();
    let peers = || seen.iter().flat_map(|agent| agent.peers.values());
    let failures = peers().map(|counts| counts.failures).sum::<u64>();
    let rotations: usize = seen.iter().map(|agent| agent.serials.len().saturating_sub(1)).sum();
    let (calls, handshakes) = (stage.agents.calls(), peers().map(|counts| counts.handshakes).sum::<u64>());
    println!("calls {calls}, TLS handshakes {handshakes}, failures {failures}; rotations {rotations}");
    println!(
        "instances that began {}, failures {}; the slowest process took {} ms from its start to its end",
        ids.len(),
        failed.len(),
        longest.as_millis()
    );
    check_record(stage, &ids)?;
    match failed.first() {
        Some(words) => Err(format!("a new process got no identity: {words}")),
        None => stage.agents.check_calls(),
    }
}

/// Every ID was given once and stands in the record, whose numbers have no gap.
fn check_record(stage: &Stage, ids: &[&String]) -> Result<(), String> {
    let distinct: BTreeSet<&String> = ids.iter().copied().collect();
    if distinct.len() != ids.len() {
        return Err("an ID was given to two processes".into());
    }
    let events = stage.playground.ca(&["audit", "list"])?;
    let events: Vec<Value> = events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let numbers: Vec<_> = events.iter().filter_map(|event| event["number"].as_i64()).collect();
    if numbers.windows(2).any(|pair| pair[1] != pair[0] + 1) {
        return Err("the record has a gap or a double".into());
    }
    let begun: Vec<_> = events
        .iter()
        .filter(|event| event["kind"] == "instance.begun")
        .filter_map(|event| event["subject"].as_str())
        .collect();
    let recorded: BTreeSet<&str> = begun.iter().copied().collect();
    if recorded.len() != begun.len() {
        return Err("the record has an instance twice".into());
    }
    match ids.iter().find(|id| !recorded.contains(id.as_str())) {
        Some(id) => Err(format!("{id} was given out and is not in the record")),
        None => {
            println!("record: {} events without a gap, every instance in it once", numbers.len());
            Ok(())
        }
    }
}
