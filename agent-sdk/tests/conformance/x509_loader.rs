use chancery_sdk::x509::{LeafError, X509Bundle, X509Svid, X509SvidError, spki_of, subject_key_id};
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

use crate::support::{
    NOW, td, w,
    x509::{Issued, keys_of_every_kind, root, uri},
};

/// Loads a chain with the key of its first certificate.
fn load(chain: &[&Issued]) -> Result<X509Svid, X509SvidError> {
    let der: Vec<u8> = chain.iter().flat_map(|issued| issued.der.iter().copied()).collect();
    X509Svid::parse(&der, chain[0].key.serialized_der())
}

fn refusal(fault: impl FnOnce(&mut CertificateParams)) -> X509SvidError {
    load(&[&root().leaf_with(fault)]).unwrap_err()
}

#[test]
fn xs_06_own_leaf_with_a_root_path_is_refused() {
    let fault = refusal(|params| params.subject_alt_names = vec![uri("spiffe://example.org")]);
    assert_eq!(fault, X509SvidError::Leaf(LeafError::RootPathLeaf));
}

#[test]
fn xs_18_authority_and_its_key_do_not_load() {
    assert_eq!(load(&[&root()]).unwrap_err(), X509SvidError::Leaf(LeafError::LeafIsCa));
}

#[test]
fn xs_21_own_leaf_without_key_usage_is_refused() {
    assert_eq!(refusal(|params| params.key_usages.clear()), X509SvidError::NoDigitalSignature);
}

#[test]
fn xs_24_own_leaf_without_digital_signature_is_refused() {
    let fault = refusal(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(fault, X509SvidError::NoDigitalSignature);
}

#[test]
fn xs_37_key_of_another_leaf_is_refused() {
    let root = root();
    let (leaf, other) = (root.leaf(), root.leaf());
    let mismatch = X509Svid::parse(&leaf.der, other.key.serialized_der()).unwrap_err();
    assert_eq!(mismatch, X509SvidError::KeyMismatch);
    let other_kind = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(X509Svid::parse(&leaf.der, other_kind.serialized_der()).unwrap_err(), X509SvidError::KeyMismatch);
}

#[test]
fn xs_37_bytes_that_are_no_key_are_refused() {
    assert_eq!(X509Svid::parse(&root().leaf().der, b"no key").unwrap_err(), X509SvidError::BadKey);
}

#[test]
fn xs_38_chain_is_leaf_first_and_each_the_issuer_of_the_one_before() {
    let root = root();
    let (a, unrelated) = (root.ca("a"), root.ca("unrelated"));
    let b = a.ca("b");
    let leaf = b.leaf();
    assert_eq!(load(&[&leaf, &b, &a]).unwrap().chain().len(), 3);
    assert_eq!(load(&[&leaf, &a, &b]).unwrap_err(), X509SvidError::NotTheIssuer { index: 1 });
    assert_eq!(load(&[&leaf, &b, &unrelated]).unwrap_err(), X509SvidError::NotTheIssuer { index: 2 });
    assert_eq!(load(&[&b, &leaf]).unwrap_err(), X509SvidError::Leaf(LeafError::LeafIsCa));
}

#[test]
fn xs_38_second_certificate_that_is_no_authority_is_refused() {
    let root = root();
    let no_ca = root.ca_with("no CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    assert_eq!(load(&[&no_ca.leaf(), &no_ca]).unwrap_err(), X509SvidError::NotTheIssuer { index: 1 });
}

#[test]
fn loaded_svid_tells_what_its_leaf_says() {
    let root = root();
    let leaf = root.leaf_with(|params| params.serial_number = Some(vec![0x7f; 16].into()));
    let svid = load(&[&leaf]).unwrap();
    assert_eq!((svid.id(), svid.leaf()), (&w(), &leaf.der));
    assert_eq!((svid.not_before(), svid.not_after()), (NOW.plus(-1800), NOW.plus(1800)));
    assert_eq!(svid.serial_decimal(), u128::from_be_bytes([0x7f; 16]).to_string());
    assert_eq!(svid.private_key_pkcs8(), leaf.key.serialized_der());
    assert_eq!(svid.chain_der_concatenated(), leaf.der.as_ref());
}

#[test]
fn private_keys_are_not_printed() {
    let leaf = root().leaf();
    let printed = format!("{:?}", load(&[&leaf]).unwrap());
    assert!(printed.contains("[private key]"), "{printed}");
    let key_bytes = format!("{:?}", leaf.key.serialized_der());
    assert!(!printed.contains(key_bytes.trim_matches(['[', ']'])), "{printed}");
}

#[test]
fn keys_of_every_kind_load() {
    let root = root();
    for key in keys_of_every_kind() {
        let leaf = root.leaf_for_key(key);
        assert_eq!(load(&[&leaf]).unwrap().id(), &w(), "{:?}", leaf.key.algorithm());
    }
}

#[test]
fn chain_longer_than_a_verifier_takes_is_refused() {
    let mut chain = vec![root()];
    for name in ["1", "2", "3", "4", "5"] {
        let next = chain.last().unwrap().ca(name);
        chain.push(next);
    }
    let leaf = chain.last().unwrap().leaf();
    let links: Vec<_> = std::iter::once(&leaf).chain(chain.iter().rev()).collect();
    assert!(load(&links[..5]).is_ok());
    assert_eq!(load(&links[..6]).unwrap_err(), X509SvidError::TooLong { len: 6, max: 5 });
}

#[test]
fn empty_and_broken_chains_are_refused() {
    let leaf = root().leaf();
    let key = leaf.key.serialized_der();
    assert_eq!(X509Svid::parse(b"", key).unwrap_err(), X509SvidError::EmptyChain);
    assert!(matches!(X509Svid::parse(b"\x30\x03\x02\x01", key), Err(X509SvidError::Leaf(_))));
    let tail = [leaf.der.as_ref(), b"\x30"].concat();
    assert!(matches!(X509Svid::parse(&tail, key), Err(X509SvidError::BadIntermediate { index: 1, .. })));
}

#[test]
fn bundle_reads_what_it_wrote_in_der_and_in_pem() {
    let (a, b) = (root(), root());
    let mut bundle = a.bundle(td());
    bundle.insert(b.der.clone()).unwrap();
    bundle.insert(a.der.clone()).unwrap();
    assert_eq!(bundle.authorities(), [a.der, b.der]);
    assert_eq!(X509Bundle::from_der_concatenated(td(), &bundle.to_der_concatenated()), Ok(bundle.clone()));
    assert_eq!(X509Bundle::from_pem(td(), &bundle.to_pem()), Ok(bundle));
    assert!(X509Bundle::from_der_concatenated(td(), b"").unwrap().is_empty());
    assert!(X509Bundle::from_pem(td(), "no pem").is_err());
    assert!(X509Bundle::from_der_concatenated(td(), b"\x30\x00").is_err());
}

#[test]
fn key_and_key_identifier_are_read_from_a_certificate() {
    let root = root();
    let spki = spki_of(&root.der).unwrap();
    assert!(spki.ends_with(root.key.public_key_raw()));
    assert_eq!(subject_key_id(&root.der).unwrap().len(), 20);
    assert_eq!(subject_key_id(b"nothing"), None);
}
