//! What nodes call by the hundred reads nothing of the database outside the committing transaction.

use std::{collections::BTreeMap, sync::Arc};

use chancery_ca::{
    State, classes,
    config::Config,
    entries, gate, instance, issue,
    peer::Peer,
    store::{AdmitNode, Fact, Store},
};
use chancery_core::{
    class::{self, NodeProof},
    entry::{self, Rights},
    node::{CertRef, Node},
};
use chancery_daemon::{clock, config, shutdown::Shutdown};
use chancery_sdk::origin::Origin;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::{postgres, sample};

/// More of them than a server looks at the database by itself in the time they take.
const ROUNDS: u8 = 50;

fn csr() -> Vec<u8> {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// A server on this database, one node admitted, a class and an entry for it.
async fn serving(url: &str, folder: &TempDir) -> (Arc<State>, Arc<Node>, String, chancery_ca::Running) {
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"{0}/data\"\nlisten = \"127.0.0.1:0\"\ndatabase = \"{url}\"\n\
         admin_socket = \"{0}/s/admin.sock\"\n[keys]\nstore = \"memory\"\n[limits]\nbegins_per_class = 1000\n",
        folder.path().display()
    );
    let config: Config = config::parse(&text).unwrap();
    Store::migrate(url).await.unwrap();
    let running = chancery_ca::start(config, Shutdown::manual(), clock::system()).await.unwrap();
    let state = Arc::clone(&running.state);
    let authority = state.authority.x509_id().unwrap();
    let cert = CertRef { serial: "77".into(), expires_at: state.now().plus(3600) };
    let fact = AdmitNode { authority, cert, ..sample::admission(1) };
    state.commit(Fact::AdmitNode(fact)).await.unwrap().done().unwrap();
    let node = state.view.look(|registry| registry.node(&sample::node_id(1)).cloned()).unwrap().unwrap();
    let of_uid = sample::selectors(&["unix:uid:1", "unix:gid:1"]);
    let draft = class::Draft {
        name: "a".into(),
        parent_id: node.id.clone(),
        selectors: of_uid.clone(),
        x509_svid_ttl: 60,
        node_proof: NodeProof::AnyNode,
    };
    classes::create(&state, draft).await.unwrap();
    let draft = entry::Draft {
        id: "e1".into(),
        spiffe_id: Some(sample::id("/db")),
        parent_id: Some(node.id.clone()),
        selectors: of_uid,
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights: Rights::default(),
        expires_at: 0,
        dns_names: Vec::new(),
        hint: String::new(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    };
    entries::create(&state, draft).await.unwrap();
    (state, node, "e1".into(), running)
}

/// Everything a node asks for while it works, each once; how many calls that were.
async fn round(state: &Arc<State>, node: &Arc<Node>, entry: &str, run: u8) -> u64 {
    let peer = Peer {
        id: Some(node.id.clone()),
        serial: "77".into(),
        not_after: Some(state.now().plus(60)),
        authorities: Vec::new(),
        exporters: None,
        source: None,
        local: None,
    };
    gate::authorize(state, &peer, "/chancery.node.v1.Node/Begin").await.unwrap();
    let process = Arc::new(instance::Process {
        class: "a".parse().unwrap(),
        start_token: [run; 32],
        selectors: sample::selectors(&["unix:uid:1", "unix:gid:1"]),
        pid_proof: "peer-pidfd".into(),
        facts: BTreeMap::new(),
        origin: Origin::NONE,
    });
    let first = csr();
    let begun = instance::begin(state, node, &process, &first).await.unwrap();
    let again = instance::begin(state, node, &process, &first).await.unwrap();
    assert_eq!(begun.id, again.id);
    instance::renew(state, node, &begun.id, &[run; 32], &csr()).await.unwrap();
    instance::jwt(state, node, &begun.id, &[run; 32], &["aud".into()], &Origin::NONE).await.unwrap();
    let wanted = (0..4).map(|_| issue::Wanted { entry_id: entry.into(), csr: csr() }).collect();
    let svids = issue::x509(state, node, wanted).await.unwrap();
    assert!(svids.len() == 4 && svids.iter().all(Result::is_ok), "{svids:?}");
    issue::jwt(state, node, entry, &["aud".into()], &Origin::NONE).await.unwrap();
    assert_eq!(instance::classes(state, node).await.unwrap().len(), 1);
    let alive = instance::reconcile(state, node, vec![1], vec![[run; 32]]).await.unwrap();
    assert_eq!(alive.live.iter().map(|one| &one.id).collect::<Vec<_>>(), [&begun.id]);
    instance::end(state, node, &begun.id, &[run; 32]).await.unwrap();
    10
}

async fn hot_calls_read_nothing(url: &str) {
    let folder = TempDir::new().unwrap();
    let (state, node, entry, running) = serving(url, &folder).await;
    // The first reconciliation is of a new boot, which changes the node's row.
    round(&state, &node, &entry, 200).await;
    let before = state.store.reads();
    let mut calls = 0;
    for run in 0..ROUNDS {
        calls += round(&state, &node, &entry, run).await;
    }
    let reads = state.store.reads() - before;
    // What the server reads by itself, by time and not by call: once a second and less.
    assert!(reads < u64::from(ROUNDS), "{reads} reads in {calls} calls");
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_calls_read_nothing_on_sqlite() {
    let folder = TempDir::new().unwrap();
    hot_calls_read_nothing(&folder.path().join("ca.sqlite3").display().to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_calls_read_nothing_on_postgres() {
    hot_calls_read_nothing(&postgres::database().await).await;
}
