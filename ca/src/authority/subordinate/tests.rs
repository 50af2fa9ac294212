use chancery_daemon::key_type::KeyType;
use chancery_sdk::x509::{X509Bundle, X509BundleSet};

use super::{
    super::issuer::{X509Issuer, compare_leaf},
    *,
};
use crate::{
    keys::{KeyStore, MemoryKeys},
    sample,
};

const NOW: UnixTime = UnixTime(1_795_305_600);

fn key(kind: KeyType) -> Arc<dyn Signer> {
    MemoryKeys::default().generate("k", kind).unwrap()
}

fn domain() -> TrustDomain {
    TrustDomain::new("example.org").unwrap()
}

fn draft<'a>(domain: &'a TrustDomain, spki: &'a [u8], path_len: Option<u8>, life: i64) -> Draft<'a> {
    Draft { domain, spki, common_name: None, path_len, not_before: NOW, not_after: NOW.plus(life) }
}

fn made(path_len: Option<u8>, kind: KeyType) -> (Parent, CertificateDer<'static>) {
    let (domain, key) = (domain(), key(kind));
    let certificate = root(&draft(&domain, key.spki(), path_len, 86_400), key.as_ref()).unwrap();
    (Parent::new(&certificate, key).unwrap(), certificate)
}

fn parent(path_len: Option<u8>, kind: KeyType) -> Parent {
    made(path_len, kind).0
}

#[test]
fn a_leaf_below_two_cas_is_verified_by_the_sdk_for_every_kind_of_key() {
    for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let (domain, (root, certificate)) = (domain(), made(Some(1), kind));
        let key = key(kind);
        let below = root.sign(&draft(&domain, key.spki(), Some(0), 3600)).unwrap();
        let (leaf, _) = sample::leaf(NOW, NOW.plus(3600), 600);
        let issuer = X509Issuer::read(&below, &[], NOW.plus(3600), key).unwrap();
        let der = issuer.sign(&leaf).unwrap();
        compare_leaf(&der, &leaf).unwrap();
        let mut bundle = X509Bundle::new(leaf.id().trust_domain());
        bundle.insert(certificate).unwrap();
        let mut set = X509BundleSet::new();
        set.insert(bundle);
        let peer = x509::verify(&[der.clone(), below], &set, NOW.plus(1)).unwrap();
        assert_eq!(peer.id, *leaf.id());
        assert!(x509::verify(&[der], &set, NOW.plus(1)).is_err(), "the chain must go along");
    }
}

#[test]
fn a_ca_never_outlives_the_one_that_signs_it() {
    let (domain, parent, key) = (domain(), parent(None, KeyType::EcP256), key(KeyType::EcP256));
    let refused = parent.sign(&draft(&domain, key.spki(), None, 86_401)).unwrap_err();
    assert!(matches!(refused, SignError::Issuer { .. }), "{refused}");
    let (not_before, not_after) = parent.validity(NOW.plus(80_000), 86_400);
    assert_eq!((not_before, not_after), (NOW.plus(79_990), NOW.plus(86_400)));
    assert_eq!(parent.validity(NOW, 60).0, NOW, "nor begins before it");
    let early = Draft { not_before: NOW.plus(-1), ..draft(&domain, key.spki(), None, 60) };
    assert!(matches!(parent.sign(&early).unwrap_err(), SignError::Profile(_)));
}

#[test]
fn path_lengths_shrink_and_end() {
    let (domain, key) = (domain(), key(KeyType::EcP256));
    let one = parent(Some(1), KeyType::EcP256);
    for too_long in [None, Some(1), Some(2)] {
        assert!(matches!(one.sign(&draft(&domain, key.spki(), too_long, 60)).unwrap_err(), SignError::Profile(_)));
    }
    assert_eq!((one.path_len_below(None), one.path_len_below(Some(3))), (Some(0), Some(0)));
    assert_eq!(parent(None, KeyType::EcP256).path_len_below(Some(2)), Some(2));
    let below = one.sign(&draft(&domain, key.spki(), Some(0), 60)).unwrap();
    let refused = Parent::new(&below, key).unwrap_err();
    assert!(refused.to_string().contains("path length 0"), "{refused}");
}

#[test]
fn what_is_no_ca_or_another_keys_is_no_parent() {
    let (domain, key) = (domain(), key(KeyType::EcP256));
    let (own, certificate) = made(None, KeyType::EcP256);
    assert!(matches!(Parent::new(&certificate, Arc::clone(&key)).unwrap_err(), SignError::Mismatch(_)));
    let (leaf, _) = sample::leaf(NOW, NOW.plus(3600), 600);
    let der = X509Issuer::read(&certificate, &[], NOW.plus(3600), Arc::clone(&own.key)).unwrap().sign(&leaf).unwrap();
    assert!(Parent::new(&der, Arc::clone(&key)).is_err());
    let same = own.sign(&draft(&domain, own.key.spki(), None, 60)).unwrap_err();
    assert!(same.to_string().contains("key of the CA that signs"), "{same}");
    let trailing = CertificateDer::from([certificate.as_ref(), &[0]].concat());
    assert!(Parent::new(&trailing, own.key.clone()).is_err());
}

#[test]
fn a_root_says_what_was_drafted_and_names_no_other_key() {
    let (domain, key) = (domain(), key(KeyType::EcP384));
    let mut wanted = draft(&domain, key.spki(), Some(1), 86_400);
    wanted.common_name = Some("Example Root 2026");
    let der = root(&wanted, key.as_ref()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.subject().as_raw(), parsed.issuer().as_raw());
    assert!(parsed.subject().to_string().contains("CN=Example Root 2026"));
    assert!(parsed.extensions().iter().all(|e| e.oid.to_id_string() != "2.5.29.35"));
    assert!(parsed.extensions().iter().all(|e| e.oid.to_id_string() != "2.5.29.30"), "no name constraints");
    assert!(root(&Draft { path_len: Some(5), ..wanted.clone() }, key.as_ref()).is_err());
    assert!(root(&Draft { not_after: NOW, ..wanted }, key.as_ref()).is_err());
}
