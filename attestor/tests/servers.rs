//! An attestor that knows several servers: one that dies is left for another, and what a server says is believed.

mod common;
use common::process;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chancery_attestor::ca::{CaError, Condition, Servers};
use common::{
    Machine,
    ca::{Authority, FakeCa, Mood},
    node::{Rig, Running, TOKEN, by_tpm, config},
};
use tonic::Code;

/// Bound of a call to a silent server that has others beside it: 1 s of patience, 1 s for the probe, the dial; and what a
/// busy machine adds.
const SILENT_BOUND: Duration = Duration::from_secs(6);

/// Two servers that know the same, and a node that knows both.
struct Pair {
    rig: Rig,
    second: FakeCa,
}

impl Pair {
    async fn new() -> Self {
        let rig = Rig::new(3600).await;
        let second = rig.ca.beside(&rig.authority).await;
        Self { rig, second }
    }

    async fn node(&self, attestor: &str) -> Running {
        let addresses = format!("[\"{}\", \"{}\"]", self.rig.ca.address, self.second.address);
        let mut node = Running::start(config(self.rig.dir.path(), &addresses, &self.rig.authority.pem, attestor)).await;
        node.identity().await;
        node
    }

    /// The server that the node uses, and the other one.
    fn used(&self, servers: &Servers) -> (&FakeCa, &FakeCa) {
        match in_use(servers) == self.rig.ca.address.to_string() {
            true => (&self.rig.ca, &self.second),
            false => (&self.second, &self.rig.ca),
        }
    }
}

fn in_use(servers: &Servers) -> String {
    let used = servers.list().into_iter().find(|server| server.condition == Condition::InUse);
    used.expect("a connection").address
}

fn condition(servers: &Servers, ca: &FakeCa) -> Condition {
    servers.list().into_iter().find(|server| server.address == ca.address.to_string()).unwrap().condition
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_the_other_server_when_the_one_in_use_dies() {
    let pair = Pair::new().await;
    let node = pair.node(TOKEN).await;
    let servers = node.ca.servers();
    node.ca.bundle().await.unwrap();
    let Pair { rig: Rig { ca, authority, dir: _dir }, second } = pair;
    let first_is_used = in_use(&servers) == ca.address.to_string();
    let (used, other) = if first_is_used { (ca, second) } else { (second, ca) };
    let (gone, serial) = (used.address, used.known.borrow().current.clone());
    drop(used);
    node.ca.bundle().await.unwrap();
    assert_eq!((in_use(&servers), other.asked()), (other.address.to_string(), 1));

    // It comes back, and the other one goes.
    while std::net::TcpListener::bind(gone).is_err() {
        tokio::task::yield_now().await;
    }
    let again = FakeCa::start_as(&authority, "/spire/server", &gone.to_string()).await;
    again.known.send_modify(|known| known.current = serial);
    drop(other);
    node.ca.bundle().await.unwrap();
    assert_eq!(in_use(&servers), gone.to_string());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_holds_up_a_call_for_no_longer_than_the_bound() {
    let pair = Pair::new().await;
    let node = pair.node(TOKEN).await;
    let servers = node.ca.servers();
    node.ca.bundle().await.unwrap();
    let (used, other) = pair.used(&servers);
    used.become_(Mood::Silent);
    let began = Instant::now();
    node.ca.bundle().await.unwrap();
    let took = began.elapsed();
    println!("a call moved away from a silent server after {took:?}");
    assert!(took >= Duration::from_secs(1) && took < SILENT_BOUND, "{took:?}");
    assert_eq!(in_use(&servers), other.address.to_string());
    assert_eq!(condition(&servers, used), Condition::Failed);
    // The next call does not go there again.
    let began = Instant::now();
    node.ca.bundle().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_does_not_wait_for_a_silent_server() {
    let pair = Pair::new().await;
    pair.rig.ca.become_(Mood::Silent);
    // Whichever is first in the node's order.
    for _ in 0..4 {
        let addresses = vec![pair.rig.ca.address.to_string(), pair.second.address.to_string()];
        let domain = chancery_sdk::id::TrustDomain::new(common::ca::DOMAIN).unwrap();
        let dialer = chancery_attestor::ca::Dialer::new(&domain, addresses, pair.rig.bundle()).unwrap();
        let began = Instant::now();
        dialer.pinned().await.unwrap();
        assert!(began.elapsed() < SILENT_BOUND, "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_now_of_one_server_is_asked_of_another() {
    let pair = Pair::new().await;
    let node = pair.node(TOKEN).await;
    let servers = node.ca.servers();
    let (used, other) = pair.used(&servers);
    used.become_(Mood::Answers(Code::Unavailable));
    node.ca.bundle().await.unwrap();
    assert_eq!((used.asked(), other.asked()), (1, 1));
    assert_eq!((condition(&servers, used), condition(&servers, other)), (Condition::Refusing, Condition::InUse));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_now_of_every_server_is_believed_without_asking_around_each_time() {
    let pair = Pair::new().await;
    let machine = Machine::new();
    let node = pair.node(&by_tpm(&machine)).await;
    let servers = node.ca.servers();
    let reach = servers.reach();
    for ca in [&pair.rig.ca, &pair.second] {
        ca.become_(Mood::Answers(Code::Unavailable));
    }
    assert!(matches!(node.ca.bundle().await, Err(CaError::Lost(_))));
    assert!(!*reach.borrow(), "{:?}", servers.list());
    let connections = servers.connections();
    for _ in 0..5 {
        assert!(matches!(node.ca.bundle().await, Err(CaError::Lost(_))));
    }
    assert_eq!(servers.connections(), connections, "no connection was made to hear the same again");
    assert_eq!(
        pair.rig.ca.known.borrow().attested.len(),
        1,
        "whoever says \"not now\" is not asked to attest the node"
    );
    for ca in [&pair.rig.ca, &pair.second] {
        ca.become_(Mood::Fine);
    }
    node.ca.bundle().await.unwrap();
    assert!(*reach.borrow(), "{:?}", servers.list());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_believed_and_not_taken_to_another_server() {
    let pair = Pair::new().await;
    let node = pair.node(TOKEN).await;
    let servers = node.ca.servers();
    let (used, other) = pair.used(&servers);
    for code in [Code::PermissionDenied, Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition] {
        used.become_(Mood::Answers(code));
        assert!(matches!(node.ca.bundle().await, Err(CaError::Denied(None) | CaError::Refused { .. })), "{code:?}");
    }
    assert_eq!((used.asked(), other.asked()), (4, 0));
    assert_eq!(in_use(&servers), used.address.to_string());
    node.stop().await;
}

/// GOAWAY, as at the age of a connection and at the stop of a server.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_asked_to_close_costs_no_call() {
    let authority = Authority::new();
    let ca = FakeCa::aging(&authority, Duration::from_millis(200)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut node = Running::start(config(dir.path(), &ca.address.to_string(), &authority.pem, TOKEN)).await;
    node.identity().await;
    let servers = node.ca.servers();
    let mut calls = 0;
    let end = Instant::now() + Duration::from_secs(20);
    while servers.connections() < 5 {
        node.ca.bundle().await.unwrap();
        calls += 1;
        assert!(Instant::now() < end, "{} connections", servers.connections());
    }
    println!("{calls} calls over 5 connections");
    node.stop().await;
}

/// The handshake of an attestation is bound to its connection: where its server dies, it begins anew at another one.
#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_that_loses_its_server_begins_anew_at_another_one() {
    let machine = Machine::new();
    let pair = Pair::new().await;
    let known = pair.rig.ca.known.clone();
    known.send_modify(|known| known.falls_silent = true);
    let node = pair.node(&by_tpm(&machine)).await;
    assert!(!known.borrow().falls_silent);
    let (used, other) = pair.used(&node.ca.servers());
    assert_eq!((**used.mood.load(), **other.mood.load()), (Mood::Fine, Mood::Silent));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_server_can_be_dialled_calls_fail_at_once_and_the_next_dial_waits_its_turn() {
    let pair = Pair::new().await;
    let node = pair.node(TOKEN).await;
    let servers = node.ca.servers();
    let Pair { rig: Rig { ca, authority, dir: _dir }, second } = pair;
    let (address, serial) = (ca.address, ca.known.borrow().current.clone());
    drop((ca, second));
    let began = Instant::now();
    for _ in 0..1000 {
        assert!(matches!(node.ca.bundle().await, Err(CaError::Lost(_))));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!*servers.reach().borrow());
    while std::net::TcpListener::bind(address).is_err() {
        tokio::task::yield_now().await;
    }
    let again = FakeCa::start_as(&authority, "/spire/server", &address.to_string()).await;
    again.known.send_modify(|known| known.current = serial);
    // The longest rest is 5 s.
    let mut reach = servers.reach();
    let back = async {
        while node.ca.bundle().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), back).await.unwrap();
    assert!(*reach.borrow_and_update());
    node.stop().await;
}

#[test]
fn nothing_known_is_nothing_bad() {
    let servers = Arc::new(Servers::new(vec!["a:1".into(), "b:1".into()]));
    assert!(servers.list().iter().all(|server| server.condition == Condition::Idle) && *servers.reach().borrow());
}
