use chancery_sdk::{
    id::{IdError, SpiffeId, TrustDomain},
    jwt::JwtBundle,
    x509::{X509Bundle, X509Svid, X509SvidError},
};

use crate::support::{jwt::Signer, td, w, x509::root};

#[test]
fn ids_and_domains_go_there_and_back() {
    let theirs = spiffe::SpiffeId::try_from(&w()).unwrap();
    assert_eq!(SpiffeId::try_from(&theirs), Ok(w()));
    let theirs = spiffe::TrustDomain::try_from(&td()).unwrap();
    assert_eq!(TrustDomain::try_from(&theirs), Ok(td()));
}

#[test]
fn id_too_long_for_the_standard_does_not_come_in() {
    let theirs = spiffe::SpiffeId::new(format!("spiffe://a/{}", "b".repeat(2048))).unwrap();
    assert_eq!(SpiffeId::try_from(&theirs), Err(IdError::TooLong { len: 2059, max: 2048 }));
}

#[test]
fn svids_go_there_and_back_and_foreign_keys_do_not_come_in() {
    let root = root();
    let (leaf, other) = (root.leaf(), root.leaf());
    let ours = X509Svid::parse(&leaf.der, leaf.key.serialized_der()).unwrap();
    let theirs = spiffe::X509Svid::try_from(&ours).unwrap();
    let back = X509Svid::try_from(&theirs).unwrap();
    assert_eq!(
        (back.id(), back.chain(), back.private_key_pkcs8()),
        (ours.id(), ours.chain(), ours.private_key_pkcs8())
    );
    let mixed = spiffe::X509Svid::parse_from_der(&leaf.der, other.key.serialized_der()).unwrap();
    assert_eq!(X509Svid::try_from(&mixed).unwrap_err(), X509SvidError::KeyMismatch);
}

#[test]
fn bundles_go_there_and_back() {
    let x509 = root().bundle(td());
    assert_eq!(X509Bundle::try_from(&spiffe::X509Bundle::try_from(&x509).unwrap()), Ok(x509));
    let jwt = Signer::es256().bundle(td());
    assert_eq!(JwtBundle::try_from(&spiffe::JwtBundle::try_from(&jwt).unwrap()), Ok(jwt));
}
