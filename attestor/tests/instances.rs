//! Instances: one for each process, from its first call to its end, through rotations and crashes of the attestor.

mod support;

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, sync::Arc};

use chancery_attestor::api::Verifiers;
use chancery_proto::chancery::attestor::v1::{ExplainRequest, GetStatusRequest, attestor_client::AttestorClient};
use tonic::Code;

use support::{Client, FakeCa, Node, class, client::next, code, entry, helper, ids, me, process};

/// Not a test: what [`Helper`] runs.
#[test]
fn helper_process() {
    helper::body();
}

fn agents() -> Arc<FakeCa> {
    FakeCa::new(vec![], vec![class("team/agent", &[&me()])])
}

#[tokio::test]
async fn every_process_is_an_instance_of_its_own_and_each_call_finds_it_again() {
    let node = Node::start(agents()).await;
    let (a, b) = (process(&node).await, process(&node).await);
    let (first, second) = (a.1.x509().await.unwrap(), b.1.x509().await.unwrap());
    assert_ne!(ids(&first), ids(&second));
    assert!(first.svids[0].spiffe_id.starts_with("spiffe://example.org/agent/team/agent/"));
    assert_eq!(a.1.x509().await.unwrap(), first);
    assert_eq!(node.ca.look(|s| s.begins.len()), 2);
    let facts = node.ca.look(|s| s.begins[0].process.clone());
    assert_eq!((facts.pid, facts.pid_proof.as_str()), (a.0.pid(), "peer-pidfd"));
    assert!(!facts.path.is_empty() && facts.sha256.len() == 64);
}

#[tokio::test]
async fn many_first_calls_of_one_process_begin_one_instance() {
    let node = Node::start(agents()).await;
    let (_helper, client) = process(&node).await;
    let calls = (0..20).map(|_| client.x509());
    let answers: BTreeSet<_> =
        futures_util::future::join_all(calls).await.into_iter().map(|a| ids(&a.unwrap())).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(node.ca.look(|s| s.begins.len()), 1);
}

#[tokio::test]
async fn end_of_the_process_ends_the_instance() {
    let node = Node::start(agents()).await;
    let (helper, client) = process(&node).await;
    let id = ids(&client.x509().await.unwrap()).remove(0);
    helper.end();
    node.ca.until(|s| s.ended.iter().any(|e| e.as_str() == id)).await;
}

#[tokio::test]
async fn end_is_told_when_the_ca_is_back() {
    let node = Node::start(agents()).await;
    let (helper, client) = process(&node).await;
    client.x509().await.unwrap();
    node.ca.change(|s| s.away = true);
    helper.end();
    node.ca.change(|s| s.away = false);
    node.ca.until(|s| s.ended.len() == 1).await;
}

#[tokio::test]
async fn end_is_told_though_the_answer_to_begin_came_after_it() {
    let node = Node::start(agents()).await;
    node.ca.open.send_replace(false);
    let (helper, client) = process(&node).await;
    let asking = tokio::spawn(async move { client.x509().await });
    let open = node.ca.open.clone();
    node.retry(|| async { open.receiver_count() > 0 }).await;
    helper.end();
    node.ca.open.send_replace(true);
    node.ca.until(|s| s.begins.len() == 1 && s.ended.len() == 1 && s.live.is_empty()).await;
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test]
async fn rotation_keeps_the_id_and_changes_the_key() {
    let ca = agents();
    ca.change(|s| s.ttl = 5);
    let node = Node::start(ca).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    let (first, second) = (next(&mut stream).await.unwrap(), next(&mut stream).await.unwrap());
    assert_eq!(ids(&first), ids(&second));
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
    let keys: BTreeSet<_> = node.ca.look(|s| s.keys.clone()).into_iter().collect();
    assert_eq!(keys.len(), 2);
}

#[tokio::test]
async fn instance_the_ca_has_ended_loses_its_stream_at_renewal() {
    let ca = agents();
    ca.change(|s| s.ttl = 5);
    let node = Node::start(ca).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    node.ca.change(|s| s.denies_renewal = true);
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
}

/// The commit of a hold may be heard by an issuing server before its word reaches this node.
#[tokio::test]
async fn an_instance_whose_renewal_is_refused_as_held_goes_on_under_its_id_when_it_is_not_any_more() {
    let ca = agents();
    ca.change(|s| s.ttl = 5);
    let node = Node::start(ca).await;
    let (_helper, client) = process(&node).await;
    let mut stream = client.watch_x509().await.unwrap();
    let first = next(&mut stream).await.unwrap();
    node.ca.change(|s| s.holds = Some(0));
    node.ca.until(|s| s.holds.is_some_and(|refused| refused > 0)).await;
    node.ca.change(|s| s.holds = None);
    let second = next(&mut stream).await.unwrap();
    assert_eq!(ids(&first), ids(&second));
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
    assert_eq!(node.ca.look(|s| s.begins.len()), 1, "it did not begin again");
}

#[tokio::test]
async fn process_that_matches_two_classes_is_refused_with_both_named() {
    let classes = vec![class("a", &[&me()]), class("b", &[&me()])];
    let node = Node::start(FakeCa::new(vec![entry("w", &[&me()])], classes)).await;
    let (_helper, client) = process(&node).await;
    let status = client.x509().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().ends_with("a, b"), "{status}");
    assert!(node.ca.look(|s| s.begins.is_empty()));
}

#[tokio::test]
async fn instance_comes_first_then_entries_by_id_for_certificates_and_tokens() {
    let entries = vec![entry("b", &[&me()]), entry("a", &[&me()])];
    let node = Node::start(FakeCa::new(entries, vec![class("agent", &[&me()])])).await;
    let (_helper, client) = process(&node).await;
    let found = ids(&client.x509().await.unwrap());
    assert!(found[0].starts_with("spiffe://example.org/agent/agent/"));
    assert_eq!(found[1..], ["spiffe://example.org/a", "spiffe://example.org/b"]);
    let tokens = client.jwt(&["x"], "").await.unwrap().svids;
    assert_eq!(tokens.iter().map(|t| t.spiffe_id.clone()).collect::<Vec<_>>(), found);
    assert_eq!(client.jwt(&["x"], &found[0]).await.unwrap().svids.len(), 1);
}

#[tokio::test]
async fn killed_attestor_gives_the_living_their_ids_with_new_keys_and_ends_the_dead() {
    let node = Node::start(agents()).await;
    let mut processes = Vec::new();
    for _ in 0..4 {
        let (helper, client) = process(&node).await;
        processes.push((helper, client.x509().await.unwrap()));
    }
    let mode = std::fs::metadata(&node.doors.state_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (ca, dir) = node.kill().await;
    let (dead, last) = processes.pop().unwrap();
    dead.end();
    let node = Node::bare(ca, dir, Verifiers::Entitled).await;
    node.stand();
    // The living are renewed without being asked, so their IDs are there when they call.
    node.ca.until(|s| s.reconciles == 2 && s.keys.len() == 7).await;
    assert_eq!(node.ca.look(|s| s.ended.iter().map(ToString::to_string).collect::<Vec<_>>()), ids(&last));
    let live: BTreeSet<_> = node.ca.look(|s| s.live.values().map(|l| l.0.to_string()).collect());
    assert_eq!(live, processes.iter().map(|p| ids(&p.1).remove(0)).collect());
    let keys: BTreeSet<_> = node.ca.look(|s| s.keys.clone()).into_iter().collect();
    assert_eq!(keys.len(), 7);
    // And they end as before.
    let (helper, answer) = processes.pop().unwrap();
    helper.end();
    node.ca.until(|s| s.ended.iter().any(|e| e.as_str() == answer.svids[0].spiffe_id)).await;
}

#[tokio::test]
async fn restarted_attestor_serves_the_same_process_under_its_id_with_a_new_key() {
    let node = Node::start(agents()).await;
    let first = node.client().await.x509().await.unwrap();
    let (ca, dir) = node.kill().await;
    let node = Node::bare(ca, dir, Verifiers::Entitled).await;
    node.stand();
    node.ready().await;
    let second = node.client().await.x509().await.unwrap();
    assert_eq!(ids(&first), ids(&second));
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key);
}

#[tokio::test]
async fn instance_is_served_while_the_ca_is_away() {
    let node = Node::start(agents()).await;
    let (_helper, client) = process(&node).await;
    let first = client.x509().await.unwrap();
    node.ca.change(|s| s.away = true);
    assert_eq!(client.x509().await.unwrap(), first);
}

#[tokio::test]
async fn node_without_standing_takes_back_its_instances_until_the_ca_agrees_again() {
    let node = Node::start(agents()).await;
    let (_helper, client) = process(&node).await;
    let first = client.x509().await.unwrap();
    node.identity.send_replace(None);
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
    // The CA ended it meanwhile, as it does when a node fails.
    node.ca.change(|s| s.live.clear());
    node.stand();
    node.ready().await;
    node.ca.until(|s| s.reconciles == 2).await;
    node.retry(|| async { client.x509().await.is_ok_and(|again| ids(&again) != ids(&first)) }).await;
}

#[tokio::test]
async fn explain_says_what_a_process_is_and_what_each_candidate_lacks() {
    let far = entry("far", &["unix:uid:4000000000", "unix:gid:4000000000"]);
    let near = entry("near", &[&me(), "unix:gid:4000000000"]);
    let node = Node::start(FakeCa::new(vec![far, near], vec![class("agent", &[&me()])])).await;
    let (helper, client) = process(&node).await;
    client.x509().await.unwrap();
    let admin = Client::connect(&node.doors.admin_socket).await;
    let mut admin = AttestorClient::new(admin.channel);
    let answer = admin.explain(ExplainRequest { pid: helper.pid() }).await.unwrap().into_inner();
    assert!(answer.selectors.iter().any(|s| s.value.starts_with("sha256:")));
    let names: Vec<_> = answer.entries.iter().map(|c| (c.name.as_str(), c.missing.len())).collect();
    assert_eq!(names, [("near", 1), ("far", 2)]);
    assert!(answer.classes[0].matches && answer.instance_id.contains("/agent/agent/"));
    assert_eq!(answer.verdict, "an instance of class agent");
    assert_eq!(code(admin.explain(ExplainRequest { pid: -1 }).await), Code::InvalidArgument);
    let status = admin.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.synced, status.entries, status.classes, status.live_instances), (true, 2, 1, 1));
    let mode = std::fs::metadata(&node.doors.admin_socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
