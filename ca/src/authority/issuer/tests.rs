//! What certificates look like, row by row; and that a certificate of another look is refused by `compare`.

use rcgen::{
    CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SubjectPublicKeyInfo,
};
use x509_parser::prelude::{GeneralName, X509Extension};

use super::*;
use crate::{sample, store::AuthorityKind, store::AuthorityState};

const T0: UnixTime = UnixTime(1_800_000_000);
const END: UnixTime = UnixTime(1_800_086_400);
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
const NAME_CONSTRAINTS: &str = "2.5.29.30";

/// An authority and a leaf that it signed.
struct Pair {
    authority: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
}

fn pair() -> Pair {
    let key = MemoryKeys::default().generate("k", KeyType::EcP256).unwrap();
    let der = self_signed(&sample::domain(), &key, T0, END).unwrap();
    let authority = Authority {
        id: "a".into(),
        kind: AuthorityKind::X509,
        server: "s1".into(),
        state: AuthorityState::Active,
        public: der.to_vec(),
        not_before: T0,
        not_after: END,
        label: "k".into(),
        chain: Vec::new(),
        upstream_id: String::new(),
        published_at: T0,
        tainted_at: None,
    };
    let (leaf, _) = sample::leaf(T0, END, 600);
    Pair { authority: der, leaf: X509Issuer::new(&authority, key).unwrap().sign(&leaf).unwrap() }
}

fn parsed(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

fn extension<'a>(cert: &'a X509Certificate<'a>, oid: &str) -> Option<&'a X509Extension<'a>> {
    cert.extensions().iter().find(|e| e.oid.to_id_string() == oid)
}

fn uris(cert: &X509Certificate<'_>) -> Vec<String> {
    let san = cert.subject_alternative_name().unwrap().unwrap();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(text) => (*text).to_owned(),
        other => panic!("{other:?}"),
    };
    san.value.general_names.iter().map(uri).collect()
}

/// The part that `compare` finds wrong in a leaf signed with changed parameters.
fn told(change: impl FnOnce(&mut CertificateParams)) -> Option<&'static str> {
    let (leaf, _) = sample::leaf(T0, END, 600);
    let public = SubjectPublicKeyInfo::from_der(leaf.spki_der()).unwrap();
    let mut params = profile::leaf(&leaf, &public).unwrap();
    change(&mut params);
    let key = MemoryKeys::default().generate("k", KeyType::EcP256).unwrap();
    let issuer = Issuer::from_params(&CertificateParams::default(), RcgenKey::new(&key).unwrap()).sign(params, &public);
    match compare_leaf(&issuer, &leaf) {
        Ok(()) => None,
        Err(SignError::Mismatch(part)) => Some(part),
        Err(other) => panic!("{other}"),
    }
}

/// Signs whatever the parameters say.
trait Sign {
    fn sign(self, params: CertificateParams, public: &SubjectPublicKeyInfo) -> CertificateDer<'static>;
}

impl Sign for Issuer<'_, RcgenKey> {
    fn sign(self, params: CertificateParams, public: &SubjectPublicKeyInfo) -> CertificateDer<'static> {
        params.signed_by(public, &self).unwrap().der().clone()
    }
}

#[test]
fn id_31_id_32_id_33_xs_15_xs_16_authority_is_the_leafs_trust_domain_without_a_path() {
    let pair = pair();
    assert_eq!(uris(&parsed(&pair.authority)), ["spiffe://example.org"]);
    assert!(uris(&parsed(&pair.leaf))[0].starts_with("spiffe://example.org/"));
}

#[test]
fn cf_03_own_authority_always_has_the_san() {
    assert_eq!(uris(&parsed(&pair().authority)).len(), 1);
}

#[test]
fn id_37_xs_44_authority_is_signed_by_itself() {
    let pair = pair();
    let cert = parsed(&pair.authority);
    assert_eq!(cert.issuer(), cert.subject());
    cert.verify_signature(None).unwrap();
}

#[test]
fn xs_11_authority_says_that_it_is_one() {
    let pair = pair();
    let cert = parsed(&pair.authority);
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
}

#[test]
fn xs_12_leaf_says_explicitly_that_it_is_no_authority() {
    let pair = pair();
    assert_eq!(extension(&parsed(&pair.leaf), BASIC_CONSTRAINTS).unwrap().value, [0x30, 0x00]);
    assert_eq!(told(|p| p.is_ca = IsCa::NoCa), Some("basicConstraints"));
}

#[test]
fn xs_19_authority_has_no_name_constraints() {
    assert!(extension(&parsed(&pair().authority), NAME_CONSTRAINTS).is_none());
}

#[test]
fn xs_22_key_usage_is_critical_on_both() {
    let pair = pair();
    for der in [&pair.authority, &pair.leaf] {
        assert!(parsed(der).key_usage().unwrap().unwrap().critical);
    }
    // keyUsage digitalSignature, not critical: a BIT STRING with its first bit set.
    let lax = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
    let part = told(|p| {
        p.key_usages.clear();
        p.custom_extensions.push(lax);
    });
    assert_eq!(part, Some("keyUsage"));
}

#[test]
fn xs_23_authority_signs_certificates_and_lists_and_nothing_else() {
    assert_eq!(parsed(&pair().authority).key_usage().unwrap().unwrap().value.flags, 0x60);
}

#[test]
fn xs_26_leaf_that_may_sign_certificates_or_lists_is_not_released() {
    assert_eq!(parsed(&pair().leaf).key_usage().unwrap().unwrap().value.flags, 1);
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(told(|p| p.key_usages.push(usage)), Some("keyUsage"));
    }
}

#[test]
fn xs_27_leaf_has_extended_key_usages() {
    assert!(extension(&parsed(&pair().leaf), EXTENDED_KEY_USAGE).is_some());
    assert_eq!(told(|p| p.extended_key_usages.clear()), Some("extendedKeyUsage"));
}

#[test]
fn xs_28_leaf_for_servers_only_or_clients_only_is_not_released() {
    for one in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        assert_eq!(told(|p| p.extended_key_usages = vec![one]), Some("extendedKeyUsage"));
    }
    assert_eq!(told(|_| ()), None);
}
