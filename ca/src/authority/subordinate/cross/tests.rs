use std::sync::Arc;

use chancery_daemon::key_type::KeyType;
use chancery_sdk::x509::{X509Bundle, X509BundleSet};

use super::{
    super::{super::issuer::X509Issuer, root},
    *,
};
use crate::{
    keys::{KeyStore, MemoryKeys, Signer},
    sample,
};

const NOW: UnixTime = UnixTime(1_795_305_600);
const DAY: i64 = 86_400;

struct Realm {
    certificate: CertificateDer<'static>,
    key: Arc<dyn Signer>,
}

fn draft<'a>(domain: &'a TrustDomain, spki: &'a [u8], path_len: u8, life: i64) -> Draft<'a> {
    Draft { domain, spki, common_name: None, path_len: Some(path_len), not_before: NOW, not_after: NOW.plus(life) }
}

impl Realm {
    fn new(path_len: u8, life: i64) -> Self {
        let (domain, key) = (sample::domain(), MemoryKeys::default().generate("k", KeyType::EcP256).unwrap());
        Self { certificate: root(&draft(&domain, key.spki(), path_len, life), key.as_ref()).unwrap(), key }
    }

    fn parent(&self) -> Parent {
        Parent::new(&self.certificate, Arc::clone(&self.key)).unwrap()
    }

    fn root(&self) -> Root {
        Root::read(&self.certificate, &sample::domain()).unwrap()
    }

    fn certifies(&self, other: &Self, path_len: u8, life: i64) -> Result<CertificateDer<'static>, SignError> {
        let (domain, root) = (sample::domain(), other.root());
        self.parent().cross_sign(&draft(&domain, &root.spki, path_len, life), &root)
    }
}

fn trusts(root: &Realm) -> X509BundleSet {
    let mut bundle = X509Bundle::new(sample::domain());
    bundle.insert(root.certificate.clone()).unwrap();
    let mut set = X509BundleSet::new();
    set.insert(bundle);
    set
}

#[test]
fn whoever_trusts_the_one_root_follows_the_other_by_the_cross_certificate() {
    let (old, new) = (Realm::new(3, 100 * DAY), Realm::new(2, 200 * DAY));
    let cross = old.certifies(&new, 1, 90 * DAY).unwrap();
    let (domain, key) = (sample::domain(), MemoryKeys::default().generate("k", KeyType::EcP256).unwrap());
    let below = new.parent().sign(&draft(&domain, key.spki(), 0, 50 * DAY)).unwrap();
    let (leaf, _) = sample::leaf(NOW, NOW.plus(DAY), 600);
    let der = X509Issuer::read(&below, &[], NOW.plus(DAY), key).unwrap().sign(&leaf).unwrap();
    let chain = [der.clone(), below.clone(), cross.clone()];
    assert_eq!(x509::verify(&chain, &trusts(&old), NOW.plus(1)).unwrap().id, *leaf.id());
    assert_eq!(x509::verify(&chain, &trusts(&new), NOW.plus(1)).unwrap().id, *leaf.id(), "and the new one alone");
    assert!(x509::verify(&[der, below], &trusts(&old), NOW.plus(1)).is_err(), "not without it");
    let (own, crossed) = (X509Certificate::from_der(&new.certificate), X509Certificate::from_der(&cross));
    let (own, crossed) = (own.unwrap().1, crossed.unwrap().1);
    assert_eq!(own.subject().as_raw(), crossed.subject().as_raw());
    assert_eq!(x509::subject_key_id(&new.certificate), x509::subject_key_id(&cross));
    assert_ne!(own.issuer().as_raw(), crossed.issuer().as_raw());
}

#[test]
fn a_cross_certificate_never_lets_a_root_do_more_than_either_certificate_says() {
    let (old, new) = (Realm::new(2, 100 * DAY), Realm::new(1, 50 * DAY));
    let refused = |path_len, days| old.certifies(&new, path_len, days * DAY).unwrap_err().to_string();
    assert!(
        refused(1, 51).contains("its own certificate") || refused(1, 51).contains("root's own"),
        "{}",
        refused(1, 51)
    );
    assert!(refused(2, 40).contains("path length"));
    let deep = Realm::new(4, 100 * DAY);
    assert!(old.certifies(&deep, 2, DAY).unwrap_err().to_string().contains("not below"));
    let long = Realm::new(1, 200 * DAY);
    assert!(matches!(old.certifies(&long, 1, 101 * DAY), Err(SignError::Issuer { .. })));
    assert!(old.certifies(&old, 1, DAY).unwrap_err().to_string().contains("key of the CA that signs"));
}

#[test]
fn what_is_no_root_of_this_trust_domain_is_not_cross_signed() {
    let root = Realm::new(2, 100 * DAY);
    let (domain, key) = (sample::domain(), MemoryKeys::default().generate("k", KeyType::EcP256).unwrap());
    let below = root.parent().sign(&draft(&domain, key.spki(), 1, DAY)).unwrap();
    let told = |der: &CertificateDer<'_>, domain: &TrustDomain| Root::read(der, domain).unwrap_err().to_string();
    assert!(told(&below, &domain).contains("no root"));
    let mut altered = root.certificate.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    assert!(told(&altered.into(), &domain).contains("no root"));
    let other = TrustDomain::new("other.org").unwrap();
    assert!(told(&root.certificate, &other).contains("another trust domain"));
}
