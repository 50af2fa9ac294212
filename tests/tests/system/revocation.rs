//! The kill switch, with real processes: who hangs up when, and who does not come back.

use std::time::{Duration, Instant};

use chancery_sdk::{
    id::TrustDomain,
    jwt::JwtSvid,
    revocation::Names,
    source::{Source, SourceError},
    time::UnixTime,
    tls::{Allow, H2, system_clock},
    workload::{Endpoint, WorkloadClient},
    x509::{self, VerifiedCrl},
};
use chancery_tests::{
    demo::{
        agents::Agent,
        protocol::{PeerAddress, Told},
    },
    playground::Attest,
    process::until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::support::{SOON, Stage, postgres_database, stage};

/// From the operator's command to the end of the connection.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The beginning of an HTTP/2 connection: preface and empty settings. The agent then waits for calls.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn allow(stage: &Stage) -> Allow {
    Allow::trust_domain(&TrustDomain::new(&stage.playground.trust_domain).unwrap())
}

/// An agent that accepts this process, whose identity is `source`.
fn agent_that_knows(stage: &Stage, source: &Source) -> Agent {
    let mut agent = stage.agent(0);
    let id = source.svid().unwrap().id().to_string();
    // Nobody answers there; it may try once a day.
    let address = "127.0.0.1:9".parse().unwrap();
    agent.tell(&Told::Peers { peers: vec![PeerAddress { id, address }], call_every_ms: 86_400_000 }).unwrap();
    agent
}

#[test]
fn a_peer_hangs_up_on_a_revoked_agent_within_a_second_and_lets_it_in_no_more() {
    let stage = stage(Attest::JoinToken, |_| {});
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "shop/agent", "demo-agent", &["--allow-unproven-nodes"]);
    stage.entry_for_us(0, "/watcher");
    let runtime = runtime();
    let source = runtime.block_on(stage.source(0));
    until(SOON, || if source.hears_revocations() { Ok(()) } else { Err("no list yet".into()) }).unwrap();
    let agent = agent_that_knows(&stage, &source);
    let seen = agent.wait(SOON, "an identity", |s| s.address.is_some()).unwrap();
    let connector = source.connector(allow(&stage), &[H2]).unwrap();
    let dial = || async { connector.connect(TcpStream::connect(seen.address.unwrap()).await.unwrap()).await };

    let mut live = runtime.block_on(dial()).unwrap();
    assert_eq!(live.peer().id().as_str(), seen.id);
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
    let said = stage.ca(&["revoke", "--instance", &seen.id, "--reason", "test"]);
    let answered = Instant::now();
    assert!(said.starts_with("Revoked: 1 instances, 1 X509-SVIDs"), "{said}");
    let (why, ended) = runtime.block_on(hung_up).unwrap();
    println!("command {:?}, end of the connection {:?} after it was asked: {why}", answered - asked, ended - asked);
    assert!(ended.saturating_duration_since(answered) <= AT_ONCE, "{why} after {:?}", ended - answered);

    agent.wait(SOON, "the loss of the identity", |s| s.lost).unwrap();
    let refused = runtime.block_on(dial());
    assert!(refused.is_err(), "the next handshake is refused");
    assert_eq!(stage.standing(&seen.id), "revoked");
    let listed = stage.ca_json(&["revocation", "list"]);
    let scopes: Vec<_> =
        listed["revocations"].as_array().unwrap().iter().map(|r| r["scope"].as_str().unwrap()).collect();
    assert_eq!(scopes, ["all", "certificate"]);
    drop(source);
}

#[test]
fn a_revoked_process_that_forks_and_execs_itself_gets_neither_certificate_nor_token() {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    stage.entry_for_us(0, "/watcher");
    let runtime = runtime();
    let source = runtime.block_on(stage.source(0));
    let mut workload = stage.workload(0);
    let id = workload.await_x509();
    let token = workload.jwt("watcher").unwrap();
    assert_eq!(source.validate_jwt_locally("watcher", &token).unwrap().id.as_str(), id);
    runtime.block_on(source.validate_jwt("watcher", &token)).unwrap();

    stage.ca(&["revoke", "--instance", &id, "--reason", "test"]);
    println!("the process: {}", workload.await_refusal());
    workload.jwt("watcher").unwrap_err();
    let words = workload.child_x509().unwrap_err();
    assert!(words.contains("CLASS_CLOSED"), "{words}");
    workload.child_jwt("watcher").unwrap_err();
    workload.exec(&stage.playground.bin.path("workload"));
    workload.x509().unwrap_err();
    workload.jwt("watcher").unwrap_err();
    workload.child_x509().unwrap_err();

    // What it was given before is refused as well, asked of the attestor or not.
    let revoked = || match source.validate_jwt_locally("watcher", &token) {
        Err(SourceError::Revoked { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(SOON, revoked).unwrap();
    runtime.block_on(source.validate_jwt("watcher", &token)).unwrap_err();

    let node = stage.playground.machines[0].spiffe_id.clone();
    stage.ca(&["class", "reopen", &node, "shop/cart", "--reason", "looked into"]);
    let child = until(SOON, || workload.child_x509()).unwrap();
    assert_ne!(child, id);
    workload.x509().unwrap_err();
    assert_eq!(stage.standing(&id), "revoked");
}

/// Each list that the Workload API of node 0 sends now: hex key identifier of the CA, number, serials.
fn lists(stage: &Stage, runtime: &tokio::runtime::Runtime) -> Vec<(String, String, Vec<String>)> {
    let endpoint = Endpoint::unix(&stage.playground.machines[0].workload_socket).unwrap();
    let context = runtime.block_on(async { WorkloadClient::connect(&endpoint).fetch_x509().await }).unwrap();
    let authorities: Vec<_> = context.bundles.iter().flat_map(|bundle| bundle.authorities().to_vec()).collect();
    let read = |der: &Vec<u8>| {
        let (_, list) = CertificateRevocationList::from_der(der).unwrap();
        let verified = VerifiedCrl::verify(der, &[], &authorities, system_clock()()).unwrap();
        let serials = list.iter_revoked_certificates().map(|one| one.serial().to_string()).collect();
        let issuer = verified.issuer.iter().map(|byte| format!("{byte:02x}")).collect();
        (issuer, verified.number.to_string(), serials)
    };
    context.crls.iter().map(read).collect()
}

/// Authority and serial of each revoked certificate, as the list has them.
fn revoked_certificates(listed: &serde_json::Value) -> Vec<(String, String)> {
    let rows = listed["revocations"].as_array().unwrap().iter().filter(|row| row["scope"] == "certificate");
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "authority_id"), text(row, "serial_number"))).collect()
}

#[test]
fn the_workload_api_sends_a_list_that_names_a_revoked_serial_and_before_that_an_empty_one() {
    let stage = stage(Attest::JoinToken, |_| {});
    stage.unproven_class("shop/cart");
    stage.entry_for_us(0, "/watcher");
    let runtime = runtime();
    let id = stage.workload(0).await_x509();
    let empty = until(SOON, || match lists(&stage, &runtime) {
        lists if lists.is_empty() => Err("no list yet".to_owned()),
        lists => Ok(lists),
    });
    assert!(empty.unwrap().iter().all(|(_, _, serials)| serials.is_empty()));

    let asked = Instant::now();
    stage.ca(&["revoke", "--instance", &id, "--reason", "test"]);
    let certificates = revoked_certificates(&stage.ca_json(&["revocation", "list"]));
    assert_eq!(certificates.len(), 1);
    until(SOON, || match lists(&stage, &runtime) {
        lists
            if lists
                .iter()
                .any(|(ca, _, serials)| *ca == certificates[0].0 && serials.contains(&certificates[0].1)) =>
        {
            Ok(())
        }
        lists => Err(format!("{lists:?}")),
    })
    .unwrap();
    println!("named in the list of the Workload API {:?} after the command", asked.elapsed());
}

/// The CA that signed is gone: its list stays as it was, and our own list refuses all the same.
#[test]
fn a_leaf_whose_issuer_is_gone_is_refused_by_the_sdk_when_another_server_revokes_it() {
    let Some(url) = postgres_database("issuer_gone") else { return };
    let mut stage = stage(Attest::JoinToken, |o| (o.servers, o.db) = (2, url));
    let parent = stage.playground.machines[0].spiffe_id.clone();
    stage.class(&parent, "shop/agent", "demo-agent", &["--allow-unproven-nodes"]);
    stage.entry_for_us(0, "/watcher");
    let runtime = runtime();
    let source = runtime.block_on(stage.source(0));
    until(SOON, || if source.hears_revocations() { Ok(()) } else { Err("no list yet".into()) }).unwrap();
    let agent = agent_that_knows(&stage, &source);
    let seen = agent.wait(SOON, "an identity", |s| s.address.is_some()).unwrap();
    let connector = source.connector(allow(&stage), &[H2]).unwrap();
    let dial = || async { connector.connect(TcpStream::connect(seen.address.unwrap()).await.unwrap()).await };
    drop(runtime.block_on(dial()).unwrap());
    until(SOON, || if lists(&stage, &runtime).len() == 2 { Ok(()) } else { Err("not each CA's list yet".to_owned()) })
        .unwrap();

    let victim = stage.playground.machines[0].server_in_use().unwrap();
    stage.playground.server_at(&victim).unwrap().process().kill();
    let moved = || match stage.playground.machines[0].server_in_use()? {
        asked if asked.is_empty() || asked == victim => Err(format!("asks '{asked}'")),
        asked => Ok(asked),
    };
    let other = until(SOON, moved).unwrap();
    let other = stage.playground.servers().find(|server| server.grpc.to_string() == other).unwrap();
    other.cli(&["revoke", "--instance", &seen.id, "--reason", "test"]).unwrap();
    let answered = Instant::now();
    while runtime.block_on(dial()).is_ok() {
        assert!(answered.elapsed() <= AT_ONCE, "still let in after {:?}", answered.elapsed());
    }
    println!("refused {:?} after the answer", answered.elapsed());

    let listed = other.cli(&["revocation", "list", "--output", "json"]).unwrap();
    let [(authority, serial)] = &revoked_certificates(&serde_json::from_str(&listed).unwrap())[..] else {
        panic!("{listed}")
    };
    let told = lists(&stage, &runtime);
    let of_victim = told.iter().find(|(ca, ..)| ca == authority).expect("its last list is still handed out");
    assert!(!of_victim.2.contains(serial), "nobody else can sign it: {told:?}");
    drop(source);
}

/// What `bound` prints, as milliseconds by credential and party.
fn printed_bound(stage: &Stage, credential: &str, party: &str) -> Duration {
    let mut command = std::process::Command::new(stage.playground.bin.path("chancery-ca"));
    command.args(["bound", "--output", "json", "--config"]).arg(&stage.playground.authority.config);
    let out = command.output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let is_meant = |row: &&serde_json::Value| row["credential"] == credential && row["party"] == party;
    let row = told["bounds"].as_array().unwrap().iter().find(is_meant).unwrap_or_else(|| panic!("{told}"));
    Duration::from_millis(row["milliseconds"].as_str().unwrap().parse().unwrap())
}

/// From `since` until `over` says so.
fn time_until(since: Instant, mut over: impl FnMut() -> bool) -> Duration {
    until(SOON, || if over() { Ok(()) } else { Err("still accepted".to_owned()) }).unwrap();
    since.elapsed()
}

#[test]
fn nobody_accepts_what_was_revoked_for_longer_than_the_printed_bound() {
    let stage = stage(Attest::JoinToken, |o| {
        let lives = &mut o.lifetimes;
        (lives.x509_ttl, lives.jwt_ttl, lives.capped) = (Some("20s".into()), Some("15s".into()), true);
    });
    stage.entry_for_us(0, "/victim");
    let listed = stage.ca_json(&["entry", "list"]);
    let is_ours = |entry: &&serde_json::Value| entry["spiffe_id"]["path"] == "/victim";
    let entry = listed["entries"].as_array().unwrap().iter().find(is_ours).unwrap()["id"].as_str().unwrap().to_owned();
    let runtime = runtime();
    let source = runtime.block_on(stage.source(0));
    until(SOON, || if source.hears_revocations() { Ok(()) } else { Err("no list yet".into()) }).unwrap();
    // What a thief would have copied, at its longest, and what each judge knows.
    let token = runtime.block_on(source.jwt("watcher")).unwrap();
    let svid = source.svid().unwrap();
    let (chain, bundles, keys) = (svid.chain().to_vec(), source.bundles(), source.jwt_bundles().unwrap());
    let names = Names::of(&chain);
    let judged = |at: UnixTime| x509::verify(&chain, &bundles, at).is_ok();
    assert!(judged(system_clock()()));

    stage.ca(&["revoke", "--entry", &entry, "--reason", "test"]);
    let answered = Instant::now();
    let revocations = source.revocations();
    let online = time_until(answered, || revocations.list().refuses(svid.id().as_str(), &names));
    let jwt_online = time_until(answered, || source.validate_jwt_locally("watcher", token.token()).is_err());
    let jwt_offline =
        time_until(answered, || JwtSvid::verify(token.token(), &keys, "watcher", system_clock()(), 0).is_err());
    let offline = time_until(answered, || !judged(system_clock()()));
    for (credential, party, measured) in [
        ("entry_x509_svid", "sdk_online", online),
        ("entry_x509_svid", "sdk_offline", offline),
        ("entry_x509_svid", "third_party", offline),
        ("jwt_svid", "sdk_online", jwt_online),
        ("jwt_svid", "third_party", jwt_offline),
    ] {
        let bound = printed_bound(&stage, credential, party);
        println!("{credential}, {party}: {measured:?} of at most {bound:?}");
        assert!(measured <= bound, "{credential}, {party}: {measured:?} exceeds {bound:?}");
    }
    let asked_for = printed_bound(&stage, "entry_x509_svid", "third_party");
    assert_eq!(asked_for, Duration::from_secs(21), "20 s, and its last second");
}
