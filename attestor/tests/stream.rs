//! The CA's stream of changes: what is pushed is served, and what was missed is asked for.

mod support;

use std::sync::Arc;

use chancery_attestor::{
    ca::{Told, ToldCrl},
    witness::{Offered, Report},
};
use chancery_daemon::clock;
use chancery_proto::{
    chancery::agent::v1::{WatchRevocationsRequest, agent_client::AgentClient},
    workload::X509svidResponse,
};
use chancery_sdk::{
    revocation::{Hold, Revocation, Scope},
    time::UnixTime,
};
use tonic::{Code, Streaming};

use support::{
    FakeCa, Node,
    ca::cursor,
    class,
    client::{next, with_header},
    code, entry, helper, ids, me, process,
};

/// Not a test: what [`Helper`] runs.
#[test]
fn helper_process() {
    helper::body();
}

fn streaming(ca: Arc<FakeCa>) -> Arc<FakeCa> {
    ca.change(|s| s.streams = true);
    ca
}

/// A node with one entry that matches this process, and the stream of its X509-SVIDs.
async fn following() -> (Node, Streaming<X509svidResponse>) {
    let node = Node::start(streaming(FakeCa::new(vec![entry("a", &[&me()])], vec![]))).await;
    let mut stream = node.client().await.watch_x509().await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/a"]);
    (node, stream)
}

#[tokio::test]
async fn a_pushed_entry_is_served_without_a_poll() {
    let (node, mut stream) = following().await;
    node.ca.push(Told { cursor: Some(cursor(2)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/a", "spiffe://example.org/b"]);
    node.ca.push(Told { cursor: Some(cursor(3)), gone_entries: vec!["a".into()], ..Told::default() });
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/b"]);
    assert_eq!(node.ca.look(|s| (s.polls, s.opened.clone())), (0, vec![None]));
}

#[tokio::test]
async fn a_stream_that_breaks_is_opened_again_where_it_was() {
    let (node, mut stream) = following().await;
    node.ca.push(Told { cursor: Some(cursor(9)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    next(&mut stream).await.unwrap();
    node.ca.hang_up();
    node.ca.until(|s| s.opened.len() == 2).await;
    assert_eq!(node.ca.look(|s| s.opened.clone()), [None, Some(cursor(9))]);
    node.ca.push(Told { cursor: Some(cursor(10)), gone_entries: vec!["a".into()], ..Told::default() });
    assert_eq!(
        ids(&next(&mut stream).await.unwrap()),
        ["spiffe://example.org/b"],
        "what was told before is still known"
    );
}

#[tokio::test]
async fn full_state_makes_void_what_was_told_before() {
    let (node, mut stream) = following().await;
    node.ca.change(|s| s.entries = vec![entry("c", &[&me()])]);
    node.ca.push(node.ca.everything(5));
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/c"]);
}

#[tokio::test]
async fn an_entry_older_than_the_one_held_changes_nothing() {
    let (node, mut stream) = following().await;
    let named = |revision: i64, hint: &str| {
        let entry = chancery_attestor::ca::AuthorizedEntry { revision, hint: hint.into(), ..entry("a", &[&me()]) };
        Told { cursor: Some(cursor(revision)), entries: vec![entry], ..Told::default() }
    };
    node.ca.push(named(5, "newer"));
    assert_eq!(next(&mut stream).await.unwrap().svids[0].hint, "newer");
    node.ca.push(named(4, "older"));
    node.ca.push(Told { cursor: Some(cursor(6)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    // The changed entry gets a new SVID in between.
    loop {
        let answer = next(&mut stream).await.unwrap();
        assert_eq!(answer.svids[0].hint, "newer");
        if ids(&answer).len() == 2 {
            break;
        }
    }
}

#[tokio::test]
async fn an_instance_that_the_ca_ends_loses_its_svid_at_once() {
    let node = Node::start(streaming(FakeCa::new(vec![], vec![class("team/agent", &[&me()])]))).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    let id = next(&mut stream).await.unwrap().svids[0].spiffe_id.clone();
    node.ca.push(Told { cursor: Some(cursor(2)), ended: vec![id.parse().unwrap()], ..Told::default() });
    let ended = tokio::time::timeout(support::PATIENCE, stream.message()).await.expect("in time");
    assert_eq!(code(ended), Code::PermissionDenied);
}

#[tokio::test]
async fn a_caller_that_matches_nothing_is_answered_from_a_poll() {
    let node = Node::start(streaming(FakeCa::new(vec![entry("a", &["unix:uid:4000000000"])], vec![]))).await;
    // Registered, and not pushed yet.
    node.ca.change(|s| s.entries.push(entry("b", &[&me()])));
    assert_eq!(ids(&node.client().await.x509().await.unwrap()), ["spiffe://example.org/b"]);
    assert_eq!(node.ca.look(|s| s.polls), 1);
}

#[tokio::test]
async fn a_ca_without_a_stream_is_polled() {
    let node = Node::start(FakeCa::new(vec![entry("a", &[&me()])], vec![])).await;
    node.ca.polled().await;
    assert!(node.ca.look(|s| s.opened.is_empty()));
}

/// A rolling upgrade: the next server asked, or the same one after a restart, has the stream that the last one lacked.
#[tokio::test]
async fn a_polled_ca_is_asked_for_its_stream_on_the_next_connection() {
    let node = Node::start(FakeCa::new(vec![entry("a", &[&me()])], vec![])).await;
    node.ca.polled().await;
    node.ca.change(|s| s.streams = true);
    node.ca.polled().await;
    assert!(node.ca.look(|s| s.opened.is_empty()), "the same server is not asked each time");
    node.ca.servers.connected(1);
    node.ca.until(|s| s.opened.len() == 1).await;
    let polls = node.ca.look(|s| s.polls);
    let mut stream = node.client().await.watch_x509().await.unwrap();
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/a"]);
    node.ca.push(Told { cursor: Some(cursor(2)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/a", "spiffe://example.org/b"]);
    assert_eq!(node.ca.look(|s| s.polls), polls);
}

#[tokio::test]
async fn a_node_that_lost_its_standing_begins_with_everything() {
    let (node, mut stream) = following().await;
    node.identity.send_replace(None);
    assert_eq!(code(stream.message().await), Code::PermissionDenied);
    node.stand();
    node.ca.until(|s| s.opened.len() == 2).await;
    assert_eq!(node.ca.look(|s| s.opened.clone()), [None, None]);
}

#[tokio::test]
async fn a_checkpoint_that_is_refused_is_reported_and_agents_are_served() {
    let (node, mut stream) = following().await;
    let note = b"no checkpoint".to_vec();
    node.ca.push(Told { checkpoint: Some(Offered { note: note.clone(), ..Offered::default() }), ..Told::default() });
    node.ca.until(|s| s.reports.len() == 1).await;
    assert_eq!(node.ca.look(|s| s.reports.clone()), [Report { kept: Vec::new(), refused: note, why: "malformed" }]);
    node.ca.push(Told { cursor: Some(cursor(2)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    assert_eq!(ids(&next(&mut stream).await.unwrap()), ["spiffe://example.org/a", "spiffe://example.org/b"]);
}

fn lists(crls: Vec<ToldCrl>) -> Told {
    Told { crls, ..Told::default() }
}

#[tokio::test]
async fn wa_27_a_list_that_a_ca_of_the_domain_signed_is_served_and_replaced_by_a_newer_one_only() {
    let (node, mut stream) = following().await;
    let (old, new) = (node.ca.crl(1, &[7]), node.ca.crl(2, &[7, 8]));
    node.ca.push(lists(vec![old.clone()]));
    assert_eq!(next(&mut stream).await.unwrap().crl, std::slice::from_ref(&old.der));
    assert_eq!(node.client().await.x509_bundles().await.unwrap().crl, std::slice::from_ref(&old.der));
    node.ca.push(lists(vec![new.clone()]));
    assert_eq!(next(&mut stream).await.unwrap().crl, std::slice::from_ref(&new.der));
    // The older one again, then something that is seen: nothing came between.
    node.ca.push(lists(vec![old]));
    node.ca.push(Told { cursor: Some(cursor(5)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    let told = next(&mut stream).await.unwrap();
    assert_eq!((told.svids.len(), told.crl), (2, vec![new.der.clone()]));
    node.ca.push(Told { full: true, cursor: Some(cursor(6)), entries: vec![entry("b", &[&me()])], ..Told::default() });
    let told = next(&mut stream).await.unwrap();
    assert_eq!((told.svids.len(), told.crl), (1, vec![new.der]), "full state without lists takes none away");
}

#[tokio::test]
async fn a_list_that_nobody_in_the_bundle_signed_is_not_served() {
    let (node, mut stream) = following().await;
    let stranger = FakeCa::of("example.org", vec![], vec![]);
    let mut bent = node.ca.crl(3, &[7]);
    let last = bent.der.len() - 1;
    bent.der[last] ^= 1;
    let mut longer = node.ca.crl(4, &[7]);
    longer.der.push(0);
    node.ca.push(lists(vec![stranger.crl(9, &[7]), bent, longer]));
    let good = node.ca.crl(1, &[7]);
    node.ca.push(lists(vec![good.clone()]));
    assert_eq!(next(&mut stream).await.unwrap().crl, [good.der]);
}

#[tokio::test]
async fn a_certificate_that_is_revoked_by_itself_is_replaced_at_once() {
    let (node, mut stream) = following().await;
    let leaf = |told: &X509svidResponse| told.svids[0].x509_svid.clone();
    let first = leaf(&node.client().await.x509().await.unwrap());
    let named = chancery_sdk::x509::serial_decimal(&first).unwrap();
    let authority = hex::encode(chancery_sdk::x509::authority_key_id(&first).unwrap());
    let scope = Scope::Certificate { authority, serial: named };
    let row = Revocation { id: "spiffe://example.org/a".into(), scope, expires_at: clock::now().plus(3600) };
    node.ca.push(Told { revoked: vec![row], ..Told::default() });
    let told = next(&mut stream).await.unwrap();
    assert_eq!(ids(&told), ["spiffe://example.org/a"]);
    assert_ne!(leaf(&told), first);
}

/// What the CA tells of one hold; no end: it is released.
fn held(id: &str, until: Option<UnixTime>) -> Told {
    Told { holds: vec![Hold { id: id.into(), until }], ..Told::default() }
}

/// A node with a class and an entry that match this process and its helper.
async fn agents(ttl: i64) -> Node {
    let ca = FakeCa::new(vec![entry("a", &[&me()])], vec![class("team/agent", &[&me()])]);
    ca.change(|s| s.ttl = ttl);
    Node::start(streaming(ca)).await
}

#[tokio::test]
async fn a_held_process_keeps_what_it_has_and_gets_no_token_and_no_new_stream_until_it_is_released() {
    let node = agents(3600).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    let id = ids(&next(&mut stream).await.unwrap()).remove(0);
    let token = client.jwt(&["x"], &id).await.unwrap().svids.remove(0).svid;
    node.client().await.validate("x", &token).await.unwrap();

    node.ca.push(held(&id, Some(clock::now().plus(600))));
    node.retry(|| async { client.jwt(&["x"], "").await.is_err() }).await;
    let tokens = node.ca.look(|s| s.jwts);
    // Of the entry that it matches besides neither, and the token that is kept is not handed out again.
    for (audience, of) in [("x", id.as_str()), ("y", ""), ("y", "spiffe://example.org/a")] {
        let refused = client.jwt(&[audience], of).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().starts_with("INSTANCE_HELD: ") && refused.message().contains("until"), "{refused}");
    }
    assert_eq!(code(client.x509().await), Code::Unavailable);
    assert_eq!(node.ca.look(|s| s.jwts), tokens, "the CA was not asked");
    let refused = node.client().await.validate("x", &token).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("held until"), "{refused}");
    // Another process of the same user is another instance.
    let (_other, others) = process(&node).await;
    others.jwt(&["x"], "").await.unwrap();

    node.ca.push(held(&id, None));
    node.retry(|| async { client.jwt(&["x"], "").await.is_ok() }).await;
    node.client().await.validate("x", &token).await.unwrap();
    assert_eq!(ids(&client.x509().await.unwrap()).remove(0), id);
}

#[tokio::test]
async fn a_held_instance_is_not_renewed_and_goes_on_by_itself_when_the_hold_is_over() {
    let node = agents(4).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    let id = ids(&next(&mut stream).await.unwrap()).remove(0);
    let began = clock::now();
    node.ca.push(held(&id, Some(began.plus(600))));
    node.retry(|| async { client.jwt(&["x"], &id).await.is_err() }).await;
    let keys = node.ca.look(|s| s.keys.len());
    // Past its SVID's whole life, in which it would have been renewed twice.
    node.retry(|| async { clock::now() > began.plus(5) }).await;
    assert_eq!(node.ca.look(|s| s.keys.len()), keys, "nobody asked");
    let end = clock::now().plus(2);
    node.ca.push(held(&id, Some(end)));
    // Nobody says anything more.
    let told = next(&mut stream).await.unwrap();
    assert!(clock::now() >= end, "not before");
    assert_eq!(ids(&told).remove(0), id, "the same instance, on the stream that was open");
    assert!(node.ca.look(|s| s.keys.len()) > keys);
    client.jwt(&["x"], &id).await.unwrap();
}

#[tokio::test]
async fn processes_are_told_who_is_held_and_released_and_a_stream_begins_with_everybody() {
    let node = agents(3600).await;
    let in_an_hour = clock::now().plus(3600);
    node.ca.push(held("spiffe://example.org/agent/x", Some(in_an_hour)));
    let watch = async || {
        let mut api = AgentClient::new(node.client().await.channel);
        api.watch_revocations(with_header(WatchRevocationsRequest {})).await.unwrap().into_inner()
    };
    let mut first = watch().await;
    let mut told = next(&mut first).await.unwrap();
    assert!(told.holds_begin);
    if told.holds.is_empty() {
        told = next(&mut first).await.unwrap();
    }
    assert_eq!((told.holds[0].spiffe_id.as_str(), told.holds[0].until), ("spiffe://example.org/agent/x", in_an_hour.0));
    node.ca.push(held("spiffe://example.org/agent/y", Some(in_an_hour)));
    let told = next(&mut first).await.unwrap();
    assert_eq!((told.holds.len(), told.holds_begin), (1, false), "only what is new");
    // Full state of a server that knows of holds replaces them all; of one that does not, nothing.
    let everything = node.ca.everything(5);
    node.ca.push(everything.clone());
    let every_hold =
        Told { holds: held("spiffe://example.org/agent/y", Some(in_an_hour)).holds, every_hold: true, ..everything };
    node.ca.push(every_hold);
    let told = next(&mut first).await.unwrap();
    let rows: Vec<_> = told.holds.iter().map(|hold| (hold.spiffe_id.as_str(), hold.until)).collect();
    assert_eq!(rows, [("spiffe://example.org/agent/x", 0)]);
    let told = next(&mut watch().await).await.unwrap();
    assert_eq!((told.holds_begin, told.holds.len()), (true, 1));
}
