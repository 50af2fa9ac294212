//! Certificate revocation lists: whose they are, and what is refused.
#![cfg(feature = "client")]

mod support;

use chancery_sdk::{
    tls::system_clock,
    x509::{CrlError, VerifiedCrl},
};
use rustls_pki_types::CertificateDer;

use support::pki::Authority;

fn der(ca: &Authority) -> CertificateDer<'static> {
    CertificateDer::from(ca.root.clone())
}

fn judged(crl: &[u8], chain: &[&Authority], bundle: &[&Authority]) -> Result<VerifiedCrl, CrlError> {
    let (chain, bundle): (Vec<_>, Vec<_>) =
        (chain.iter().map(|c| der(c)).collect(), bundle.iter().map(|c| der(c)).collect());
    VerifiedCrl::verify(crl, &chain, &bundle, system_clock()())
}

#[test]
fn a_list_of_an_authority_or_of_a_ca_below_it_is_taken() {
    let (root, other) = (Authority::new("td.test"), Authority::new("td.test"));
    let taken = judged(&root.crl(), &[], &[&other, &root]).unwrap();
    assert_eq!((taken.number, &taken.authority), (1, &der(&root)));
    assert_eq!(taken.next_update.since(taken.this_update), 3600);
    let below = root.below();
    let taken = judged(&below.crl(), &[&below], &[&other, &root]).unwrap();
    assert_eq!(taken.authority, der(&root));
    assert!(judged(&root.below().below().crl(), &[&below], &[&root]).is_err());
}

#[test]
fn a_list_that_nobody_we_know_signed_is_refused() {
    let (root, other) = (Authority::new("td.test"), Authority::new("td.test"));
    assert_eq!(judged(&root.crl(), &[], &[&other]), Err(CrlError::NotSigned));
    assert_eq!(judged(&root.crl(), &[], &[]), Err(CrlError::NotSigned));
    let below = other.below();
    assert_eq!(judged(&below.crl(), &[&below], &[&root]), Err(CrlError::NotSigned));
    assert!(judged(&root.crl(), &[&below], &[&other]).is_err(), "another CA's chain");
    let leaf = root.issue("/w").chain;
    let chain = [CertificateDer::from(leaf)];
    assert!(matches!(
        VerifiedCrl::verify(&root.crl(), &chain, &[der(&root)], system_clock()()),
        Err(CrlError::Issuer(_))
    ));
}

#[test]
fn every_flipped_bit_of_a_list_is_refused() {
    let root = Authority::new("td.test");
    let crl = root.crl();
    for at in 0..crl.len() * 8 {
        let mut bent = crl.clone();
        bent[at / 8] ^= 1 << (at % 8);
        assert!(judged(&bent, &[], &[&root]).is_err(), "bit {at}");
    }
    assert!(judged(&[crl.as_slice(), &[0]].concat(), &[], &[&root]).is_err());
}

#[test]
fn a_list_for_some_certificates_only_is_refused() {
    let root = Authority::new("td.test");
    let some = rcgen::CrlIssuingDistributionPoint {
        distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://a.test/".into()] },
        scope: Some(rcgen::CrlScope::CaCertsOnly),
    };
    let crl = root.crl_with(|params| params.issuing_distribution_point = Some(some));
    assert_eq!(judged(&crl, &[], &[&root]), Err(CrlError::Malformed("it has a critical extension")));
}
