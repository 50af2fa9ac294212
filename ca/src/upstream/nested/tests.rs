//! Two real servers, one below the other; the Workload API between them is told what to say.

use chancery_core::entry::Rights;
use chancery_daemon::{clock, shutdown::Shutdown};
use chancery_proto::workload::{X509svid, X509svidResponse};
use chancery_sdk::x509;
use rcgen::{CertificateParams, KeyPair, SanType};

use self::api::{Fake, Says};
use super::*;
use crate::{
    authorities, bundles,
    gate::Caller,
    issue,
    peer::LocalPeer,
    run::{self, Running},
    sample,
    state::State,
};

#[path = "../../../../agent-sdk/tests/support/api.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of the SDK")]
mod api;

fn operator() -> Caller {
    Caller::Local(LocalPeer { uid: 0, pid: 1 })
}

/// The Workload API gives an SVID of an entry at `above`.
async fn identity(above: &State, fake: &Fake, path: &str, rights: Rights) {
    let id = sample::entry_with(above, path, rights).await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
    let csr = params.serialize_request(&key).unwrap();
    let svid = issue::mint_x509(above, &operator(), csr.der(), 3600).await.unwrap();
    let bundle = bundles::own(above).x509.iter().flat_map(|a| a.public.clone()).collect();
    let svid = X509svid {
        spiffe_id: id.to_string(),
        x509_svid: svid.chain.iter().flat_map(|der| der.to_vec()).collect(),
        x509_svid_key: key.serialize_der(),
        bundle,
        hint: String::new(),
    };
    fake.x509.send_replace(Says::Message(X509svidResponse { svids: vec![svid], ..X509svidResponse::default() }));
}

fn section(server: &str, fake: &Fake) -> String {
    format!("[upstream]\nkind = \"nested\"\nserver = \"{server}\"\nworkload_socket = {:?}\n", fake.socket())
}

const DOWNSTREAM: Rights = Rights { admin: false, downstream: true };

struct World {
    above: Running,
    below: Running,
    fake: Fake,
    dir: tempfile::TempDir,
}

async fn start(dir: &Path, extra: &str) -> Running {
    let config = sample::prepared(dir, extra).await;
    run::start(config, Shutdown::manual(), clock::system()).await.unwrap()
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let above = start(&dir.path().join("above"), "").await;
    let fake = Fake::start();
    identity(&above.state, &fake, "/below", DOWNSTREAM).await;
    let below = start(&dir.path().join("below"), &section(&above.bound.to_string(), &fake)).await;
    below.state.authority.follow(&below.state.store, below.state.now()).await.unwrap();
    World { above, below, fake, dir }
}

/// Why `verifier` does not take a leaf that `signer` signs now.
fn verified(signer: &State, verifier: &State) -> Result<(), String> {
    let now = signer.now();
    let (leaf, _) = sample::leaf(now, signer.authority.x509_not_after().unwrap(), 60);
    let issued = signer.authority.sign_x509(&leaf).map_err(|e| e.to_string())?;
    let bundles = verifier.authority.x509_bundles().load_full();
    x509::verify(&issued.chain, &bundles, now).map(drop).map_err(|e| e.to_string())
}

fn has_key(state: &State, id: &str) -> bool {
    bundles::own(state).jwt.iter().any(|key| key.id == id)
}

async fn stop(running: Running) {
    running.state.shutdown.begin();
    running.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svids_and_tokens_of_either_server_are_verified_at_both() {
    let world = world().await;
    let (above, below) = (&world.above.state, &world.below.state);
    assert_eq!(verified(below, above), Ok(()));
    assert_eq!(verified(above, below), Ok(()));
    assert!(has_key(above, &below.authority.jwt_id().unwrap()), "published above before it signs");
    assert!(has_key(below, &above.authority.jwt_id().unwrap()), "followed");
    assert!(below.authority.x509_not_after() <= above.authority.x509_not_after());
    assert!(below.authority.jwt_not_after() <= Some(above.now().plus(86_400)));
    let roots = |state: &State| bundles::own(state).x509.into_iter().map(|a| a.public).collect::<Vec<_>>();
    assert_eq!(roots(below), roots(above), "one trust domain, one set of roots");
    stop(world.below).await;
    stop(world.above).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_above_is_away_the_one_below_goes_on_and_recovers() {
    let World { above, below, fake: _fake, dir } = world().await;
    let bound = above.bound;
    stop(above).await;
    let state = &below.state;
    let refused = authorities::prepare(state, authorities::AuthorityKind::X509).await.unwrap_err().to_string();
    assert!(refused.contains(&bound.to_string()), "{refused}");
    assert!(state.authority.upstream_trouble().is_some() && state.is_ready());
    assert!(state.authority.follow(&state.store, state.now()).await.is_err());
    assert_eq!(verified(state, state), Ok(()), "what was followed stays");
    let config = sample::config(&dir.path().join("above"), "");
    let config = crate::config::Config { listen: bound, ..config };
    let again = run::start(config, Shutdown::manual(), clock::system()).await.unwrap();
    let made = authorities::prepare(state, authorities::AuthorityKind::X509).await.unwrap();
    authorities::activate(state, authorities::AuthorityKind::X509, &made.id).await.unwrap();
    assert_eq!(state.authority.upstream_trouble(), None);
    assert_eq!(verified(state, &again.state), Ok(()));
    stop(below).await;
    stop(again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_tainted_above_is_replaced_below() {
    let world = world().await;
    let (above, below) = (&world.above.state, &world.below.state);
    let kind = authorities::AuthorityKind::X509;
    let (old, was) = (above.authority.x509_id().unwrap(), below.authority.x509_id().unwrap());
    let made = authorities::prepare(above, kind).await.unwrap();
    authorities::activate(above, kind, &made.id).await.unwrap();
    authorities::taint(above, &operator(), kind, &old).await.unwrap();
    below.authority.follow(&below.store, below.now()).await.unwrap();
    assert_ne!(below.authority.x509_id(), Some(was.clone()), "another authority signs");
    let flagged: Vec<_> = bundles::own(below).x509.into_iter().filter(|a| a.tainted_at.is_some()).collect();
    let ids: Vec<_> = flagged.iter().map(|a| a.id.as_str()).collect();
    assert!(ids.contains(&old.as_str()) && ids.contains(&was.as_str()), "{ids:?}");
    assert_eq!(verified(below, above), Ok(()));
    authorities::revoke(above, &operator(), kind, &old).await.unwrap();
    below.authority.follow(&below.store, below.now()).await.unwrap();
    assert!(bundles::own(below).x509.iter().all(|a| a.id != old), "out of the bundle above, out of the one below");
    assert_eq!(verified(below, above), Ok(()));
    stop(world.below).await;
    stop(world.above).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_downstream_gets_no_ca_and_publishes_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let above = start(&dir.path().join("above"), "").await;
    let fake = Fake::start();
    identity(&above.state, &fake, "/plain", Rights { admin: true, downstream: false }).await;
    let server = above.bound.to_string();
    let told = sample::refused_parts(&dir.path().join("below"), clock::system(), &section(&server, &fake)).await;
    assert!(told.contains("permission"), "{told}");
    let nested = Nested::new(&sample::domain(), &server, &fake.socket()).unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&KeyPair::generate().unwrap());
    let key = JwtKey { id: "k".into(), spki, not_after: clock::now().plus(600) };
    let told = tokio::task::spawn_blocking(move || nested.publish(&key).unwrap_err().to_string()).await.unwrap();
    assert!(told.contains("permission"), "{told}");
    assert!(!has_key(&above.state, "k"));
    stop(above).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_below_cannot_use_up_the_room_that_our_own_keys_have_above() {
    let world = world().await;
    let (above, below) = (&world.above.state, &world.below.state);
    let id = sample::entry_with(below, "/lowest", DOWNSTREAM).await;
    let entry = below.store.entries("", 1000).await.unwrap().into_iter().find(|entry| entry.spiffe_id == id).unwrap();
    let publish = async |n: usize| {
        let spki = rcgen::PublicKeyData::subject_public_key_info(&KeyPair::generate().unwrap());
        let key = JwtKey { id: format!("k{n}"), spki, not_after: below.now().plus(600) };
        crate::downstream::publish_jwt(below, &entry, key).await
    };
    for n in 0..8 {
        publish(n).await.unwrap();
    }
    let told = publish(8).await.unwrap_err();
    assert!(matches!(told, crate::problem::Problem::Exhausted(_)), "{told}");
    assert!(has_key(above, "k7") && !has_key(above, "k8"), "what is refused here is not published above");
    authorities::prepare(below, authorities::AuthorityKind::Jwt).await.unwrap();
    stop(world.below).await;
    stop(world.above).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_identity_or_a_server_the_line_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start();
    let told = sample::refused_parts(dir.path(), clock::system(), &section("127.0.0.1:1", &fake)).await;
    assert!(told.contains("own SVID") && told.contains("api.sock"), "{told}");
}

#[test]
fn a_bundle_from_above_that_lies_is_refused_with_its_reason() {
    let domain = sample::domain();
    let root = KeyPair::generate().unwrap();
    let der = CertificateParams::default().self_signed(&root).unwrap().der().to_vec();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&root);
    let x509 = |asn1: Vec<u8>| types::X509Certificate { asn1, tainted: false };
    let jwt =
        |id: &str, public_key: Vec<u8>| types::JwtKey { key_id: id.into(), public_key, ..types::JwtKey::default() };
    let good = types::Bundle {
        trust_domain: "example.org".into(),
        x509_authorities: vec![x509(der.clone()), x509(der.clone())],
        jwt_authorities: vec![jwt("a", spki.clone()), jwt("b", vec![1]), jwt("", spki.clone())],
        ..types::Bundle::default()
    };
    let read = followed(&domain, good.clone()).unwrap();
    assert_eq!(read.len(), 2, "each once, and what verifies nothing left out");
    let other = types::Bundle { trust_domain: "other.org".into(), ..good.clone() };
    let empty = types::Bundle { x509_authorities: Vec::new(), ..good.clone() };
    let many = types::Bundle { x509_authorities: vec![x509(der.clone()); 65], ..good.clone() };
    let longer = types::Bundle { x509_authorities: vec![x509([der, vec![0]].concat())], ..good };
    for (bundle, why) in
        [(other, "another trust domain"), (empty, "no X.509 authority"), (many, "more than 64"), (longer, "not DER")]
    {
        let told = followed(&domain, bundle).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
}
