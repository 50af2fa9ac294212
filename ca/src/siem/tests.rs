//! Outputs that are slow, away, cut off and come back.

use std::{collections::BTreeSet, path::Path};

use chancery_daemon::clock;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    run, sample,
    store::{Fact, ServerStarted},
};

/// Longest wait for an event; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

async fn begin(dir: &Path, siem: &str) -> Arc<State> {
    let (state, _) = sample::parts_with(dir, clock::system(), siem).await;
    start(&state).unwrap();
    state
}

async fn commit(state: &State, events: usize) {
    let facts = (0..events).map(|n| Fact::ServerStarted(ServerStarted { version: format!("v{n}") }));
    state.commit_all(facts.collect()).await.unwrap();
}

async fn until(done: impl Fn() -> bool) {
    let done = async {
        while !done() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, done).await.expect("in time");
}

fn newest(state: &State) -> i64 {
    *state.store.last_number().borrow()
}

/// The event's number in a line of ours.
fn number(line: &str) -> i64 {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(json["metadata"]["sequence"], json["unmapped"]["event"]["number"]);
    json["metadata"]["sequence"].as_i64().unwrap()
}

fn behind(state: &State) -> i64 {
    state.metrics.siem_behind.get_or_create(&vec![("name", "s".to_owned())]).get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_gets_every_event_once_in_order_and_goes_on_after_a_restart_and_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let config = format!("[[siem]]\nname = \"s\"\nkind = \"jsonl\"\npath = {path:?}");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    let state = begin(dir.path(), &config).await;
    commit(&state, 600).await;
    let last = newest(&state);
    let cursor = dir.path().join("data/siem/s.json");
    let there = |last: i64| {
        let cursor = cursor.clone();
        move || std::fs::read_to_string(&cursor).is_ok_and(|text| text.contains(&format!("\"number\":{last}}}")))
    };
    until(there(last)).await;
    assert!(lines().lines().map(number).eq(0..=last));
    run::leave(&state).await.unwrap();
    state.shutdown.begin();
    // A crash in the middle of a line.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all_sync(b"{\"torn");
    let state = begin(dir.path(), &config).await;
    commit(&state, 3).await;
    let last_now = newest(&state);
    until(there(last_now)).await;
    let text = lines();
    let (torn, whole): (Vec<_>, Vec<_>) = text.lines().partition(|line| *line == "{\"torn");
    assert_eq!(torn.len(), 1);
    assert!(whole.into_iter().map(number).eq(0..=last_now), "none twice, none missing");
    assert_eq!(behind(&state), 0);
}

trait WriteAllSync {
    fn write_all_sync(&mut self, bytes: &[u8]);
}

impl WriteAllSync for std::fs::File {
    fn write_all_sync(&mut self, bytes: &[u8]) {
        std::io::Write::write_all(self, bytes).unwrap();
    }
}

/// A receiver of syslog over TLS, and the file of the certificate that it has.
struct Receiver {
    acceptor: TlsAcceptor,
    ca_file: std::path::PathBuf,
}

fn receiver(dir: &Path) -> Receiver {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = dir.join("siem-ca.pem");
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(chancery_sdk::tls::provider());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
    Receiver { acceptor: TlsAcceptor::from(Arc::new(config)), ca_file }
}

/// Reads connections to their end, as RFC 5425 has it, and hands on what they held.
async fn receive(listener: TcpListener, acceptor: TlsAcceptor, messages: mpsc::UnboundedSender<String>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
        let mut bytes = Vec::new();
        if tls.read_to_end(&mut bytes).await.is_err() {
            continue;
        }
        let mut rest = std::str::from_utf8(&bytes).unwrap();
        while let Some((length, after)) = rest.split_once(' ') {
            let (message, after) = after.split_at(length.parse().unwrap());
            messages.send(message.to_owned()).unwrap();
            rest = after;
        }
        let _ = tls.shutdown().await;
    }
}

async fn numbers(messages: &mut mpsc::UnboundedReceiver<String>, last: i64) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let message = timeout(PATIENCE, messages.recv()).await.expect("in time").unwrap();
        let (head, line) = message.split_once('\u{feff}').expect("a BOM before UTF-8");
        assert!(head.starts_with('<') && head.contains(">1 20") && head.contains(" chancery-ca - "), "{head}");
        numbers.push(number(line));
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_that_is_down_and_comes_up_gets_everything_and_holds_up_nobody_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = format!(
        "[[siem]]\nname = \"s\"\nkind = \"syslog\"\naddress = \"localhost:{}\"\nca_file = {:?}",
        address.port(),
        receiver.ca_file
    );
    let state = begin(dir.path(), &config).await;
    commit(&state, 500).await;
    let failed =
        || state.metrics.siem_events.get_or_create(&vec![("name", "s".to_owned()), ("result", "failed".into())]).get();
    until(|| failed() >= 1 && behind(&state) > 400).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let (sender, mut messages) = mpsc::unbounded_channel();
    tokio::spawn(receive(listener, receiver.acceptor, sender));
    let last = newest(&state);
    assert!(numbers(&mut messages, last).await.into_iter().eq(0..=last));
    until(|| behind(&state) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_that_never_reads_or_breaks_off_is_sent_the_same_again_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[[siem]]\nname = \"s\"\nkind = \"syslog\"\naddress = \"localhost:{}\"\nca_file = {:?}",
        listener.local_addr().unwrap().port(),
        receiver.ca_file
    );
    let state = begin(dir.path(), &config).await;
    // Taken, and never read.
    let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let hung = receiver.acceptor.accept(tcp).await.unwrap();
    commit(&state, 400).await;
    let committed = newest(&state);
    assert!(committed >= 400, "commits do not wait");
    drop(hung);
    // Read, and cut off without the end of TLS: nothing says that it was taken.
    let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut cut = receiver.acceptor.accept(tcp).await.unwrap();
    let mut bytes = Vec::new();
    cut.read_to_end(&mut bytes).await.unwrap();
    assert!(!bytes.is_empty());
    drop(cut);
    let (sender, mut messages) = mpsc::unbounded_channel();
    tokio::spawn(receive(listener, receiver.acceptor, sender));
    assert!(numbers(&mut messages, committed).await.into_iter().eq(0..=committed), "from the first on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_the_configured_roots_do_not_vouch_for_gets_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (genuine, stranger) = (receiver(dir.path()), receiver(other.path()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[[siem]]\nname = \"s\"\nkind = \"syslog\"\naddress = \"localhost:{}\"\nca_file = {:?}",
        listener.local_addr().unwrap().port(),
        genuine.ca_file
    );
    let _state = begin(dir.path(), &config).await;
    let (tcp, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert!(stranger.acceptor.accept(tcp).await.is_err());
}

/// Answers each request by a status, then closes; hands on the bodies.
async fn collect(listener: TcpListener, statuses: Vec<&'static str>, bodies: mpsc::UnboundedSender<(usize, Value)>) {
    for served in 0.. {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
        let body = loop {
            let read = tcp.read(&mut chunk).await.unwrap();
            bytes.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("POST /v1/logs HTTP/1.1"), "{head}");
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.unwrap().parse::<usize>().unwrap() {
                break body.to_owned();
            }
        };
        bodies.send((served, serde_json::from_str(&body).unwrap())).unwrap();
        let status = statuses.get(served).copied().unwrap_or("200 OK");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
        tcp.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_overloaded_gets_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mut bodies) = mpsc::unbounded_channel();
    tokio::spawn(collect(listener, vec!["503 Service Unavailable"], sender));
    let config = format!("[[siem]]\nname = \"s\"\nkind = \"otlp\"\nurl = \"http://127.0.0.1:{port}/v1/logs\"");
    let state = begin(dir.path(), &config).await;
    commit(&state, 20).await;
    let (last, mut seen) = (newest(&state), BTreeSet::new());
    let mut firsts = Vec::new();
    while !seen.contains(&last) {
        let (served, body) = timeout(PATIENCE, bodies.recv()).await.expect("in time").unwrap();
        let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
        let numbers: Vec<_> = records.iter().map(|r| number(r["body"]["stringValue"].as_str().unwrap())).collect();
        firsts.push((served, numbers[0]));
        if served > 0 {
            seen.extend(numbers);
        }
    }
    assert_eq!((firsts[0], firsts[1]), ((0, 0), (1, 0)), "what was refused comes again");
    assert!(seen.into_iter().eq(0..=last));
}

#[tokio::test]
async fn a_cursor_that_makes_no_sense_stops_the_start_and_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("siem")).unwrap();
    std::fs::write(dir.path().join("siem/s.json"), "{").unwrap();
    let told = Cursor::open(dir.path(), "s").unwrap_err();
    assert!(told.contains("siem/s.json") && told.contains("take it away"), "{told}");
}

#[test]
fn kinds_have_the_nearest_class_of_ocsf() {
    for (kind, name) in [
        ("node.attested", "Authentication"),
        ("strangers.refused", "Authentication"),
        ("instance.begun", "Authorize Session"),
        ("jwt.issued", "Authorize Session"),
        ("instance.revoked", "Account Change"),
        ("instance.held", "Account Change"),
        ("instance.released", "Account Change"),
        ("node.banned", "Account Change"),
        ("entry.created", "Entity Management"),
        ("authority.prepared", "Entity Management"),
        ("server.started", "Application Lifecycle"),
        ("log.disputed", "Detection Finding"),
        ("never.heard", "Entity Management"),
    ] {
        assert_eq!(form::class(kind).name, name, "{kind}");
    }
}
