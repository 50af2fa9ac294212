use chancery_sdk::x509::{VerifyError, X509Bundle, X509BundleSet};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use crate::support::{
    NOW, W, td, td2, w,
    x509::{
        Issued, at, check, keys_of_every_kind, permitted_uri_host, root, root_for_key, root_with, root2, trusting, uri,
    },
};

/// Puts an intermediate with one fault between a trusted root and a good leaf, and says what path validation says.
fn intermediate_fault(fault: impl FnOnce(&mut CertificateParams)) -> VerifyError {
    let root = root();
    let intermediate = root.ca_with("intermediate", fault);
    check(&[&intermediate.leaf(), &intermediate], &trusting(&[&root])).unwrap_err()
}

fn path(source: webpki::Error) -> VerifyError {
    VerifyError::Path { id: w(), source }
}

fn unknown() -> VerifyError {
    VerifyError::UnknownAuthority(w())
}

#[test]
fn id_36_svid_of_one_domain_signed_by_another_is_refused() {
    let (root, root2) = (root(), root2());
    let bundles = X509BundleSet::from_iter([root.bundle(td()), root2.bundle(td2())]);
    assert_eq!(check(&[&root2.leaf()], &bundles), Err(unknown()));
    assert!(check(&[&root2.leaf_of("spiffe://other.test/w")], &bundles).is_ok());
}

#[test]
fn id_39_domains_of_one_name_with_different_roots_do_not_trust_each_other() {
    let (one, two) = (root(), root());
    assert!(check(&[&one.leaf()], &trusting(&[&one])).is_ok());
    assert_eq!(check(&[&one.leaf()], &trusting(&[&two])), Err(path(webpki::Error::InvalidSignatureForPublicKey)));
    assert!(check(&[&two.leaf()], &trusting(&[&one])).is_err());
}

#[test]
fn xs_08_ca_certificate_names_no_caller() {
    let root = root();
    let bundles = trusting(&[&root]);
    assert!(check(&[&root], &bundles).is_err());
    let with_path = root.ca_with("intermediate", |params| params.subject_alt_names = vec![uri(W)]);
    assert!(matches!(check(&[&with_path], &bundles), Err(VerifyError::Leaf(_))));
}

#[test]
fn xs_13_path_length_of_an_intermediate_is_honoured() {
    let root = root();
    let limited = root.ca_with("limited", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = limited.ca("below");
    let bundles = trusting(&[&root]);
    assert!(check(&[&limited.leaf(), &limited], &bundles).is_ok());
    let refused = check(&[&below.leaf(), &below, &limited], &bundles);
    assert_eq!(refused, Err(path(webpki::Error::PathLenConstraintViolated)));
}

#[test]
fn xs_13_path_length_of_the_anchor_is_honoured() {
    let root = root_with("root", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = root.ca("below");
    let bundles = trusting(&[&root]);
    assert!(check(&[&root.leaf()], &bundles).is_ok());
    assert_eq!(check(&[&below.leaf(), &below], &bundles), Err(path(webpki::Error::PathLenConstraintViolated)));
}

#[test]
fn xs_13_path_length_of_one_anchor_is_not_lent_by_another() {
    let limited = root_with("limited", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = limited.ca("below");
    let refused = check(&[&below.leaf(), &below], &trusting(&[&limited, &root()]));
    assert_eq!(refused, Err(path(webpki::Error::PathLenConstraintViolated)));
}

#[test]
fn xs_14_upstream_authority_needs_no_spiffe_id() {
    let root = root_with("upstream", |params| params.subject_alt_names.clear());
    assert!(check(&[&root.leaf()], &trusting(&[&root])).is_ok());
}

#[test]
fn xs_17_authorities_may_sign_further_authorities() {
    let root = root();
    let a = root.ca("a");
    let b = a.ca("b");
    assert_eq!(check(&[&b.leaf(), &b, &a], &trusting(&[&root])).unwrap().id, w());
}

#[test]
fn xs_20_uri_name_constraints_are_never_ignored() {
    let root = root();
    let constrained =
        root.ca_with("constrained", |params| params.custom_extensions = vec![permitted_uri_host("other.test")]);
    let refused = check(&[&constrained.leaf(), &constrained], &trusting(&[&root]));
    assert_eq!(refused, Err(path(webpki::Error::NameConstraintViolation)));
}

#[test]
fn xs_20_uri_name_constraints_of_the_anchor_are_never_ignored() {
    let root = root_with("root", |params| params.custom_extensions = vec![permitted_uri_host("other.test")]);
    assert_eq!(check(&[&root.leaf()], &trusting(&[&root])), Err(path(webpki::Error::NameConstraintViolation)));
}

#[test]
fn xs_32_extended_key_usage_of_an_intermediate_does_not_bind_its_leaves() {
    let root = root();
    let server =
        root.ca_with("server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let leaf = server.leaf_with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    assert!(check(&[&leaf, &server], &trusting(&[&root])).is_ok());
}

#[test]
fn xs_33_expired_leaf_is_refused() {
    let root = root();
    let leaf = root.leaf_with(|params| params.not_after = at(NOW.plus(-1)));
    let expired = VerifyError::Expired { not_after: NOW.plus(-1), now: NOW };
    assert_eq!(check(&[&leaf], &trusting(&[&root])), Err(expired));
    let last_second = root.leaf_with(|params| params.not_after = at(NOW));
    assert_eq!(check(&[&last_second], &trusting(&[&root])).unwrap().not_after, NOW);
}

#[test]
fn xs_33_leaf_of_the_future_is_refused() {
    let root = root();
    let leaf = root.leaf_with(|params| params.not_before = at(NOW.plus(1)));
    let early = VerifyError::NotYetValid { not_before: NOW.plus(1), now: NOW };
    assert_eq!(check(&[&leaf], &trusting(&[&root])), Err(early));
}

#[test]
fn xs_33_expired_intermediate_is_refused() {
    let fault = intermediate_fault(|params| params.not_after = at(NOW.plus(-1)));
    assert_eq!(fault, VerifyError::Expired { not_after: NOW.plus(-1), now: NOW });
}

/// RFC 5280 leaves it open; Go's verifier, and so SPIRE, refuses it too.
#[test]
fn xs_33_expired_authority_anchors_nothing() {
    let expired = root_with("root", |params| params.not_after = at(NOW.plus(-1)));
    assert_eq!(check(&[&expired.leaf()], &trusting(&[&expired])), Err(unknown()));
}

#[test]
fn xs_33_unknown_critical_extension_is_refused() {
    let root = root();
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
    unknown.set_criticality(true);
    let leaf = root.leaf_with(|params| params.custom_extensions = vec![unknown]);
    assert_eq!(check(&[&leaf], &trusting(&[&root])), Err(path(webpki::Error::UnsupportedCriticalExtension)));
}

#[test]
fn xs_33_intermediate_that_is_no_ca_is_refused() {
    let fault = intermediate_fault(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(fault, path(webpki::Error::EndEntityUsedAsCa));
}

#[test]
fn xs_33_intermediate_without_key_cert_sign_is_refused() {
    let fault = intermediate_fault(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(fault, path(webpki::Error::EndEntityUsedAsCa));
}

#[test]
fn xs_33_authority_without_key_cert_sign_anchors_nothing() {
    let root = root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    assert_eq!(check(&[&root.leaf()], &trusting(&[&root])), Err(unknown()));
}

/// A leaf published as authority (by error or by malice) signs nobody, not even itself.
#[test]
fn xs_33_leaf_in_a_bundle_anchors_nothing() {
    let leaf = root_with("leaf", |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(W)];
    });
    assert_eq!(check(&[&leaf], &trusting(&[&leaf])), Err(unknown()));
}

#[test]
fn xs_34_roots_come_from_the_bundle_of_the_leafs_domain_only() {
    let (root, root2) = (root(), root2());
    assert_eq!(check(&[&root.leaf()], &trusting(&[&root2])), Err(unknown()));
    let foreign_only = X509BundleSet::from(root.bundle(td2()));
    assert_eq!(check(&[&root.leaf()], &foreign_only), Err(VerifyError::NoBundleForTrustDomain(td())));
    assert_eq!(check(&[&root.leaf()], &X509BundleSet::new()), Err(VerifyError::NoBundleForTrustDomain(td())));
}

#[test]
fn xs_35_root_that_the_peer_sends_is_no_anchor() {
    let (trusted, own) = (root(), root_with("own", |_| {}));
    assert_eq!(check(&[&own.leaf(), &own], &trusting(&[&trusted])), Err(unknown()));
}

#[test]
fn xs_36_intermediate_in_the_bundle_is_an_anchor() {
    let intermediate = root().ca("intermediate");
    assert!(check(&[&intermediate.leaf()], &trusting(&[&intermediate])).is_ok());
}

#[test]
fn xs_38_leaf_comes_first_and_a_root_at_the_end_is_tolerated() {
    let root = root();
    let intermediate = root.ca("intermediate");
    let leaf = intermediate.leaf();
    let bundles = trusting(&[&root]);
    assert!(check(&[&intermediate, &leaf], &bundles).is_err());
    assert!(check(&[&leaf, &intermediate, &root], &bundles).is_ok());
}

#[test]
fn xs_48_domain_without_x509_authorities_has_no_leaves() {
    let empty = X509BundleSet::from(X509Bundle::new(td()));
    assert_eq!(check(&[&root().leaf()], &empty), Err(VerifyError::NoBundleForTrustDomain(td())));
}

#[test]
fn tb_14_leaf_is_refused_after_the_bundle_became_empty() {
    let root = root();
    let leaf = root.leaf();
    let mut bundles = trusting(&[&root]);
    assert!(check(&[&leaf], &bundles).is_ok());
    bundles.insert(X509Bundle::new(td()));
    assert_eq!(check(&[&leaf], &bundles), Err(VerifyError::NoBundleForTrustDomain(td())));
}

#[test]
fn tb_25_bundle_is_chosen_by_the_domain_of_the_svid() {
    let (root, root2) = (root(), root2());
    let bundles = X509BundleSet::from_iter([root.bundle(td()), root2.bundle(td2())]);
    assert_eq!(check(&[&root.leaf()], &bundles).unwrap().id, w());
    assert!(check(&[&root.leaf_of("spiffe://other.test/w")], &bundles).is_err());
}

#[test]
fn cf_04_foreign_authoritys_own_san_is_not_parsed() {
    let root = root_with("root", |params| params.subject_alt_names = vec![uri("spiffe://example.org/")]);
    assert!(check(&[&root.leaf()], &trusting(&[&root])).is_ok());
}

#[test]
fn cf_05_digital_signature_on_an_authority_is_accepted() {
    let root = root_with("root", |params| params.key_usages.push(KeyUsagePurpose::DigitalSignature));
    assert!(check(&[&root.leaf()], &trusting(&[&root])).is_ok());
}

#[test]
fn authorities_with_keys_of_every_kind_are_verified() {
    for key in keys_of_every_kind() {
        let root = root_for_key(key);
        assert!(check(&[&root.leaf()], &trusting(&[&root])).is_ok(), "{:?}", root.key.algorithm());
    }
}

/// A rotation leaves two authorities of one name; each signs, and neither hides the other.
#[test]
fn authorities_of_one_name_stand_side_by_side() {
    let (old, new) = (root(), root());
    let bundles = trusting(&[&old, &new]);
    assert!(check(&[&old.leaf()], &bundles).is_ok());
    assert!(check(&[&new.leaf()], &bundles).is_ok());
}

#[test]
fn more_than_four_intermediates_are_refused_unread() {
    let root = root();
    let mut chain: Vec<Issued> = vec![root.ca("1")];
    for name in ["2", "3", "4", "5"] {
        let next = chain.last().unwrap().ca(name);
        chain.push(next);
    }
    let longest = |count: usize| {
        let leaf = chain[count - 1].leaf();
        let links: Vec<_> = std::iter::once(&leaf).chain(chain[..count].iter().rev()).collect();
        check(&links, &trusting(&[&root]))
    };
    assert!(longest(4).is_ok());
    assert_eq!(longest(5), Err(VerifyError::TooManyIntermediates { count: 5, max: 4 }));
}

#[test]
fn peer_carries_the_facts_of_its_leaf() {
    let root = root();
    let leaf = root.leaf_with(|params| params.serial_number = Some(vec![0x01, 0x00].into()));
    let peer = check(&[&leaf], &trusting(&[&root])).unwrap();
    assert_eq!((peer.id, peer.not_after, peer.serial_decimal.as_str()), (w(), NOW.plus(1800), "256"));
    assert_eq!(peer.leaf, leaf.der);
    assert_eq!(check(&[], &trusting(&[&root])), Err(VerifyError::EmptyChain));
}
