use chancery_sdk::{
    id::IdError,
    x509::{CertificateError, LeafError, VerifyError, leaf_id},
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
};

use crate::support::{
    W, w,
    x509::{check, raw_uri_san, root, trusting, uri},
};

/// Issues a leaf with one fault under a trusted root, and says how verification refuses it.
///
/// The path and the shape check are asked both, so that neither can be dropped.
fn refusal(fault: impl FnOnce(&mut CertificateParams)) -> LeafError {
    let root = root();
    let leaf = root.leaf_with(fault);
    let shape = leaf_id(&leaf.der).unwrap_err();
    assert_eq!(check(&[&leaf], &trusting(&[&root])), Err(VerifyError::Leaf(shape)));
    shape
}

fn accepted(change: impl FnOnce(&mut CertificateParams)) {
    let root = root();
    let leaf = root.leaf_with(change);
    assert_eq!(check(&[&leaf], &trusting(&[&root])).unwrap().id, w());
    assert_eq!(leaf_id(&leaf.der), Ok(w()));
}

fn with_uri(text: &str) -> LeafError {
    refusal(|params| params.subject_alt_names = vec![uri(text)])
}

#[test]
fn xs_02_more_than_one_uri_san_is_refused() {
    for (one, two) in [(W, W), (W, "https://x"), ("https://x", W)] {
        let fault = refusal(|params| params.subject_alt_names = vec![uri(one), uri(two)]);
        assert_eq!(fault, LeafError::TooManyUriSans(2), "{one}, {two}");
    }
}

/// A URI that is no UTF-8 still counts: it must not hide beside a good one.
#[test]
fn xs_02_second_uri_that_is_no_text_counts() {
    let san = [&[0x30, 0x1b, 0x86, 22], W.as_bytes(), &[0x86, 1, 0xff]].concat();
    let fault = refusal(|params| {
        params.subject_alt_names.clear();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], san)];
    });
    assert_eq!(fault, LeafError::TooManyUriSans(2));
}

#[test]
fn xs_03_leaf_without_uri_san_is_refused() {
    let dns = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::DnsName("w.example.org".try_into().unwrap())]
    };
    assert_eq!(refusal(dns), LeafError::NoUriSan);
    assert_eq!(refusal(|params| params.subject_alt_names.clear()), LeafError::NoUriSan);
}

#[test]
fn xs_04_other_sans_may_stand_beside_the_id() {
    accepted(|params| {
        params.subject_alt_names = vec![
            SanType::DnsName("a.example.org".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            uri(W),
            SanType::DnsName("b.example.org".try_into().unwrap()),
            SanType::Rfc822Name("w@example.org".try_into().unwrap()),
        ];
    });
}

#[test]
fn xs_06_leaf_with_a_root_path_is_refused() {
    assert_eq!(with_uri("spiffe://example.org"), LeafError::RootPathLeaf);
}

#[test]
fn xs_09_san_is_parsed_from_its_raw_bytes() {
    assert_eq!(with_uri("sparfe://example.org/w"), LeafError::BadId(IdError::WrongScheme));
    assert_eq!(with_uri("SPIFFE://example.org/w"), LeafError::BadId(IdError::WrongScheme));
    assert_eq!(with_uri("spiffe://Example.org/w"), LeafError::BadId(IdError::BadTrustDomainChar));
    assert_eq!(with_uri("spiffe://example.org/w/"), LeafError::BadId(IdError::TrailingSlash));
    assert_eq!(with_uri("spiffe://example.org/%77"), LeafError::BadId(IdError::BadPathChar));
}

#[test]
fn xs_09_san_bytes_that_are_no_text_are_refused_where_they_stand() {
    let raw = |bytes: &[u8]| {
        let extension = raw_uri_san(bytes);
        refusal(|params| {
            params.subject_alt_names.clear();
            params.custom_extensions = vec![extension];
        })
    };
    assert_eq!(raw(b"spiffe://example.org/\xff"), LeafError::BadId(IdError::BadPathChar));
    assert_eq!(raw(b"spiffe://ex\xe4mple.org/w"), LeafError::BadId(IdError::BadTrustDomainChar));
    assert_eq!(raw(b"spiffe://example.org/w\0"), LeafError::BadId(IdError::BadPathChar));
}

#[test]
fn xs_25_key_encipherment_and_agreement_are_welcome_in_every_mix() {
    let (encipherment, agreement) = (KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyAgreement);
    for more in [vec![], vec![encipherment], vec![agreement], vec![encipherment, agreement]] {
        accepted(|params| params.key_usages.extend(more));
    }
}

#[test]
fn xs_29_leaf_that_is_a_ca_is_refused() {
    let fault = refusal(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(fault, LeafError::LeafIsCa);
}

#[test]
fn xs_30_leaf_with_key_cert_sign_is_refused() {
    assert_eq!(refusal(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), LeafError::LeafHasCertSign);
}

#[test]
fn xs_31_leaf_with_crl_sign_is_refused() {
    assert_eq!(refusal(|params| params.key_usages.push(KeyUsagePurpose::CrlSign)), LeafError::LeafHasCrlSign);
}

/// An extension that cannot be read must not pass for one that is absent (TR-18).
#[test]
fn xs_31_unreadable_key_usage_is_refused() {
    let garbage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![0x04, 0x01, 0x02]);
    let fault = refusal(|params| {
        params.key_usages.clear();
        params.custom_extensions = vec![garbage];
    });
    assert_eq!(fault, LeafError::Certificate(CertificateError::BadExtension("key usage")));
}

#[test]
fn xs_32_extended_key_usages_mean_the_same_in_both_roles() {
    for only in [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth] {
        accepted(|params| params.extended_key_usages = vec![only]);
    }
}

#[test]
fn cf_17_peer_needs_neither_extended_usage_nor_digital_signature() {
    accepted(|params| params.extended_key_usages.clear());
    accepted(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
}

#[test]
fn id_35_documents_of_other_kinds_are_no_svids() {
    let fault = Err(LeafError::Certificate(CertificateError::NotACertificate));
    assert_eq!(leaf_id(b"ssh-ed25519-cert-v01@openssh.com AAAA spiffe://example.org/w"), fault);
    assert_eq!(leaf_id(b""), fault);
    let with_tail = [root().leaf().der.as_ref(), b"\0"].concat();
    assert_eq!(leaf_id(&with_tail), fault);
}
