use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use chancery_daemon::key_type::KeyType;
use chancery_sdk::x509 as sdk;

use super::*;
use crate::{
    authority::{
        chain::Chain,
        subordinate::{Draft, Parent, root},
    },
    keys::{Signer, file},
    sample,
};

const HOUR: i64 = 3600;

/// A CA: its certificate, then those above it, and its key.
struct Ca {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn Signer>,
    pkcs8: Vec<u8>,
}

fn draft<'a>(domain: &'a TrustDomain, key: &'a dyn Signer, path_len: u8, now: UnixTime, life: i64) -> Draft<'a> {
    let (not_before, not_after) = (now, now.plus(life));
    Draft { domain, spki: key.spki(), common_name: None, path_len: Some(path_len), not_before, not_after }
}

fn ca(kind: KeyType, path_len: u8, now: UnixTime, life: i64) -> Ca {
    let (key, pkcs8) = file::fresh(kind).unwrap();
    let der = root(&draft(&sample::domain(), key.as_ref(), path_len, now, life), key.as_ref()).unwrap();
    Ca { chain: vec![der], key, pkcs8: pkcs8.to_vec() }
}

impl Ca {
    fn below(&self, path_len: u8, now: UnixTime, life: i64) -> Ca {
        let (key, pkcs8) = file::fresh(KeyType::EcP256).unwrap();
        let parent = Parent::new(&self.chain[0], Arc::clone(&self.key)).unwrap();
        let der = parent.sign(&draft(&sample::domain(), key.as_ref(), path_len, now, life)).unwrap();
        Ca { chain: [vec![der], self.chain.clone()].concat(), key, pkcs8: pkcs8.to_vec() }
    }

    /// Writes the files; the section of the configuration.
    fn write(&self, dir: &Path, chain: usize) -> String {
        let pem: String = self.chain[..chain].iter().map(|der| file::pem("CERTIFICATE", der)).collect();
        fs::write(dir.join("up.pem"), pem).unwrap();
        fs::write(dir.join("up.key"), file::pem("PRIVATE KEY", &self.pkcs8)).unwrap();
        fs::set_permissions(dir.join("up.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let dir = dir.display();
        format!("[upstream]\nkind = \"disk\"\ncertificate = \"{dir}/up.pem\"\nkey = \"{dir}/up.key\"\n")
    }
}

fn disk(dir: &Path) -> disk::Disk {
    disk::Disk { certified: Certified { certificate: dir.join("up.pem"), bundle: None }, key: dir.join("up.key") }
}

/// Asks and judges; why not.
fn refused(upstream: &disk::Disk, now: UnixTime) -> String {
    let (key, _) = file::fresh(KeyType::EcP256).unwrap();
    let domain = sample::domain();
    let request = Request { domain: &domain, spki: key.spki(), csr: &[], now, life_secs: HOUR };
    let told = upstream.issue(&request).and_then(|issued| issued.judged(&request));
    told.unwrap_err().to_string()
}

#[tokio::test]
async fn svids_below_a_ca_in_files_are_verified_with_its_root() {
    for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let dir = tempfile::tempdir().unwrap();
        let hand = sample::Hand::now();
        let now = hand.read();
        let above = ca(kind, 2, now, 100 * HOUR).below(1, now, 50 * HOUR);
        let extra = above.write(dir.path(), 2);
        let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
        let (leaf, _) = sample::leaf(now, state.authority.x509_not_after().unwrap(), 600);
        let issued = state.authority.sign_x509(&leaf).unwrap();
        assert_eq!(issued.chain.len(), 3, "leaf, authority, the CA in files; no root");
        assert_eq!(issued.chain[2], above.chain[0]);
        let bundles = state.authority.x509_bundles().load_full();
        assert_eq!(bundles.get(&sample::domain()).unwrap().authorities(), &above.chain[1..], "the root alone");
        assert_eq!(sdk::verify(&issued.chain, &bundles, now).unwrap().id, *leaf.id());
        assert!(sdk::verify(&issued.chain[..1], &bundles, now).is_err(), "the chain must go along");
        let published: Vec<_> = crate::bundles::own(&state).x509.into_iter().map(|a| a.public).collect();
        assert_eq!(published, [above.chain[1].to_vec()]);
    }
}

#[tokio::test]
async fn an_authority_never_outlives_what_is_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let hand = sample::Hand::now();
    let now = hand.read();
    let above = ca(KeyType::EcP256, 2, now, 20 * HOUR).below(1, now, 20 * HOUR);
    let extra = above.write(dir.path(), 2);
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
    assert_eq!(state.authority.x509_not_after(), Some(now.plus(20 * HOUR)), "ttl.ca is 24 h");
}

#[tokio::test]
async fn while_the_upstream_does_not_answer_what_signs_goes_on_signing() {
    let dir = tempfile::tempdir().unwrap();
    let hand = sample::Hand::now();
    let now = hand.read();
    let extra = ca(KeyType::EcP256, 1, now, 1000 * HOUR).write(dir.path(), 1);
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
    let id = state.authority.x509_id();
    fs::rename(dir.path().join("up.key"), dir.path().join("away")).unwrap();
    hand.set(now.plus(13 * HOUR)); // the next is due at half of the life
    state.authority.rotate(&state.store, hand.read()).await.unwrap();
    assert_eq!((state.authority.x509_id(), state.authority.published().borrow().authorities.len()), (id, 3));
    let told = state.authority.upstream_trouble().unwrap();
    assert!(told.contains("up.key") && told.contains("lasts 39600 s"), "{told}");
    fs::rename(dir.path().join("away"), dir.path().join("up.key")).unwrap();
    state.authority.rotate(&state.store, hand.read()).await.unwrap();
    assert_eq!(state.authority.published().borrow().authorities.len(), 3, "not asked again at once");
    hand.set(hand.read().plus(2));
    state.authority.rotate(&state.store, hand.read()).await.unwrap();
    assert_eq!(state.authority.published().borrow().authorities.len(), 4, "two of each kind");
    assert_eq!(state.authority.upstream_trouble(), None);
}

#[test]
fn roots_to_publish_may_be_in_a_file_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let now = UnixTime(1_795_305_600);
    let above = ca(KeyType::EcP256, 2, now, 100 * HOUR).below(1, now, 50 * HOUR);
    above.write(dir.path(), 1);
    let alone = disk(dir.path());
    assert!(refused(&alone, now).contains("upstream.bundle"));
    fs::write(dir.path().join("roots.pem"), file::pem("CERTIFICATE", &above.chain[1])).unwrap();
    let certified = Certified { bundle: Some(dir.path().join("roots.pem")), ..alone.certified.clone() };
    let with = disk::Disk { certified, ..alone.clone() };
    let (key, _) = file::fresh(KeyType::EcP256).unwrap();
    let domain = sample::domain();
    let request = Request { domain: &domain, spki: key.spki(), csr: &[], now, life_secs: 60 * HOUR };
    let issued = with.issue(&request).unwrap();
    let (_, end, upstream_id) = issued.judged(&request).unwrap();
    assert_eq!((end, issued.chain.len()), (now.plus(50 * HOUR), 1));
    assert_eq!(upstream_id, hex::encode(sdk::subject_key_id(&above.chain[0]).unwrap()));
    let other = ca(KeyType::EcP256, 2, now, 100 * HOUR);
    fs::write(dir.path().join("roots.pem"), file::pem("CERTIFICATE", &other.chain[0])).unwrap();
    assert!(refused(&with, now).contains("none of its anchors"));
}

#[test]
fn files_that_cannot_sign_a_ca_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let now = UnixTime(1_795_305_600);
    let root = ca(KeyType::EcP256, 1, now, 100 * HOUR);
    root.write(dir.path(), 1);
    let files = disk(dir.path());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&files, now).contains("chmod 600"));
    ca(KeyType::EcP256, 1, now, HOUR).write(dir.path(), 1);
    fs::write(&files.certified.certificate, file::pem("CERTIFICATE", &root.chain[0])).unwrap();
    assert!(refused(&files, now).contains("another key"));
    root.below(0, now, HOUR).write(dir.path(), 2);
    assert!(refused(&files, now).contains("path length 0"));
    root.write(dir.path(), 1);
    assert!(refused(&files, now.plus(101 * HOUR)).contains("ended"));
    fs::remove_file(&files.certified.certificate).unwrap();
    assert!(refused(&files, now).contains("up.pem"));
}

#[test]
fn an_answer_for_another_key_or_domain_is_refused() {
    let now = UnixTime(1_795_305_600);
    let above = ca(KeyType::EcP256, 2, now, 100 * HOUR);
    let below = above.below(0, now, HOUR);
    let good = Issued { certificate: below.chain[0].clone(), chain: Vec::new(), anchors: above.chain.clone() };
    let (domain, other_domain) = (sample::domain(), TrustDomain::new("other.org").unwrap());
    let (other, _) = file::fresh(KeyType::EcP256).unwrap();
    let request = Request { domain: &domain, spki: below.key.spki(), csr: &[], now, life_secs: HOUR };
    good.judged(&request).unwrap();
    assert!(good.judged(&Request { spki: other.spki(), ..request }).is_err());
    assert!(good.judged(&Request { domain: &other_domain, ..request }).is_err());
    assert!(good.judged(&Request { now: now.plus(HOUR), ..request }).is_err());
    assert!(Issued { anchors: Vec::new(), ..good.clone() }.judged(&request).is_err());
    assert!(Issued { chain: vec![above.chain[0].clone(); 4], ..good }.judged(&request).is_err());
}

#[test]
fn a_chain_is_read_back_whole_or_not_at_all() {
    let now = UnixTime(1_795_305_600);
    let above = ca(KeyType::EcP256, 2, now, 100 * HOUR);
    let below = above.below(1, now, HOUR);
    let chain = Chain { sent: vec![below.chain[0].clone()], anchors: above.chain };
    let bytes = chain.to_bytes();
    assert_eq!(Chain::parse(&bytes), Some(chain));
    assert_eq!(Chain::parse(&[]), Some(Chain::default()));
    for end in 1..bytes.len() {
        assert_eq!(Chain::parse(&bytes[..end]), None, "{end}");
    }
}

#[tokio::test]
async fn a_delegated_issuer_signs_leaves_and_the_authority_signs_cas() {
    let dir = tempfile::tempdir().unwrap();
    let hand = sample::Hand::now();
    let now = hand.read();
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), "[keys]\ndelegated_issuer = \"3h\"\n").await;
    let (id, end) = (state.authority.x509_id().unwrap(), state.authority.x509_not_after().unwrap());
    assert_eq!(end, now.plus(3 * HOUR));
    let (leaf, _) = sample::leaf(now, end, 600);
    let issued = state.authority.sign_x509(&leaf).unwrap();
    assert_eq!((issued.chain.len(), issued.authority_id.as_str()), (2, id.as_str()), "recorded under the authority");
    let bundles = state.authority.x509_bundles().load_full();
    let [authority] = bundles.get(&sample::domain()).unwrap().authorities() else { panic!("the authority alone") };
    assert_eq!(sdk::subject_key_id(authority).map(hex::encode), Some(id.clone()));
    assert_eq!(sdk::verify(&issued.chain, &bundles, now).unwrap().id, *leaf.id());
    let key_ids: Vec<_> = issued.chain.iter().filter_map(|der| sdk::authority_key_id(der)).map(hex::encode).collect();
    assert_eq!(key_ids[1], id, "the end of the chain names the authority");
    assert!(Parent::new(&issued.chain[1], Arc::clone(&file::fresh(KeyType::EcP256).unwrap().0)).is_err());
    let (key, _) = file::fresh(KeyType::EcP256).unwrap();
    let request = crate::authority::CaRequest { spki: key.spki(), life_secs: 20 * HOUR };
    let ca = state.authority.sign_ca(&request, now).unwrap();
    assert_eq!(ca.chain.len(), 1);
    assert_eq!(sdk::authority_key_id(&ca.chain[0]).map(hex::encode), Some(id));
    assert_eq!(ca.cert.expires_at, now.plus(20 * HOUR), "not held to the delegated issuer's life");
}

#[tokio::test]
async fn a_delegated_issuer_is_followed_by_the_next_at_half_of_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let hand = sample::Hand::now();
    let now = hand.read();
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), "[keys]\ndelegated_issuer = \"3h\"\n").await;
    let id = state.authority.x509_id();
    for (after, end) in [(HOUR, 3 * HOUR), (HOUR + HOUR / 2, 4 * HOUR + HOUR / 2)] {
        hand.set(now.plus(after));
        state.authority.rotate(&state.store, hand.read()).await.unwrap();
        assert_eq!(state.authority.x509_not_after(), Some(now.plus(end)), "after {after} s");
    }
    assert_eq!(state.authority.x509_id(), id, "under the same authority");
}

#[tokio::test]
async fn a_delegated_issuer_needs_a_place_in_the_path() {
    let hand = sample::Hand::now();
    let now = hand.read();
    let delegated = "[keys]\ndelegated_issuer = \"3h\"\n";
    let roomy = tempfile::tempdir().unwrap();
    let extra = ca(KeyType::EcP256, 2, now, 100 * HOUR).write(roomy.path(), 1) + delegated;
    let (state, _) = sample::parts_with(roomy.path(), hand.clock(), &extra).await;
    let (leaf, _) = sample::leaf(now, state.authority.x509_not_after().unwrap(), 600);
    let issued = state.authority.sign_x509(&leaf).unwrap();
    let bundles = state.authority.x509_bundles().load_full();
    assert_eq!(sdk::verify(&issued.chain, &bundles, now).unwrap().id, *leaf.id());
    let tight = tempfile::tempdir().unwrap();
    let extra = ca(KeyType::EcP256, 1, now, 100 * HOUR).write(tight.path(), 1) + delegated;
    let refused = sample::refused_parts(tight.path(), hand.clock(), &extra).await;
    assert!(refused.contains("path length 0"), "{refused}");
}

#[tokio::test]
async fn a_tainted_authority_below_an_upstream_is_shown_flagged_until_it_is_revoked() {
    use crate::{authorities, gate::Caller, peer::LocalPeer};
    let dir = tempfile::tempdir().unwrap();
    let hand = sample::Hand::now();
    let extra = ca(KeyType::EcP256, 1, hand.read(), 1000 * HOUR).write(dir.path(), 1);
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
    let (operator, kind) = (Caller::Local(LocalPeer { uid: 0, pid: 1 }), authorities::AuthorityKind::X509);
    let old = state.authority.x509_id().unwrap();
    let made = authorities::prepare(&state, kind).await.unwrap();
    authorities::activate(&state, kind, &made.id).await.unwrap();
    let shown =
        || crate::bundles::own(&state).x509.into_iter().map(|a| (a.id, a.tainted_at.is_some())).collect::<Vec<_>>();
    let root = shown();
    assert_eq!(root.len(), 1);
    authorities::taint(&state, &operator, kind, &old).await.unwrap();
    assert!(shown().contains(&(old.clone(), true)) && shown().contains(&root[0]), "{:?}", shown());
    assert!(!state.authority.stands(&old));
    authorities::revoke(&state, &operator, kind, &old).await.unwrap();
    assert_eq!(shown(), root);
}
