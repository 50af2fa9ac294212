use std::sync::Arc;

use chancery_core::entry::Rights;
use chancery_sdk::time::UnixTime;
use chancery_sdk::x509::{self, X509Bundle, X509BundleSet};
use rcgen::{CertificateParams, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::{
    sample,
    state::State,
    store::{EntryRef, Fact},
};

struct World {
    state: Arc<State>,
    entry: Entry,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), sample::Hand::now().clock()).await;
    let id = sample::entry_with(&state, "/below", Rights { admin: false, downstream: true }).await;
    let entry = state.store.entries("", 1000).await.unwrap().into_iter().find(|e| e.spiffe_id == id).unwrap();
    World { state, entry, _dir: dir }
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// A leaf of the downstream server's own making.
fn leaf(world: &World, ca: &CertificateDer<'static>, key: KeyPair, path: &str) -> CertificateDer<'static> {
    let issuer = Issuer::from_ca_cert_der(ca, key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://example.org{path}").try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let from = time::OffsetDateTime::from_unix_timestamp(world.state.now().0).unwrap();
    (params.not_before, params.not_after) = (from, from + time::Duration::minutes(5));
    params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()
}

async fn recorded(state: &State) -> usize {
    let events = state.store.events(None, 1000).await.unwrap();
    events.iter().filter(|e| String::from_utf8_lossy(&e.bytes).contains("ca.issued")).count()
}

#[tokio::test]
async fn a_leaf_of_a_downstream_server_is_verified_with_our_bundle() {
    let world = world().await;
    let before = recorded(&world.state).await;
    let key = KeyPair::generate().unwrap();
    let issued = x509_ca(&world.state, &world.entry, &csr(&key), 0).await.unwrap();
    assert_eq!(recorded(&world.state).await, before + 1);
    assert_eq!(issued.authorities, roots(&world.state));
    let der = leaf(&world, &issued.chain[0], key, "/agent/a");
    let mut bundle = X509Bundle::new(sample::domain());
    for authority in issued.authorities {
        bundle.insert(CertificateDer::from(authority)).unwrap();
    }
    let mut set = X509BundleSet::new();
    set.insert(bundle);
    let chain: Vec<_> = std::iter::once(der).chain(issued.chain).collect();
    let peer = x509::verify(&chain, &set, world.state.now()).unwrap();
    assert_eq!(peer.id.path(), "/agent/a");
}

#[tokio::test]
async fn a_downstream_ca_lives_as_long_as_asked_and_never_longer_than_its_upstream() {
    let world = world().await;
    let end = world.state.authority.x509_not_after().unwrap();
    let now = world.state.now();
    for (asked, expected) in [(3600, now.plus(3600)), (0, end), (-5, end), (10 * 86_400, end)] {
        let csr = csr(&KeyPair::generate().unwrap());
        let issued = x509_ca(&world.state, &world.entry, &csr, asked).await.unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.chain[0]).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), expected.0, "{asked}");
        assert!(parsed.validity().not_before.timestamp() <= now.0);
    }
}

#[tokio::test]
async fn a_request_that_proves_nothing_gets_nothing() {
    let world = world().await;
    let before = recorded(&world.state).await;
    let mut altered = csr(&KeyPair::generate().unwrap());
    *altered.last_mut().unwrap() ^= 1;
    for bad in [altered, Vec::new(), b"csr".to_vec()] {
        let refused = x509_ca(&world.state, &world.entry, &bad, 0).await.unwrap_err();
        assert!(matches!(refused, Problem::Invalid(_)), "{refused}");
    }
    assert_eq!(recorded(&world.state).await, before);
}

#[tokio::test]
async fn an_entry_that_went_meanwhile_gets_nothing() {
    let world = world().await;
    let gone = Fact::DeleteEntry(EntryRef { id: world.entry.id.clone() });
    world.state.commit(gone).await.unwrap().done().unwrap();
    let csr = csr(&KeyPair::generate().unwrap());
    x509_ca(&world.state, &world.entry, &csr, 0).await.unwrap_err();
    assert_eq!(recorded(&world.state).await, 0);
}

fn jwt_key(id: &str, not_after: UnixTime) -> JwtKey {
    use rcgen::PublicKeyData;
    JwtKey { id: id.into(), spki: KeyPair::generate().unwrap().subject_public_key_info(), not_after }
}

#[tokio::test]
async fn a_jwt_key_from_below_is_published_with_ours_for_as_long_as_our_authorities_live() {
    let world = world().await;
    let now = world.state.now();
    let own = bundles::own(&world.state);
    let short = jwt_key("short", now.plus(600));
    let answer = publish_jwt(&world.state, &world.entry, short.clone()).await.unwrap();
    let told: Vec<_> = answer.iter().map(|a| (a.id.as_str(), a.not_after)).collect();
    assert_eq!(told, [(own.jwt[0].id.as_str(), own.jwt[0].not_after), ("short", now.plus(600))]);
    let long = jwt_key("long", now.plus(400 * 86_400));
    publish_jwt(&world.state, &world.entry, long).await.unwrap();
    let after = bundles::own(&world.state);
    let end = after.jwt.iter().find(|a| a.id == "long").unwrap().not_after;
    assert_eq!(end, now.plus(86_400), "ttl.ca");
    assert_eq!((after.x509.len(), after.sequence), (own.x509.len(), own.sequence + 2));
    assert!(after.jwt.iter().any(|a| a.id == "short" && a.public == short.spki));
}

#[tokio::test]
async fn keys_from_below_that_could_not_be_told_apart_or_verify_nothing_are_refused() {
    let world = world().await;
    let now = world.state.now();
    let good = jwt_key("k", now.plus(600));
    publish_jwt(&world.state, &world.entry, good.clone()).await.unwrap();
    let own = bundles::own(&world.state).jwt[0].id.clone();
    for (key, why) in [
        (jwt_key("", now.plus(600)), "key ID"),
        (jwt_key(&"k".repeat(129), now.plus(600)), "key ID"),
        (jwt_key("a b", now.plus(600)), "key ID"),
        (jwt_key("x", now), "ended"),
        (JwtKey { id: "x".into(), spki: vec![1, 2, 3], ..good.clone() }, "P-256"),
        (jwt_key("k", now.plus(600)), "another key"),
        (jwt_key(&own, now.plus(600)), "another key"),
    ] {
        let told = publish_jwt(&world.state, &world.entry, key.clone()).await.unwrap_err().to_string();
        assert!(told.contains(why), "{key:?}: {told}");
    }
    assert_eq!(bundles::own(&world.state).jwt.len(), 2);
    let gone = Fact::DeleteEntry(EntryRef { id: world.entry.id.clone() });
    world.state.commit(gone).await.unwrap().done().unwrap();
    let told = publish_jwt(&world.state, &world.entry, jwt_key("y", now.plus(600))).await.unwrap_err();
    assert!(matches!(told, Problem::NotFound(_)), "{told}");
}
