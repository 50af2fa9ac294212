//! The leaf writer against rcgen's: the same decision, the same bytes.

use chancery_core::{
    leaf,
    lifetime::{Limits, Profile, Validity},
    mint,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, PublicKeyData, SanType};
use x509_parser::prelude::X509Certificate;

use super::*;
use crate::sample;

const T0: UnixTime = UnixTime(1_800_000_000);
const T2060: UnixTime = UnixTime(2_840_140_800);

/// An authority, in rcgen's form and in ours.
fn authority() -> (Issuer<'static, KeyPair>, IssuerParts) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Chancery");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 20]);
    let der = params.self_signed(&key).unwrap().der().clone();
    let parsed = X509Certificate::from_der(&der).unwrap().1;
    let parts = IssuerParts::new(parsed.subject().as_raw(), &[7; 20], KeyType::EcP256);
    (Issuer::from_ca_cert_der(&der, key).unwrap(), parts)
}

/// What rcgen writes between the certificate's head and its signature.
fn by_rcgen(leaf: &Leaf, issuer: &Issuer<'static, KeyPair>) -> Vec<u8> {
    let public = rcgen::SubjectPublicKeyInfo::from_der(leaf.spki_der()).unwrap();
    let signed = profile::leaf(leaf, &public).unwrap().signed_by(&public, issuer).unwrap();
    X509Certificate::from_der(signed.der()).unwrap().1.tbs_certificate.as_ref().to_vec()
}

fn minted(ask: impl FnOnce(&mut CertificateParams)) -> Leaf {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org/minted".try_into().unwrap())];
    ask(&mut params);
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let (profile, limits) = (Profile::new(600, 600).unwrap(), Limits { issuer: T0.plus(86_400), node: None });
    mint::x509(csr.der(), &sample::domain(), profile, 0, limits, [0xff; 16], T0).unwrap()
}

#[test]
fn leaf_is_byte_for_byte_what_rcgen_writes() {
    let (issuer, parts) = authority();
    for serial in [[1; 16], [0x80; 16], [0xff; 16], std::array::from_fn(|n| u8::from(n == 15)), {
        std::array::from_fn(|n| if n < 2 { 0 } else { 0x90 })
    }] {
        for (not_before, not_after) in [(T0, T0.plus(3600)), (T0, T2060), (T2060, T2060.plus(1))] {
            let spki = KeyPair::generate().unwrap().subject_public_key_info();
            let validity = Validity { not_before, not_after };
            let leaf = leaf::for_server(&sample::domain(), &spki, validity, serial).unwrap();
            assert_eq!(hex::encode(tbs(&leaf, &parts).unwrap()), hex::encode(by_rcgen(&leaf, &issuer)));
        }
    }
}

#[test]
fn subjects_and_dns_names_are_byte_for_byte_what_rcgen_writes() {
    let (issuer, parts) = authority();
    let long = (0..20).map(|n| format!("a-rather-long-name-{n}.example.org"));
    let leaves = [
        minted(|p| p.subject_alt_names.push(SanType::DnsName("db.example.org".try_into().unwrap()))),
        minted(|p| p.subject_alt_names.extend(long.map(|n| SanType::DnsName(n.as_str().try_into().unwrap())))),
        minted(|p| {
            p.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
            p.distinguished_name.push(DnType::OrganizationName, "Größe");
            p.distinguished_name.push(DnType::from_oid(&[1, 3, 6, 1, 4, 1, 311, 60, 2, 1, 3]), "x");
        }),
    ];
    for leaf in leaves {
        assert_eq!(hex::encode(tbs(&leaf, &parts).unwrap()), hex::encode(by_rcgen(&leaf, &issuer)));
    }
}

#[test]
fn country_that_is_not_printable_and_time_out_of_range_are_refused() {
    let subject = |oid: &str, text: &str| name(&Subject(vec![(oid.into(), text.into())]));
    assert!(subject("2.5.4.6", "D*").is_err() && subject("2.5.4.6", "DE").is_ok());
    for bad in ["", "2", "3.1", "1.40", "a.b", "2.5.-1"] {
        assert!(subject(bad, "x").is_err(), "{bad}");
    }
    assert!(moment(UnixTime(-700_000_000)).is_err() && moment(UnixTime(i64::MAX)).is_err());
}
