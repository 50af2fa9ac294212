//! Use cases over a real SQLite database and real keys: what is released has its record.

use std::{collections::BTreeMap, sync::Arc};

use chancery_core::{
    class::{self, NodeProof},
    entry::{self, Filter, Mask, Rights},
    instance::Standing,
    node::{self, CertRef, Node},
    selector::Selectors,
};
use chancery_daemon::{clock, config, shutdown::Shutdown};
use chancery_sdk::{
    id::SpiffeId,
    jwt::{JwtBundle, JwtBundleSet, JwtSvid},
    origin::Origin,
    x509,
};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use crate::{
    classes,
    entries::{self, Created, Page},
    gate::{Caller, NodeDenial},
    instance::{self, Process},
    issue::{self, Wanted, X509},
    peer::LocalPeer,
    problem::Problem,
    run,
    state::State,
    store::{AdmitNode, AuthorityKind, Fact, InstanceFilter, NodeRef, Store},
};

mod crls;
mod detect;
mod holds;
mod kill;
mod origin;

struct World {
    state: Arc<State>,
    node: Arc<Node>,
    _dir: TempDir,
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td{path}")).unwrap()
}

fn selectors(list: &[&str]) -> Selectors {
    list.iter().map(|s| s.parse().unwrap()).collect()
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn draft(parent: &str, path: &str, list: &[&str]) -> entry::Draft {
    entry::Draft {
        id: String::new(),
        spiffe_id: Some(id(path)),
        parent_id: Some(id(parent)),
        selectors: selectors(list),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        rights: Rights::default(),
        expires_at: 0,
        dns_names: Vec::new(),
        hint: "h".into(),
        store_svid: false,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

fn class_draft(name: &str, list: &[&str]) -> class::Draft {
    let parent_id = id("/spire/agent/tpm/aa");
    class::Draft {
        name: name.into(),
        parent_id,
        selectors: selectors(list),
        x509_svid_ttl: 60,
        node_proof: NodeProof::Hardware,
    }
}

fn process(token: u8) -> Arc<Process> {
    Arc::new(Process {
        class: "refund".parse().unwrap(),
        start_token: [token; 32],
        selectors: selectors(&["unix:uid:1", "unix:gid:1"]),
        pid_proof: "peer-pidfd".into(),
        facts: BTreeMap::from([("pid", "42".to_owned())]),
        origin: Origin::NONE,
    })
}

/// One SVID of a batch of one.
async fn x509_of(world: &World, entry_id: &str, csr: &[u8]) -> Result<X509, Problem> {
    let wanted = Wanted { entry_id: entry_id.into(), csr: csr.to_vec() };
    issue::x509(&world.state, &world.node, vec![wanted]).await.unwrap().remove(0)
}

/// A CA with one TPM node in good standing.
async fn world() -> World {
    world_with("").await
}

/// `keys` are more lines of that table.
async fn world_with(keys: &str) -> World {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "trust_domain = \"td\"\ndata_dir = {:?}\nadmin_socket = {:?}\nlisten = \"127.0.0.1:0\"\n[keys]\nstore = \"memory\"\n{keys}",
        dir.path().join("data"),
        dir.path().join("admin.sock")
    );
    let config: crate::config::Config = config::parse(&text).unwrap();
    std::fs::create_dir_all(&config.data_dir).unwrap();
    Store::migrate(&config.database()).await.unwrap();
    let (state, _, _) = run::assemble(config, Shutdown::manual(), clock::system()).await.unwrap();
    let node = Arc::new(admit(&state, "/spire/agent/tpm/aa", "tpm").await);
    World { state, node, _dir: dir }
}

async fn admit(state: &State, path: &str, kind: &str) -> Node {
    let node = Node {
        id: id(path),
        attestation_type: kind.into(),
        standing: node::Standing::Good,
        reason: String::new(),
        current: None,
        fresh: None,
        selectors: selectors(&["tpm:enrolled:yes"]),
        can_reattest: true,
        agent_version: String::new(),
        attested_at: state.now(),
        version: 0,
        boot: Vec::new(),
        tpm: None,
        pkcs11: None,
    };
    let fact = AdmitNode {
        node,
        cert: CertRef { serial: "77".into(), expires_at: state.now().plus(3600) },
        authority: state.authority.x509_id().unwrap(),
        expected_version: None,
        spend_token: None,
        require_enrolled: false,
        require_key_enrolled: false,
        svid_key: chancery_core::crypto::sha256(&[path.as_bytes()]),
        ends_instances: false,
        steps: Vec::new(),
        evidence: None,
        kept: None,
        source: "127.0.0.1".into(),
    };
    state.commit(Fact::AdmitNode(fact)).await.unwrap().done().unwrap();
    state.store.node(&id(path)).await.unwrap().unwrap()
}

async fn created(world: &World, draft: entry::Draft) -> entry::Entry {
    match entries::create(&world.state, draft).await.unwrap() {
        Created::New(entry) | Created::Similar(entry) => entry,
    }
}

/// How many events of a kind the record has.
async fn recorded(state: &State, kind: &str) -> usize {
    let events = state.store.events(None, 10_000).await.unwrap();
    let kinds = events.iter().map(|e| serde_json::from_slice::<serde_json::Value>(&e.bytes).unwrap()["kind"].clone());
    kinds.filter(|k| k == kind).count()
}

#[tokio::test]
async fn entry_is_created_once_and_the_similar_one_is_answered() {
    let world = world().await;
    let first = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let again = entries::create(&world.state, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await.unwrap();
    assert_eq!(again, Created::Similar(first.clone()));
    let clash = entry::Draft { id: first.id.clone(), ..draft("/spire/agent/tpm/aa", "/other", &["unix:uid:1"]) };
    assert!(matches!(entries::create(&world.state, clash).await, Err(Problem::AlreadyExists(_))));
    assert_eq!(recorded(&world.state, "entry.created").await, 1);
}

#[tokio::test]
async fn entry_update_grows_the_revision_and_delete_forgets() {
    let world = world().await;
    let first = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let change = entry::Draft { id: first.id.clone(), hint: "new".into(), ..draft("/x", "/y", &["a:b"]) };
    let mask = Mask { hint: true, ..Mask::NONE };
    let changed = entries::update(&world.state, change, mask).await.unwrap();
    assert_eq!((changed.revision, changed.hint.as_str(), &changed.spiffe_id), (1, "new", &first.spiffe_id));
    assert_eq!(entries::get(&world.state, &first.id).await.unwrap(), changed);
    entries::delete(&world.state, &first.id).await.unwrap();
    assert!(matches!(entries::delete(&world.state, &first.id).await, Err(Problem::NotFound(_))));
    let (left, token) = entries::list(&world.state, &Filter::default(), &Page::default()).await.unwrap();
    assert_eq!((left.len(), token.as_str()), (0, ""));
}

#[tokio::test]
async fn node_gets_svids_of_its_own_entries_only() {
    let world = world().await;
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let other = created(&world, draft("/spire/agent/tpm/bb", "/other", &["unix:uid:1"])).await;
    let key = KeyPair::generate().unwrap();
    let svid = x509_of(&world, &ours.id, &csr(&key)).await.unwrap();
    let peer = x509::verify(&svid.chain, &world.state.authority.x509_bundles().load(), world.state.now()).unwrap();
    assert_eq!(peer.id, id("/db"));
    let refused = x509_of(&world, &other.id, &csr(&key)).await;
    assert!(matches!(refused, Err(Problem::NotFound(_))));
    assert_eq!(recorded(&world.state, "svid.issued").await, 1);
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_what_is_wrong_in_it_spoils_no_other() {
    let world = world().await;
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let second = created(&world, draft("/spire/agent/tpm/aa", "/web", &["unix:uid:2"])).await;
    let good = || csr(&KeyPair::generate().unwrap());
    let mut wanted = Vec::new();
    for n in 0..32 {
        let (entry_id, csr) = match n {
            3 => ("gone".to_owned(), good()),
            17 => (ours.id.clone(), vec![0x30, 0]),
            31 => (String::new(), good()),
            n if n % 2 == 0 => (ours.id.clone(), good()),
            _ => (second.id.clone(), good()),
        };
        wanted.push(Wanted { entry_id, csr });
    }
    let answers = issue::x509(&world.state, &world.node, wanted).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        match (n, answer) {
            (3, Err(Problem::NotFound(_))) | (17 | 31, Err(Problem::Invalid(_))) => {}
            (_, Ok(svid)) => assert_eq!(svid.id, id(if n % 2 == 0 { "/db" } else { "/web" }), "{n}"),
            (_, Err(problem)) => panic!("{n}: {problem}"),
        }
    }
    assert_eq!((answers.len(), recorded(&world.state, "svid.issued").await), (32, 29));
    assert!(issue::x509(&world.state, &world.node, Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn wrong_csr_is_refused_and_leaves_no_record() {
    let world = world().await;
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let mut bad = csr(&KeyPair::generate().unwrap());
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert!(matches!(x509_of(&world, &ours.id, &bad).await, Err(Problem::Invalid(_))));
    assert!(matches!(x509_of(&world, &ours.id, &[]).await, Err(Problem::Invalid(_))));
    assert_eq!(recorded(&world.state, "svid.issued").await, 0);
}

#[tokio::test]
async fn js_04_js_06_js_11_js_15_js_16_js_18_js_24_token_of_an_entry_verifies() {
    let world = world().await;
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let token = issue::jwt(&world.state, &world.node, &ours.id, &["aud".into()], &Origin::NONE).await.unwrap();
    let mut bundle = JwtBundle::new(world.state.trust_domain.clone());
    for authority in world.state.store.authorities().await.unwrap() {
        if authority.kind == AuthorityKind::Jwt {
            bundle.insert(&authority.id, &authority.public).unwrap();
        }
    }
    let mut bundles = JwtBundleSet::new();
    bundles.insert(bundle);
    let seen = JwtSvid::verify(&token.token, &bundles, "aud", world.state.now(), 0).unwrap();
    assert_eq!((&seen.id, seen.expires_at), (&id("/db"), token.expires_at));
    assert!(token.issued_at < token.expires_at);
    let registered = ["aud", "exp", "iat", "iss", "jti", "sub"];
    assert!(seen.claims.keys().all(|claim| registered.contains(&claim.as_str())), "JS-15: {:?}", seen.claims);
    let refused = issue::jwt(&world.state, &world.node, &ours.id, &[String::new()], &Origin::NONE).await;
    assert!(matches!(refused, Err(Problem::Invalid(_))), "JS-18");
    assert_eq!(recorded(&world.state, "jwt.issued").await, 1);
}

#[tokio::test]
async fn minting_never_reaches_reserved_paths() {
    let world = world().await;
    // The CA's own SVID is recorded the same way.
    let before = recorded(&world.state, "svid.minted").await;
    let caller = Caller::Local(LocalPeer { uid: 0, pid: 1 });
    let mint = async |path: &str| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(id(path).as_str().try_into().unwrap())];
        let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        issue::mint_x509(&world.state, &caller, &csr, 0).await
    };
    assert_eq!(mint("/ops").await.unwrap().id, id("/ops"));
    for reserved in ["/agent/a/b", "/spire/server", "/spire/agent/tpm/aa"] {
        assert!(matches!(mint(reserved).await, Err(Problem::Invalid(_))), "{reserved}");
        let token = issue::mint_jwt(&world.state, &caller, &id(reserved), &["a".into()], 0).await;
        assert!(matches!(token, Err(Problem::Invalid(_))), "{reserved}");
    }
    assert_eq!(recorded(&world.state, "svid.minted").await, before + 1);
}

#[tokio::test]
async fn process_begins_renews_and_ends_and_its_id_is_dead() {
    let world = world().await;
    let (state, node) = (&world.state, &world.node);
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let first = instance::begin(state, node, &process(1), &csr(&key)).await.unwrap();
    let again = instance::begin(state, node, &process(1), &csr(&key)).await.unwrap();
    assert_eq!(first.id, again.id, "same token and key: the same instance");
    let other_key = KeyPair::generate().unwrap();
    let refused = instance::begin(state, node, &process(1), &csr(&other_key)).await;
    assert!(matches!(refused, Err(Problem::AlreadyExists(_))), "{refused:?}");
    let renewed = instance::renew(state, node, &first.id, &[1; 32], &csr(&other_key)).await.unwrap();
    assert_eq!(renewed.id, first.id);
    instance::jwt(state, node, &first.id, &[1; 32], &["a".into()], &Origin::NONE).await.unwrap();
    assert!(instance::renew(state, node, &first.id, &[2; 32], &csr(&key)).await.is_err(), "another process");
    instance::end(state, node, &first.id, &[1; 32]).await.unwrap();
    instance::end(state, node, &first.id, &[1; 32]).await.unwrap();
    let dead = instance::begin(state, node, &process(1), &csr(&key)).await;
    assert!(matches!(dead, Err(Problem::Precondition(_))), "{dead:?}");
    let dead = instance::renew(state, node, &first.id, &[1; 32], &csr(&key)).await;
    assert!(matches!(dead, Err(Problem::NotFound(_))), "{dead:?}");
    assert_eq!((recorded(state, "instance.begun").await, recorded(state, "instance.ended").await), (1, 1));
}

#[tokio::test]
async fn key_of_one_instance_serves_no_other() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let key = KeyPair::generate().unwrap();
    instance::begin(&world.state, &world.node, &process(1), &csr(&key)).await.unwrap();
    let second = instance::begin(&world.state, &world.node, &process(2), &csr(&key)).await;
    assert!(matches!(second, Err(Problem::AlreadyExists(_))), "{second:?}");
}

#[tokio::test]
async fn unproven_node_and_two_classes_are_refused() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let weak = Arc::new(admit(&world.state, "/spire/agent/join_token/bb", "join_token").await);
    let lab = class::Draft { parent_id: weak.id.clone(), ..class_draft("lab", &["unix:uid:1"]) };
    classes::create(&world.state, lab).await.unwrap();
    let on_weak = Arc::new(Process { class: "lab".parse().unwrap(), ..(*process(1)).clone() });
    let key = KeyPair::generate().unwrap();
    let refused = instance::begin(&world.state, &weak, &on_weak, &csr(&key)).await;
    assert!(matches!(refused, Err(Problem::Precondition(_))), "{refused:?}");
    classes::create(&world.state, class_draft("second", &["unix:gid:1"])).await.unwrap();
    let refused = instance::begin(&world.state, &world.node, &process(1), &csr(&key)).await;
    assert!(matches!(&refused, Err(Problem::Precondition(text)) if text.contains("refund, second")), "{refused:?}");
}

#[tokio::test]
async fn banned_node_is_issued_nothing_though_the_gate_let_it_in() {
    let world = world().await;
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    world.state.commit(Fact::BanNode(NodeRef { id: world.node.id.clone() })).await.unwrap().done().unwrap();
    let key = KeyPair::generate().unwrap();
    let x509 = x509_of(&world, &ours.id, &csr(&key)).await;
    assert_eq!(x509.unwrap_err(), Problem::Node(NodeDenial::NotAttested));
    let begun = instance::begin(&world.state, &world.node, &process(1), &csr(&key)).await;
    assert_eq!(begun.unwrap_err(), Problem::Node(NodeDenial::NotAttested));
}

#[tokio::test]
async fn reconciliation_ends_what_no_longer_lives() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    for token in [1, 2] {
        instance::begin(&world.state, &world.node, &process(token), &csr(&KeyPair::generate().unwrap())).await.unwrap();
    }
    let done = instance::reconcile(&world.state, &world.node, vec![1; 32], vec![[2; 32]]).await.unwrap();
    assert_eq!((done.ended, done.live.len()), (1, 1));
    assert_eq!(done.live[0].start_token, [2; 32]);
    let rebooted = instance::reconcile(&world.state, &world.node, vec![2; 32], vec![[2; 32]]).await.unwrap();
    assert_eq!((rebooted.ended, rebooted.live.len()), (1, 0), "a new boot ends them all");
}

#[tokio::test]
async fn operator_ends_an_instance_once() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let begun = instance::begin(&world.state, &world.node, &process(1), &csr(&key)).await.unwrap();
    let ended = instance::end_by_operator(&world.state, &begun.id).await.unwrap();
    assert!(ended.standing != Standing::Good && ended.ended_at.is_some());
    assert!(matches!(instance::end_by_operator(&world.state, &begun.id).await, Err(Problem::Precondition(_))));
    let listed = instance::list(&world.state, &InstanceFilter::default()).await.unwrap();
    assert_eq!(listed, [ended]);
}

#[tokio::test]
async fn class_parent_must_be_a_node_or_an_alias() {
    let world = world().await;
    let fleet = class::Draft { parent_id: id("/fleet"), ..class_draft("fleet-agent", &["unix:uid:9"]) };
    assert!(matches!(classes::create(&world.state, fleet.clone()).await, Err(Problem::Invalid(_))));
    created(&world, draft("/spire/server", "/fleet", &["tpm:enrolled:yes"])).await;
    classes::create(&world.state, fleet.clone()).await.unwrap();
    assert!(matches!(classes::create(&world.state, fleet).await, Err(Problem::AlreadyExists(_))));
    let offered = instance::classes(&world.state, &world.node).await.unwrap();
    assert_eq!(offered.iter().map(|o| o.class.name.as_str()).collect::<Vec<_>>(), ["fleet-agent"]);
}
