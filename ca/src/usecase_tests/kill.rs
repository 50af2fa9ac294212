//! The kill switch over a real database: whoever asks afterwards, on whichever server, gets nothing.

use super::*;
use crate::{
    problem::Problem::{NotFound, Precondition},
    revoke::{self, Target},
    store::{EVERY_NODE, Order},
};

pub(super) fn order() -> Order {
    Order { reason: "key leaked".into(), caller: "uid 0".into() }
}

/// Another server on the same database; nobody tells it what is committed, and it does not look by itself.
pub(super) async fn deaf(world: &World, dir: &TempDir) -> Arc<State> {
    let text = format!(
        "trust_domain = \"td\"\nserver_id = \"b\"\ndatabase = {:?}\ndata_dir = {:?}\nadmin_socket = {:?}\n\
         listen = \"127.0.0.1:0\"\n[keys]\nstore = \"memory\"\n",
        world.state.config.database(),
        dir.path().join("data"),
        dir.path().join("b.sock")
    );
    let config: crate::config::Config = config::parse(&text).unwrap();
    std::fs::create_dir_all(&config.data_dir).unwrap();
    let shutdown = Shutdown::manual();
    let (state, _, _) = run::assemble(config, shutdown.clone(), clock::system()).await.unwrap();
    state.view.follow().await.unwrap();
    shutdown.soft.cancel();
    state
}

pub(super) async fn begun(world: &World, token: u8) -> X509 {
    let key = KeyPair::generate().unwrap();
    instance::begin(&world.state, &world.node, &process(token), &csr(&key)).await.unwrap()
}

#[tokio::test]
async fn a_revoked_process_and_its_children_get_nothing_until_the_class_is_reopened() {
    let world = world().await;
    let state = &world.state;
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let first = begun(&world, 1).await;
    let done = revoke::revoke(state, Target::Instance(first.id.clone()), order()).await.unwrap();
    assert_eq!((done.hits.instances, done.hits.certificates, done.closed.len()), (1, 1, 1));
    assert_eq!(done.hits.until, Some(first.expires_at));
    let key = KeyPair::generate().unwrap();
    let renewed = instance::renew(state, &world.node, &first.id, &[1; 32], &csr(&key)).await;
    assert!(matches!(renewed, Err(NotFound(_))), "{renewed:?}");
    let token = instance::jwt(state, &world.node, &first.id, &[1; 32], &["a".into()], &Origin::NONE).await;
    assert!(matches!(token, Err(NotFound(_))), "{token:?}");
    let child = instance::begin(state, &world.node, &process(2), &csr(&key)).await;
    assert!(matches!(&child, Err(Precondition(text)) if text.starts_with("CLASS_CLOSED: ")), "{child:?}");
    let wrong = revoke::reopen(state, EVERY_NODE, &"refund".parse().unwrap(), order()).await;
    assert!(matches!(wrong, Err(NotFound(_))), "{wrong:?}");
    revoke::reopen(state, world.node.id.as_str(), &"refund".parse().unwrap(), order()).await.unwrap();
    begun(&world, 2).await;
    let again = instance::begin(state, &world.node, &process(1), &csr(&KeyPair::generate().unwrap())).await;
    assert!(matches!(again, Err(Precondition(_))), "reopening brings nobody back: {again:?}");
    let again = revoke::revoke(state, Target::Instance(first.id.clone()), order()).await.unwrap();
    assert_eq!((again.hits, again.closed.len()), (done.hits, 0), "twice is as once");
}

/// The memory of the other server says yes to all of it; the committing transaction does not.
#[tokio::test]
async fn a_server_that_was_told_nothing_releases_nothing_after_the_revocation() {
    let (world, dir) = (world().await, tempfile::tempdir().unwrap());
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    let first = begun(&world, 1).await;
    let b = deaf(&world, &dir).await;
    let before = recorded(&world.state, "svid.issued").await + recorded(&world.state, "instance.begun").await;
    revoke::revoke(&world.state, Target::Instance(first.id.clone()), order()).await.unwrap();
    revoke::revoke(&world.state, Target::Entry(ours.id.clone()), order()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    // The entry first: a refusal has the server look, and then it knows all of it.
    let stale = b.view.look(|registry| registry.instance(&first.id).is_some()).unwrap();
    assert!(stale, "it has not looked");
    let wanted = Wanted { entry_id: ours.id.clone(), csr: csr(&key) };
    let x509 = issue::x509(&b, &world.node, vec![wanted]).await.unwrap().remove(0);
    assert!(matches!(x509, Err(NotFound(_))), "{x509:?}");
    let renewed = instance::renew(&b, &world.node, &first.id, &[1; 32], &csr(&key)).await;
    assert!(renewed.is_err(), "{renewed:?}");
    assert!(instance::jwt(&b, &world.node, &first.id, &[1; 32], &["a".into()], &Origin::NONE).await.is_err());
    let child = instance::begin(&b, &world.node, &process(2), &csr(&key)).await;
    assert!(matches!(&child, Err(Precondition(text)) if text.starts_with("CLASS_CLOSED: ")), "{child:?}");
    let after = recorded(&world.state, "svid.issued").await + recorded(&world.state, "instance.begun").await;
    assert_eq!(after, before, "nothing was recorded as issued, so nothing was released");
}

#[tokio::test]
async fn a_revoked_executable_is_refused_before_anything_is_signed() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let hash = "ab".repeat(32);
    let with_hash = |token: u8| {
        let mut process = (*process(token)).clone();
        process.facts.insert("sha256", hash.clone());
        Arc::new(process)
    };
    let key = KeyPair::generate().unwrap();
    let first = instance::begin(&world.state, &world.node, &with_hash(1), &csr(&key)).await.unwrap();
    let done = revoke::revoke(&world.state, Target::Executable([0xab; 32]), order()).await.unwrap();
    assert_eq!((done.hits.instances, done.hits.until), (1, Some(first.expires_at)));
    revoke::reopen(&world.state, world.node.id.as_str(), &"refund".parse().unwrap(), order()).await.unwrap();
    let other = KeyPair::generate().unwrap();
    let refused = instance::begin(&world.state, &world.node, &with_hash(2), &csr(&other)).await;
    assert!(matches!(&refused, Err(Precondition(text)) if text.starts_with("EXECUTABLE_REVOKED: ")), "{refused:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let world = world().await;
    let nobody = id("/agent/refund/0190f5d2-0000-7000-8000-000000000000");
    let revoked = |target, reason: &str| {
        let order = Order { reason: reason.into(), ..order() };
        let state = Arc::clone(&world.state);
        async move { revoke::revoke(&state, target, order).await }
    };
    assert!(matches!(revoked(Target::Instance(nobody.clone()), "").await, Err(Problem::Invalid(_))), "no reason");
    assert!(matches!(revoked(Target::Instance(nobody.clone()), &"x".repeat(1025)).await, Err(Problem::Invalid(_))));
    assert!(matches!(revoked(Target::Node(nobody.clone()), "r").await, Err(Problem::Invalid(_))), "no node's ID");
    assert!(matches!(revoked(Target::Entry(String::new()), "r").await, Err(Problem::Invalid(_))));
    for target in [
        Target::Instance(nobody),
        Target::Class("refund".parse().unwrap()),
        Target::Entry("e".into()),
        Target::Under(id("/spire/agent/tpm/zz")),
    ] {
        let told = revoked(target.clone(), "r").await;
        assert!(matches!(told, Err(NotFound(_))), "{target:?}: {told:?}");
    }
    let listed = revoke::list(&world.state, "", 10).await.unwrap();
    assert!(listed.revocations.is_empty() && listed.closures.is_empty() && listed.executables.is_empty());
}

#[tokio::test]
async fn everything_under_a_node_is_listed_page_by_page() {
    let world = world().await;
    classes::create(&world.state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let ours = created(&world, draft("/spire/agent/tpm/aa", "/db", &["unix:uid:1"])).await;
    begun(&world, 1).await;
    x509_of(&world, &ours.id, &csr(&KeyPair::generate().unwrap())).await.unwrap();
    let done = revoke::revoke(&world.state, Target::Under(world.node.id.clone()), order()).await.unwrap();
    // The instance's, the entry's and the node's own.
    assert_eq!((done.hits.instances, done.hits.certificates, done.closed.len()), (1, 3, 0));
    let (mut after, mut rows) = (String::new(), 0);
    loop {
        let page = revoke::list(&world.state, &after, 1).await.unwrap();
        let Some(last) = page.revocations.last() else { break };
        (after, rows) = (last.key.clone(), rows + page.revocations.len());
    }
    assert_eq!(rows, 4, "and the instance's ID");
    let refused = x509_of(&world, &ours.id, &csr(&KeyPair::generate().unwrap())).await;
    assert!(matches!(refused, Err(Problem::Node(_))), "{refused:?}");
}

#[tokio::test]
async fn one_certificate_is_revoked_by_its_serial_number_and_its_holder_goes_on() {
    let world = world().await;
    let state = &world.state;
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let (first, second) = (begun(&world, 1).await, begun(&world, 2).await);
    let of = |svid: &X509| {
        let authority = hex::encode(x509::authority_key_id(&svid.chain[0]).unwrap());
        (authority, x509::serial_decimal(&svid.chain[0]).unwrap())
    };
    let (authority, serial) = of(&first);
    let target = revoke::certificate(state, &serial).await.unwrap();
    assert_eq!(revoke::certificate(state, &format!("{}:{serial}", authority.to_uppercase())).await.unwrap(), target);
    let done = revoke::revoke(state, target.clone(), order()).await.unwrap();
    assert_eq!((done.subject.as_deref(), done.hits.certificates), (Some(first.id.as_str()), 1));
    assert_eq!((done.hits.instances, done.closed.len(), done.hits.until), (0, 0, Some(first.expires_at)));
    let again = revoke::revoke(state, target, order()).await.unwrap();
    assert_eq!(again.hits, done.hits, "twice is as once");
    assert_eq!((recorded(state, "certificate.revoked").await, recorded(state, "svid.revoked").await), (1, 1));
    let key = KeyPair::generate().unwrap();
    instance::renew(state, &world.node, &first.id, &[1; 32], &csr(&key)).await.unwrap();
    let listed = revoke::list(state, "", 10).await.unwrap().revocations;
    assert_eq!(listed.iter().map(|row| &row.revoked.subject).collect::<Vec<_>>(), [&first.id.to_string()]);

    let (authority, serial) = of(&second);
    for wrong in ["", "x", "12x", ":12", "-1", &"1".repeat(50), "0x12"] {
        let told = revoke::certificate(state, wrong).await;
        assert!(matches!(told, Err(Problem::Invalid(_) | NotFound(_))), "{wrong}: {told:?}");
    }
    for unknown in ["12".to_owned(), format!("{authority}:12"), format!("aa:{serial}")] {
        assert!(matches!(revoke::certificate(state, &unknown).await, Err(NotFound(_))), "{unknown}");
    }
    let nodes = revoke::certificate(state, "77").await;
    assert!(matches!(&nodes, Err(Problem::Invalid(text)) if text.contains("--node")), "{nodes:?}");
}

#[tokio::test]
async fn beginnings_that_an_operator_barred_are_in_the_record_as_a_summary() {
    let world = world().await;
    let state = &world.state;
    classes::create(state, class_draft("refund", &["unix:uid:1"])).await.unwrap();
    let first = begun(&world, 1).await;
    revoke::revoke(state, Target::Instance(first.id.clone()), order()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    for token in 2..5 {
        instance::begin(state, &world.node, &process(token), &csr(&key)).await.unwrap_err();
    }
    state.failures.flush(&state.store, state.now()).await;
    state.failures.flush(&state.store, state.now()).await;
    let events = state.store.events(None, 10_000).await.unwrap();
    let events = events.iter().map(|e| serde_json::from_slice::<serde_json::Value>(&e.bytes).unwrap());
    let refused: Vec<_> = events.filter(|e| e["kind"] == "beginning.refused").collect();
    let [one] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(one["subject"], world.node.id.as_str());
    let fields = &one["fields"];
    assert_eq!(
        (&fields["class"], &fields["count"], &fields["reason"]),
        (&"refund".into(), &3.into(), &"CLASS_CLOSED".into())
    );
}
