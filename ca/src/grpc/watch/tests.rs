//! Nodes that do not play along: they never read, or come with cursors that nobody gave them.

use chancery_core::{
    class::{Class, ClassName, NodeProof},
    entry::Rights,
    instance::{self, Instance},
    node::{CertRef, Node},
};
use chancery_daemon::clock;
use chancery_sdk::{id::SpiffeId, origin::Origin};

use super::*;
use crate::{
    chance, entries,
    hold::{self, HoldSpan},
    revoke::{self, Order, Target},
    sample,
    store::{BeginInstance, Fact, RecordX509},
};

async fn ca(dir: &std::path::Path) -> (Arc<State>, Node) {
    let (state, _tls) = sample::parts(dir, clock::system()).await;
    let node = sample::admit(&state, "n1", "01").await;
    (state, node)
}

fn began(state: &State, how: &str) -> u64 {
    state.metrics.watches.get_or_create(&vec![("began", how.to_string())]).get()
}

fn from(cursor: pb::Cursor) -> pb::WatchRequest {
    pb::WatchRequest { cursor: Some(cursor), ..pb::WatchRequest::default() }
}

async fn first(watch: &mut Watch) -> WatchResponse {
    watch.next().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_reads_costs_a_flag_and_gets_the_last_state_once() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let mut watch = open(&state, &node, pb::WatchRequest::default()).unwrap();
    assert!(first(&mut watch).await.full);
    let id = sample::entry_with(&state, "/w", Rights::default()).await;
    for round in 0..50 {
        let known = state.view.look(|registry| registry.graph.of(&id)).unwrap().remove(0);
        entries::delete(&state, &known.id).await.unwrap();
        sample::entry_with(&state, "/w", Rights::default()).await;
        assert_eq!(state.view.watching(), 1, "round {round}");
    }
    let told = first(&mut watch).await;
    assert!(!told.more, "{told:?}");
    // One message for a hundred changes, with each entry as it is now.
    assert_eq!((told.full, told.entries.len(), told.removed_entries.len()), (false, 1, 50));
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), watch.next()).await;
    assert!(more.is_err(), "nothing else was kept for it: {more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_ahead_of_us_or_of_another_log_gets_full_state_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    sample::entry_with(&state, "/w", Rights::default()).await;
    let given = first(&mut open(&state, &node, pb::WatchRequest::default()).unwrap()).await.cursor.unwrap();
    assert!(!first(&mut open(&state, &node, from(given.clone())).unwrap()).await.full);
    assert_eq!((began(&state, "new"), began(&state, "resumed"), began(&state, "reset")), (1, 1, 0));
    let wrong = [
        pb::Cursor { number: given.number + 1, ..given.clone() },
        pb::Cursor { number: i64::MAX, ..given.clone() },
        pb::Cursor { number: i64::MIN, ..given.clone() },
        pb::Cursor { epoch: given.epoch + 1, ..given.clone() },
        pb::Cursor { hash: vec![0; 32], ..given.clone() },
        pb::Cursor { hash: Vec::new(), ..given.clone() },
        pb::Cursor { hash: vec![7; 1 << 20], ..given },
    ];
    for (count, cursor) in (1..).zip(wrong) {
        let told = first(&mut open(&state, &node, from(cursor)).unwrap()).await;
        assert!(told.full && told.entries.len() == 1 && told.digest.len() == 32, "cursor {count}");
        assert_eq!(began(&state, "reset"), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_a_nodes_share_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let mut open_ones = Vec::new();
    let refused = loop {
        match open(&state, &node, pb::WatchRequest::default()) {
            Ok(watch) => open_ones.push(watch),
            Err(status) => break status,
        }
        assert!(open_ones.len() < 100, "no bound");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(began(&state, "refused"), 1);
    drop(open_ones);
    assert!(open(&state, &node, pb::WatchRequest::default()).is_ok(), "closed ones count no more");
}

/// An entry of its own is revoked, so that it has one row in the list: nothing else changes with it.
async fn revoke(state: &Arc<State>, node: &Node, path: &str, serial: &str) {
    let id = sample::entry_with(state, path, Rights::default()).await;
    let entry = state.view.look(|registry| registry.graph.of(&id)).unwrap().remove(0);
    let fact = RecordX509 {
        node_id: node.id.clone(),
        node_serial: "01".into(),
        entry_id: entry.id.clone(),
        entry_revision: 0,
        cert: CertRef { serial: serial.into(), expires_at: state.now().plus(600) },
        authority: state.authority.x509_id().unwrap(),
    };
    state.commit(Fact::RecordX509(fact)).await.unwrap().done().unwrap();
    let order = Order { reason: "test".into(), caller: "uid 0".into() };
    revoke::revoke(state, Target::Entry(entry.id), order).await.unwrap();
}

fn serials(told: &WatchResponse) -> Vec<&str> {
    told.revocations.iter().map(|row| row.serial_number.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_told_of_every_revocation_and_full_state_has_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let other = sample::admit(&state, "n2", "02").await;
    let mut watch = open(&state, &other, pb::WatchRequest::default()).unwrap();
    let before = first(&mut watch).await;
    assert!(before.revocations.is_empty() && before.revocations_digest.len() == 32);
    revoke(&state, &node, "/a", "501").await;
    let told = first(&mut watch).await;
    assert_eq!((serials(&told), told.full), (vec!["501"], false));
    assert!((0..=5).contains(&(state.now().0 - told.revoked_at)), "{}", told.revoked_at);
    let row = &told.revocations[0];
    assert_eq!((row.scope(), row.spiffe_id.as_str()), (Scope::Certificate, "spiffe://example.org/a"));
    assert!(row.expires_at > state.now().0 && row.authority_id == state.authority.x509_id().unwrap());
    revoke(&state, &node, "/b", "502").await;
    let full = first(&mut open(&state, &other, pb::WatchRequest::default()).unwrap()).await;
    assert_eq!((serials(&full), full.full, full.revoked_at), (vec!["501", "502"], true, 0));
    assert_eq!(full.revocations_digest, digest::of_revocations(full.revocations.iter().map(super::row)));
    let resumed = first(&mut open(&state, &other, from(before.cursor.unwrap())).unwrap()).await;
    assert_eq!((serials(&resumed), resumed.full), (vec!["501", "502"], false), "whoever was away gets what is new");
    assert_eq!(resumed.revoked_at, told.revoked_at, "the oldest of both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_come_at_once_and_those_that_follow_come_together() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let mut watch = open(&state, &node, pb::WatchRequest::default()).unwrap();
    first(&mut watch).await;
    let drained = async |watch: &mut Watch| {
        // The entries that were made and deleted come along.
        loop {
            let told = first(watch).await;
            if !told.revocations.is_empty() {
                return told;
            }
        }
    };
    revoke(&state, &node, "/a", "501").await;
    assert_eq!(serials(&drained(&mut watch).await), ["501"]);
    let sent = Instant::now();
    for n in 502..507 {
        revoke(&state, &node, &format!("/{n}"), &n.to_string()).await;
    }
    let busy = sent.elapsed();
    let told = drained(&mut watch).await;
    assert!(sent.elapsed() >= QUIET, "after {:?}", sent.elapsed());
    // On a machine that is slow enough some of them come later, and never one by one.
    let together = told.revocations.len();
    assert!(together == 5 || busy >= QUIET, "{together} of 5 in {busy:?}");
}

/// A running instance of the node, as its n-th.
async fn begun(state: &Arc<State>, node: &Node, n: u8) -> SpiffeId {
    let name: ClassName = "a".parse().unwrap();
    if state.view.look(|registry| registry.class("a").is_none()).unwrap() {
        let class = Class {
            name: name.clone(),
            parent_id: node.id.clone(),
            selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
            x509_svid_ttl: 0,
            node_proof: NodeProof::AnyNode,
            revision: 0,
            created_at: state.now(),
        };
        state.commit(Fact::CreateClass(class)).await.unwrap().done().unwrap();
    }
    let id = name.instance_id(&state.trust_domain, chance::uuid_v7().unwrap()).unwrap();
    let instance = Instance {
        id: id.clone(),
        class: name,
        node_id: node.id.clone(),
        start_token: [n; 32],
        standing: instance::Standing::Good,
        begun_at: state.now(),
        ended_at: None,
        end_reason: String::new(),
        newest: CertRef { serial: format!("6{n}"), expires_at: state.now().plus(600) },
        held_until: None,
    };
    let fact = BeginInstance {
        instance,
        spki_sha256: [n; 32],
        node_serial: "01".into(),
        class_revision: 0,
        max_live: 256,
        pid_proof: "peer-pidfd".into(),
        facts: Default::default(),
        origin: Origin::NONE,
        authority: state.authority.x509_id().unwrap(),
    };
    state.commit(Fact::BeginInstance(fact)).await.unwrap().done().unwrap();
    id
}

fn order() -> Order {
    Order { reason: "test".into(), caller: "uid 0".into() }
}

fn held(told: &WatchResponse) -> Vec<(&str, i64)> {
    told.holds.iter().map(|hold| (hold.spiffe_id.as_str(), hold.until)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_is_told_who_is_held_who_is_released_and_full_state_has_all_who_are() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let other = sample::admit(&state, "n2", "02").await;
    let (one, two) = (begun(&state, &node, 1).await, begun(&state, &node, 2).await);
    let mut watch = open(&state, &other, pb::WatchRequest::default()).unwrap();
    let before = first(&mut watch).await;
    assert!(before.holds.is_empty() && before.holds_digest == digest::of_holds([]));
    let span = |secs| HoldSpan::new(secs).unwrap();
    let until = hold::place(&state, one.clone(), span(600), order()).await.unwrap();
    let told = first(&mut watch).await;
    assert_eq!((held(&told), told.full), (vec![(one.as_str(), until.0)], false));
    let later = hold::place(&state, one.clone(), span(900), order()).await.unwrap();
    assert_eq!(held(&first(&mut watch).await), [(one.as_str(), later.0)], "the newest end");
    hold::place(&state, two.clone(), span(60), order()).await.unwrap();
    hold::release(&state, two.clone(), order()).await.unwrap();
    assert_eq!(held(&first(&mut watch).await), [(two.as_str(), 0)], "together, as it is now");
    let full = first(&mut open(&state, &other, pb::WatchRequest::default()).unwrap()).await;
    assert_eq!((held(&full), full.full), (vec![(one.as_str(), later.0)], true));
    assert_eq!(full.holds_digest, digest::of_holds(held(&full)));
    let resumed = first(&mut open(&state, &other, from(before.cursor.unwrap())).unwrap()).await;
    let mut told = held(&resumed);
    told.sort();
    let mut want = [(one.as_str(), later.0), (two.as_str(), 0)];
    want.sort();
    assert_eq!((told, resumed.full), (want.to_vec(), false), "whoever was away gets what is new");
}
