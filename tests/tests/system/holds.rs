//! Holds, with real processes: the peer hangs up and takes no token, and after the release the same instance talks again.

use std::time::{Duration, Instant};

use chancery_sdk::{
    id::TrustDomain,
    source::{Source, SourceError},
    tls::{Allow, H2},
};
use chancery_tests::{
    demo::protocol::{PeerAddress, Told},
    playground::Attest,
    process::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{SOON, Stage, stage};

/// From the operator's answer to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The beginning of an HTTP/2 connection: preface and empty settings. The agent then waits for calls.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

fn hold(stage: &Stage, id: &str, span: &str) {
    let said = stage.ca(&["hold", "place", "--instance", id, "--for", span, "--reason", "test"]);
    assert!(said.starts_with(&format!("Held: {id}\n")), "{said}");
}

fn shown(stage: &Stage, id: &str) -> (String, bool) {
    let shown = stage.ca_json(&["instance", "show", id]);
    let one = &shown["instances"][0];
    (one["standing"].as_str().unwrap().to_owned(), one["held_until"].is_string())
}

fn hears(source: &Source) {
    until(SOON, || if source.hears_revocations() { Ok(()) } else { Err("no list yet".into()) }).unwrap();
}

#[test]
fn a_peer_hangs_up_on_a_held_agent_and_talks_to_the_same_one_again_after_the_release() {
    let stage = stage(Attest::JoinToken, |_| {});
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "shop/agent", "demo-agent", &["--allow-unproven-nodes"]);
    stage.entry_for_us(0, "/watcher");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let source = runtime.block_on(stage.source(0));
    hears(&source);
    let mut agent = stage.agent(0);
    let us = source.svid().unwrap().id().to_string();
    // Nobody answers there; it may try once a day.
    let nowhere = PeerAddress { id: us, address: "127.0.0.1:9".parse().unwrap() };
    agent.tell(&Told::Peers { peers: vec![nowhere], call_every_ms: 86_400_000 }).unwrap();
    let seen = agent.wait(SOON, "an identity", |s| s.address.is_some()).unwrap();
    let allow = Allow::trust_domain(&TrustDomain::new(&stage.playground.trust_domain).unwrap());
    let connector = source.connector(allow, &[H2]).unwrap();
    let dial = || async { connector.connect(TcpStream::connect(seen.address.unwrap()).await.unwrap()).await };

    let mut live = runtime.block_on(dial()).unwrap();
    let hung_up = runtime.spawn(async move {
        live.write_all(HELLO).await.unwrap();
        let mut some = [0; 1024];
        loop {
            match live.read(&mut some).await {
                Ok(0) => return ("the agent closed it".to_owned(), Instant::now()),
                Ok(_) => {}
                Err(fault) => return (fault.kind().to_string(), Instant::now()),
            }
        }
    });
    let asked = Instant::now();
    hold(&stage, &seen.id, "15m");
    let answered = Instant::now();
    let (why, ended) = runtime.block_on(hung_up).unwrap();
    println!("command {:?}, end of the connection {:?} after it was asked: {why}", answered - asked, ended - asked);
    assert!(ended.saturating_duration_since(answered) <= AT_ONCE, "{why} after {:?}", ended - answered);
    assert!(runtime.block_on(dial()).is_err(), "the next handshake is refused");
    assert_eq!(shown(&stage, &seen.id), ("good".to_owned(), true));
    let listed = stage.ca_json(&["hold", "list"]);
    assert_eq!(
        (&listed["holds"][0]["instance"], &listed["holds"][0]["detector"]),
        (&seen.id.as_str().into(), &"".into())
    );

    stage.ca(&["hold", "release", "--instance", &seen.id, "--reason", "false alarm"]);
    let released = Instant::now();
    let again = until(SOON, || runtime.block_on(dial()).map_err(|e| e.to_string())).unwrap();
    println!("let in again {:?} after the release", released.elapsed());
    assert_eq!(again.peer().id().as_str(), seen.id, "the same instance");
    assert_eq!(shown(&stage, &seen.id), ("good".to_owned(), false));
    assert_eq!(stage.ca_json(&["hold", "list"])["holds"], serde_json::json!([]));
    assert!(!agent.seen().lost, "it kept what it had");
}

#[test]
fn a_held_process_gets_no_token_and_no_certificate_until_the_hold_ends_by_itself() {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    stage.entry_for_us(0, "/watcher");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let source = runtime.block_on(stage.source(0));
    hears(&source);
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    let token = workload.jwt("watcher").unwrap();
    source.validate_jwt_locally("watcher", &token).unwrap();

    hold(&stage, &id, "15m");
    let refused = || match source.validate_jwt_locally("watcher", &token) {
        Err(SourceError::Held { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(SOON, refused).unwrap();
    runtime.block_on(source.validate_jwt("watcher", &token)).unwrap_err();
    for answer in [workload.jwt("watcher"), workload.jwt("another"), workload.x509()] {
        let words = answer.unwrap_err();
        assert!(words.contains("INSTANCE_HELD") && words.contains("held until"), "{words}");
    }
    // The new end is a few seconds away, and nobody does anything any more.
    hold(&stage, &id, "3s");
    let again = until(SOON, || workload.jwt("watcher")).unwrap();
    let accepted = || source.validate_jwt_locally("watcher", &again).map_err(|e| e.to_string());
    assert_eq!(until(SOON, accepted).unwrap().id.as_str(), id);
    assert_eq!(workload.await_x509(), id);
    source.validate_jwt_locally("watcher", &token).unwrap();
    assert_eq!(shown(&stage, &id), ("good".to_owned(), false));
}
