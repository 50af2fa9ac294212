use super::*;
use crate::{
    sample,
    store::{EntryRef, FailNode, NodeRef},
};

const RENEW: &str = "/spire.api.server.agent.v1.Agent/RenewAgent";
const LIST: &str = "/spire.api.server.agent.v1.Agent/ListAgents";

fn anonymous() -> Peer {
    Peer {
        id: None,
        serial: String::new(),
        not_after: None,
        authorities: Vec::new(),
        exporters: None,
        source: Some([192, 0, 2, 1].into()),
        local: None,
    }
}

fn with_svid(id: SpiffeId, serial: &str, state: &State) -> Peer {
    Peer { id: Some(id), serial: serial.into(), not_after: Some(state.now().plus(600)), ..anonymous() }
}

fn node_peer(serial: &str, state: &State) -> Peer {
    with_svid(sample::node_id("n1"), serial, state)
}

async fn denied(state: &State, peer: &Peer, method: &str) -> Denial {
    authorize(state, peer, method).await.unwrap_err()
}

#[tokio::test]
async fn a_caller_without_certificate_is_let_into_open_methods_only() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    for (method, who) in METHODS {
        let allowed = authorize(&state, &anonymous(), method).await.is_ok();
        assert_eq!(allowed, *who == Who::Anyone, "{method}");
    }
    assert_eq!(denied(&state, &anonymous(), "/x.Y/Z").await, Denial::NotAllowed);
}

#[tokio::test]
async fn the_admin_socket_is_never_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let operator = Peer::local(LocalPeer { uid: 0, pid: 1 });
    for (method, who) in METHODS {
        assert_eq!(
            authorize(&state, &operator, method).await.is_ok(),
            !matches!(who, Who::Nodes | Who::Downstreams),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_node_is_judged_by_record_and_serial() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let not = |reason| Denial::Node(reason);
    assert_eq!(denied(&state, &node_peer("7", &state), RENEW).await, not(NodeDenial::NotAttested));
    sample::admit(&state, "n1", "7").await;
    assert!(matches!(authorize(&state, &node_peer("7", &state), RENEW).await, Ok(Caller::Node(_))));
    assert_eq!(denied(&state, &node_peer("8", &state), RENEW).await, not(NodeDenial::NotActive));
    assert_eq!(denied(&state, &node_peer("7", &state), LIST).await, Denial::NotAllowed);
    let expired = Peer { not_after: Some(state.now().plus(-1)), ..node_peer("7", &state) };
    assert_eq!(denied(&state, &expired, RENEW).await, not(NodeDenial::Expired));
}

#[tokio::test]
async fn the_old_serial_holds_until_the_new_one_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    sample::admit(&state, "n1", "7").await;
    sample::admit(&state, "n1", "8").await;
    assert!(authorize(&state, &node_peer("7", &state), RENEW).await.is_ok());
    let Ok(Caller::Node(node)) = authorize(&state, &node_peer("8", &state), RENEW).await else { panic!("not let in") };
    assert_eq!(node.current.as_ref().unwrap().serial, "8");
    assert_eq!(denied(&state, &node_peer("7", &state), RENEW).await, Denial::Node(NodeDenial::NotActive));
}

#[tokio::test]
async fn failed_and_banned_nodes_are_told_apart_and_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let id = sample::admit(&state, "n1", "7").await.id;
    let reason = chancery_core::reason::Reason::PcrPolicy;
    let fail = FailNode { id: id.clone(), reason, steps: Vec::new(), detail: String::new(), kept: None };
    state.commit(Fact::FailNode(fail)).await.unwrap().done().unwrap();
    assert_eq!(denied(&state, &node_peer("7", &state), RENEW).await, Denial::Node(NodeDenial::NotAttested));
    state.commit(Fact::BanNode(NodeRef { id })).await.unwrap().done().unwrap();
    assert_eq!(denied(&state, &node_peer("7", &state), RENEW).await, Denial::Node(NodeDenial::Banned));
}

#[tokio::test]
async fn an_admin_is_one_while_its_entry_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let id = SpiffeId::parse("spiffe://example.org/ops").unwrap();
    let peer = with_svid(id.clone(), "5", &state);
    assert_eq!(denied(&state, &peer, LIST).await, Denial::NotAllowed);
    let entry = chancery_core::entry::Entry {
        id: "e1".into(),
        spiffe_id: id,
        parent_id: sample::node_id("n1"),
        selectors: ["unix:uid:0".parse().unwrap()].into(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights: chancery_core::entry::Rights { admin: true, downstream: false },
        expires_at: None,
        dns_names: Vec::new(),
        hint: String::new(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision: 0,
        created_at: state.now(),
    };
    state.commit(Fact::CreateEntry(entry)).await.unwrap().done().unwrap();
    assert!(matches!(authorize(&state, &peer, LIST).await, Ok(Caller::Admin(_))));
    assert_eq!(denied(&state, &peer, RENEW).await, Denial::NotAllowed);
    state.commit(Fact::DeleteEntry(EntryRef { id: "e1".into() })).await.unwrap().done().unwrap();
    assert_eq!(denied(&state, &peer, LIST).await, Denial::NotAllowed);
}

#[tokio::test]
async fn a_downstream_entry_opens_what_is_for_downstream_servers_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let rights = Rights { admin: false, downstream: true };
    let id = sample::entry_with(&state, "/below", rights).await;
    let peer = with_svid(id.clone(), "1", &state);
    for (method, who) in METHODS {
        let allowed = matches!(who, Who::Anyone | Who::Downstreams);
        assert_eq!(authorize(&state, &peer, method).await.is_ok(), allowed, "{method}");
    }
    let admin = sample::entry_with(&state, "/ops", Rights { admin: true, downstream: false }).await;
    let peer = with_svid(admin, "1", &state);
    let downstream = "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA";
    assert_eq!(denied(&state, &peer, downstream).await, Denial::NotAllowed);
    let ended = Peer { not_after: Some(state.now().plus(-1)), ..with_svid(id, "1", &state) };
    assert_eq!(denied(&state, &ended, downstream).await, Denial::NotAllowed);
}
