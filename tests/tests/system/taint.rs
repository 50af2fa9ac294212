//! A key is tainted under load: every identity rotates, on its own node and on others no SVID ever fails to verify.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chancery_sdk::{source::Source, x509};
use chancery_tests::{demo::agents::Agents, playground::Attest, process::until};

use crate::support::{SOON, Stage, stage, verify_everywhere};

/// Lives of all SVIDs; what a tainted authority signed is replaced within a quarter of it.
const LIFE: &str = "80s";
/// Time for everything to rotate: a poll, the quarter, and a loaded machine.
const ROTATED: Duration = Duration::from_secs(75);

#[test]
fn a_tainted_key_makes_every_identity_rotate_and_none_fails_to_verify() {
    let stage = stage(Attest::Tpm, |o| {
        o.nodes = 2;
        let lives = &mut o.lifetimes;
        for ttl in [&mut lives.instance_ttl, &mut lives.x509_ttl, &mut lives.node_ttl, &mut lives.jwt_ttl] {
            *ttl = Some(LIFE.into());
        }
        (lives.ca_ttl, lives.publish_delay) = (Some("1h".into()), Some("2s".into()));
    });
    for node in 0..2 {
        stage.entry_for_us(node, &format!("/on-node-{node}"));
    }
    let fleet = stage.fleet();
    stage.class(&fleet, "taint/agent", "demo-agent", &[]);
    let mut agents = Agents((0..2).map(|node| stage.agent(node)).collect());
    agents.introduce().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sources = runtime.block_on(async { [stage.source(0).await, stage.source(1).await] });

    let old = stage.tainted_after_a_successor_signs("x509");
    let old_jwt = stage.tainted_after_a_successor_signs("jwt");
    let (serials, keys) = (stage.node_serials(), keys(&agents));
    let begun = Instant::now();
    let mut left = String::from("nothing was looked at");
    while begun.elapsed() < ROTATED {
        verify_everywhere(&sources);
        left =
            runtime.block_on(not_rotated(&stage, &sources, &agents, (old.as_str(), old_jwt.as_str()), &serials, &keys));
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100)); // between two looks
    }
    assert_eq!(left, "", "still under the tainted authority after {ROTATED:?}");
    let took = begun.elapsed();

    // Nobody needs it any more: it leaves the bundle, and everybody goes on.
    stage.ca(&["authority", "revoke", &old, "--yes"]);
    let calls = talked(&agents);
    until(SOON, || {
        verify_everywhere(&sources);
        let more = talked(&agents) - calls;
        if more >= 20 { Ok(()) } else { Err(format!("only {more} calls since the revocation")) }
    })
    .unwrap();
    agents.check_calls().unwrap();
    println!("every identity rotated within {took:?} of the taint; {} calls, 0 failed", talked(&agents));
}

/// How many keys each agent has had.
fn keys(agents: &Agents) -> Vec<usize> {
    agents.0.iter().map(|agent| agent.seen().keys.len()).collect()
}

fn talked(agents: &Agents) -> u64 {
    agents.0.iter().flat_map(|agent| agent.seen().peers.into_values()).map(|counts| counts.calls).sum()
}

/// What is still as before the taint; empty when nothing is.
async fn not_rotated(
    stage: &Stage,
    sources: &[Source],
    agents: &Agents,
    (old, old_jwt): (&str, &str),
    serials_before: &BTreeMap<String, String>,
    keys_before: &[usize],
) -> String {
    let mut left = Vec::new();
    for (node, source) in sources.iter().enumerate() {
        let signed_by = x509::authority_key_id(source.svid().unwrap().leaf()).map(hex::encode);
        if signed_by.as_deref() == Some(old) {
            left.push(format!("the entry's SVID on node {node}"));
        }
        let token = source.jwt("ledger").await.unwrap();
        for verifier in sources {
            verifier.validate_jwt_locally("ledger", token.token()).unwrap();
        }
        if token.token().split('.').next().is_some_and(|header| key_id(header) == old_jwt) {
            left.push(format!("the JWT-SVID on node {node}"));
        }
    }
    for (id, serial) in stage.node_serials() {
        if serials_before.get(&id) == Some(&serial) {
            left.push(format!("node {id}"));
        }
    }
    for (agent, (before, now)) in keys_before.iter().zip(keys(agents)).enumerate() {
        if now <= *before {
            left.push(format!("agent {agent}"));
        }
    }
    left.join(", ")
}

/// `kid` of a token's header.
fn key_id(header: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let header: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
