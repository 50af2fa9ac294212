use std::collections::VecDeque;

use chancery_core::{
    lifetime::{Limits, Profile},
    mint,
};
use chancery_daemon::public_key::PublicKey;
use chancery_sdk::{
    jwt::{JwtBundle, JwtBundleSet, JwtSvid},
    x509,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::{keys::MemoryKeys, sample};

const T0: UnixTime = UnixTime(1_800_000_000);

fn settings(life_secs: i64, publish_delay_secs: i64) -> Settings {
    Settings {
        trust_domain: sample::domain(),
        server: "s1".into(),
        life_secs,
        publish_delay_secs,
        refresh_hint_secs: 300,
        jwt_issuer: None,
        x509_key_type: KeyType::EcP256,
        jwt_key_type: KeyType::EcP256,
        longest_ttl_secs: 60,
        destroy_after_secs: 3600,
        missing_patience_secs: 0,
        delegated_issuer_secs: None,
        upstream: None,
        offline: None,
    }
}

async fn manager(store: &Store, keys: Arc<dyn KeyStore>) -> AuthorityManager {
    let manager = AuthorityManager::new(settings(86_400, 30), keys);
    manager.rotate(store, T0).await.unwrap();
    manager
}

fn only_authority(manager: &AuthorityManager, kind: AuthorityKind) -> Authority {
    let published = manager.published().borrow().clone();
    let mut of: Vec<_> = published.authorities.iter().filter(|a| a.kind == kind).cloned().collect();
    assert_eq!(of.len(), 1);
    of.remove(0)
}

#[tokio::test]
async fn xs_10_to_16_authority_is_a_ca_with_the_trust_domain_as_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&sample::store(dir.path()).await, Arc::new(MemoryKeys::default())).await;
    let der = only_authority(&manager, AuthorityKind::X509).public;
    let (_, cert) = X509Certificate::from_der(&der).unwrap();
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign() && usage.value.flags == 0x60);
    assert!(cert.basic_constraints().unwrap().unwrap().value.ca);
    let names = &cert.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(format!("{names:?}"), "[URI(\"spiffe://example.org\")]");
    assert_eq!(cert.subject(), cert.issuer());
    assert!(cert.subject().iter_attributes().any(|a| a.attr_type().to_id_string() == "2.5.4.5"));
    let extensions: Vec<_> = cert.extensions().iter().map(|e| e.oid.to_id_string()).collect();
    assert!(!extensions.contains(&"2.5.29.37".into()) && !extensions.contains(&"2.5.29.30".into()));
}

#[tokio::test]
async fn xs_01_to_28_leaf_says_what_was_decided_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&sample::store(dir.path()).await, Arc::new(MemoryKeys::default())).await;
    let (leaf, _) = sample::leaf(T0, manager.x509_not_after().unwrap(), 600);
    let issued = manager.sign_x509(&leaf).unwrap();
    let [der] = issued.chain.as_slice() else { panic!("one certificate, no root") };
    issuer::compare_leaf(der, &leaf).unwrap();
    let (_, cert) = X509Certificate::from_der(der).unwrap();
    let basic = cert.extensions().iter().find(|e| e.oid.to_id_string() == "2.5.29.19").unwrap();
    assert_eq!(basic.value, [0x30, 0x00]);
    assert_eq!(cert.key_usage().unwrap().unwrap().value.flags, 1);
    assert!(cert.tbs_certificate.raw_serial().len() <= 20 && cert.tbs_certificate.raw_serial()[0] < 0x80);
    let peer = x509::verify(&issued.chain, &manager.x509_bundles().load(), T0).unwrap();
    assert_eq!((peer.id.as_str(), peer.serial_decimal), ("spiffe://example.org/spire/server", issued.cert.serial));
    let authority = only_authority(&manager, AuthorityKind::X509).public;
    assert_eq!(x509::subject_key_id(&authority).map(hex::encode), manager.x509_id());
}

#[tokio::test]
async fn xs_07_empty_subject_makes_the_names_critical_and_the_check_sees_a_changed_part() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&sample::store(dir.path()).await, Arc::new(MemoryKeys::default())).await;
    let end = manager.x509_not_after().unwrap();
    let ((one, _), (other, _)) = (sample::leaf(T0, end, 600), sample::leaf(T0, end, 600));
    let signed = manager.sign_x509(&one).unwrap();
    assert!(matches!(issuer::compare_leaf(&signed.chain[0], &other), Err(SignError::Mismatch("serial number"))));
}

#[tokio::test]
async fn leaf_never_outlives_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&sample::store(dir.path()).await, Arc::new(MemoryKeys::default())).await;
    let end = manager.x509_not_after().unwrap();
    let (late, _) = sample::leaf(T0, end.plus(1), 86_401);
    assert!(matches!(manager.sign_x509(&late), Err(SignError::Issuer { .. })));
}

#[tokio::test]
async fn a_restart_goes_on_with_the_authority_whose_key_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample::store(dir.path()).await;
    let keys: Arc<dyn KeyStore> = Arc::new(crate::keys::DiskKeys::open(dir.path().join("keys")).unwrap());
    let first = manager(&store, Arc::clone(&keys)).await.x509_id();
    assert_eq!(manager(&store, keys).await.x509_id(), first);
    let lost = manager(&store, Arc::new(MemoryKeys::default())).await;
    assert_ne!(lost.x509_id(), first);
    // What the lost one signed still verifies until its end.
    assert_eq!(lost.published().borrow().authorities.iter().filter(|a| a.kind == AuthorityKind::X509).count(), 2);
}

/// Twelve lives of two minutes, second by second in steps of four: what is signed at any moment verifies, from
/// then to its end, for a consumer whose bundle is up to `DELAY` seconds old.
#[tokio::test]
async fn no_svid_ever_fails_to_verify_while_authorities_rotate() {
    const LIFE: i64 = 120;
    const DELAY: i64 = 8;
    const TTL: i64 = 20;
    const STEP: i64 = 4;
    let dir = tempfile::tempdir().unwrap();
    let store = sample::store(dir.path()).await;
    let manager = AuthorityManager::new(settings(LIFE, DELAY), Arc::new(MemoryKeys::default()));
    let mut bundles: VecDeque<Arc<X509BundleSet>> = VecDeque::new();
    let mut alive: Vec<(UnixTime, IssuedX509)> = Vec::new();
    let (mut issuers, mut sequence) = (std::collections::BTreeSet::new(), 0);
    for now in (0..12 * LIFE).step_by(usize::try_from(STEP).unwrap()).map(|s| T0.plus(s)) {
        manager.rotate(&store, now).await.unwrap();
        let published = manager.published().borrow().clone();
        assert!(published.sequence >= sequence && published.authorities.len() <= 6);
        sequence = published.sequence;
        bundles.push_back(manager.x509_bundles().load_full());
        if bundles.len() > usize::try_from(DELAY / STEP).unwrap() + 1 {
            bundles.pop_front();
        }
        let (leaf, _) = sample::leaf(now, manager.x509_not_after().unwrap(), TTL);
        assert_eq!(leaf.not_after(), now.plus(TTL), "an authority with too little left still signs");
        let issued = manager.sign_x509(&leaf).unwrap();
        issuers.insert(issued.authority_id.clone());
        alive.push((leaf.not_after(), issued));
        alive.retain(|(end, _)| now <= *end);
        for (_, svid) in &alive {
            for stale in &bundles {
                x509::verify(&svid.chain, stale, now).unwrap();
            }
        }
    }
    assert!(issuers.len() >= 12, "{} authorities signed", issuers.len());
}

#[tokio::test]
async fn tb_03_tb_05_tb_07_sequence_grows_with_every_change_of_the_bundle_and_with_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample::store(dir.path()).await;
    let manager = manager(&store, Arc::new(MemoryKeys::default())).await;
    let bundle = || {
        let published = manager.published().borrow().clone();
        let mut ids: Vec<_> = published.authorities.iter().map(|a| a.id.clone()).collect();
        ids.sort();
        (published.sequence, ids, published.refresh_hint)
    };
    let first = bundle();
    assert!(first.0 > 0 && first.2 == 300);
    manager.rotate(&store, T0.plus(60)).await.unwrap();
    assert_eq!(bundle(), first);
    let mut last = first;
    // Half of its life: successors are published; one life and the grace: the old ones go.
    for after in [43_200, 72_000, 86_400 + 60] {
        manager.rotate(&store, T0.plus(after)).await.unwrap();
        let now = bundle();
        assert_eq!(now.0 > last.0, now.1 != last.1, "{last:?} {now:?}");
        last = now;
    }
    assert!(last.0 > 1);
}

#[tokio::test]
async fn tb_23_no_key_serves_two_kinds_of_svid() {
    let dir = tempfile::tempdir().unwrap();
    let manager = manager(&sample::store(dir.path()).await, Arc::new(MemoryKeys::default())).await;
    let (x509, jwt) =
        (only_authority(&manager, AuthorityKind::X509).public, only_authority(&manager, AuthorityKind::Jwt).public);
    assert_ne!(x509::spki_of(&x509).unwrap(), jwt);
}

#[tokio::test]
async fn authorities_of_every_key_type_issue_certificates_and_tokens_that_the_sdk_verifies() {
    for (kind, alg) in KeyType::ALL.into_iter().zip(["ES256", "ES384", "RS256", "RS256", "RS256"]) {
        let dir = tempfile::tempdir().unwrap();
        let store = sample::store(dir.path()).await;
        let settings = Settings { x509_key_type: kind, jwt_key_type: kind, ..settings(86_400, 30) };
        let manager = AuthorityManager::new(settings, Arc::new(MemoryKeys::default()));
        manager.rotate(&store, T0).await.unwrap();
        let (leaf, _) = sample::leaf(T0, manager.x509_not_after().unwrap(), 600);
        let issued = manager.sign_x509(&leaf).unwrap();
        let peer = x509::verify(&issued.chain, &manager.x509_bundles().load(), T0).unwrap();
        assert_eq!(&peer.id, leaf.id(), "{kind}");
        let authority = only_authority(&manager, AuthorityKind::X509).public;
        let (_, cert) = X509Certificate::from_der(&authority).unwrap();
        cert.verify_signature(None).unwrap();
        assert_eq!(PublicKey::from_spki(&x509::spki_of(&authority).unwrap()).unwrap().kind(), kind);
        token_verifies(&manager, alg);
    }
}

/// A token of this manager, judged by the SDK with the published key.
fn token_verifies(manager: &AuthorityManager, alg: &str) {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let id = chancery_sdk::id::SpiffeId::from_segments(&sample::domain(), &["db"]).unwrap();
    let limits = Limits { issuer: manager.jwt_not_after().unwrap(), node: None };
    let profile = Profile::new(300, 300).unwrap();
    let grant = mint::jwt(&id, &["a".into()], &sample::domain(), profile, 0, limits, T0).unwrap();
    let issued = manager.sign_jwt(&grant).unwrap();
    let authority = only_authority(manager, AuthorityKind::Jwt);
    let mut bundle = JwtBundle::new(sample::domain());
    bundle.insert(&authority.id, &authority.public).unwrap();
    let mut set = JwtBundleSet::new();
    set.insert(bundle);
    assert_eq!(JwtSvid::verify(&issued.token, &set, "a", T0, 0).unwrap().id, id);
    let header = URL_SAFE_NO_PAD.decode(issued.token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, serde_json::json!({ "alg": alg, "kid": authority.id, "typ": "JWT" }));
}

#[tokio::test]
async fn new_key_type_is_for_the_next_authority_and_the_old_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = sample::store(dir.path()).await;
    let keys: Arc<dyn KeyStore> = Arc::new(MemoryKeys::default());
    let first = manager(&store, Arc::clone(&keys)).await.x509_id();
    let settings = Settings { x509_key_type: KeyType::EcP384, ..settings(86_400, 30) };
    let changed = AuthorityManager::new(settings, keys);
    changed.rotate(&store, T0.plus(1)).await.unwrap();
    assert_eq!(changed.x509_id(), first);
    for after in [43_200, 72_000] {
        changed.rotate(&store, T0.plus(after)).await.unwrap();
    }
    let active = changed.x509_id().unwrap();
    let published = changed.published().borrow().clone();
    let active = published.authorities.iter().find(|a| a.id == active).unwrap();
    let spki = x509::spki_of(&active.public).unwrap();
    assert_eq!(PublicKey::from_spki(&spki).unwrap().kind(), KeyType::EcP384);
}
