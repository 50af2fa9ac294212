use chancery_daemon::key_type::KeyType;
use chancery_sdk::id::TrustDomain;
use rustls::{CertificateError, Error, RootCertStore, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateRevocationListDer;

use super::{
    super::{super::issuer::X509Issuer, Draft, root},
    *,
};
use crate::{
    keys::{KeyStore, MemoryKeys},
    sample,
};

const NOW: UnixTime = UnixTime(1_795_305_600);
const DAY: i64 = 86_400;

fn draft<'a>(domain: &'a TrustDomain, spki: &'a [u8], path_len: u8) -> Draft<'a> {
    Draft { domain, spki, common_name: None, path_len: Some(path_len), not_before: NOW, not_after: NOW.plus(100 * DAY) }
}

fn key(kind: KeyType) -> Arc<dyn Signer> {
    MemoryKeys::default().generate("k", kind).unwrap()
}

fn ca(kind: KeyType) -> (CertificateDer<'static>, Arc<dyn Signer>, Parent) {
    let (domain, key) = (sample::domain(), key(kind));
    let certificate = root(&draft(&domain, key.spki(), 2), key.as_ref()).unwrap();
    let parent = Parent::of_lists(&certificate, Arc::clone(&key)).unwrap();
    (certificate, key, parent)
}

fn crl(number: u64, rows: &[(&str, Reason)]) -> Crl {
    let revoked = rows.iter().map(|(text, reason)| (serial(text).unwrap(), Revoked { at: NOW, reason: *reason }));
    Crl { number, this_update: NOW, next_update: NOW.plus(30 * DAY), revoked: revoked.collect() }
}

#[test]
fn a_list_of_every_reason_reads_back_as_it_was_for_every_kind_of_key() {
    for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let (_, _, parent) = ca(kind);
        let rows: Vec<_> = Reason::ALL.into_iter().enumerate().map(|(n, r)| (format!("0x80{n:030x}"), r)).collect();
        let rows: Vec<_> = rows.iter().map(|(text, reason)| (text.as_str(), *reason)).collect();
        for list in [crl(1, &[]), crl(u64::MAX, &rows), crl(128, &[("1", Reason::Unspecified)])] {
            let der = parent.sign_crl(&list, MAX_ENTRIES).unwrap();
            assert_eq!(parent.read_crl(&der).unwrap(), list);
        }
    }
}

/// The verifier of another project judges a chain by our list.
#[test]
fn webpki_refuses_what_the_list_takes_back_and_nothing_else() {
    let (certificate, root_key, parent) = ca(KeyType::EcP256);
    let (domain, below_key) = (sample::domain(), key(KeyType::EcP256));
    let issuer = Parent::new(&certificate, root_key).unwrap();
    let below = issuer.sign(&draft(&domain, below_key.spki(), 0)).unwrap();
    let number = X509Certificate::from_der(&below).unwrap().1.serial.to_string();
    let (leaf, _) = sample::leaf(NOW, NOW.plus(DAY), 600);
    let below_lists = Parent::of_lists(&below, Arc::clone(&below_key)).unwrap();
    let der = X509Issuer::read(&below, &[], NOW.plus(DAY), below_key).unwrap().sign(&leaf).unwrap();
    let judged = |list: &Crl| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let lists =
            [parent.sign_crl(list, MAX_ENTRIES).unwrap(), below_lists.sign_crl(&crl(1, &[]), MAX_ENTRIES).unwrap()];
        let lists = lists.map(CertificateRevocationListDer::from);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists)
            .enforce_revocation_expiration()
            .build()
            .unwrap();
        let at = rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.0.unsigned_abs() + 1));
        verifier.verify_client_cert(&der, std::slice::from_ref(&below), at).map(drop)
    };
    judged(&crl(1, &[])).unwrap();
    judged(&crl(2, &[("12345", Reason::KeyCompromise)])).unwrap();
    let refused = judged(&crl(3, &[(&number, Reason::CaCompromise)])).unwrap_err();
    assert_eq!(refused, Error::InvalidCertificate(CertificateError::Revoked));
}

#[test]
fn a_list_of_somebody_else_or_an_altered_one_is_not_read() {
    let (_, _, parent) = ca(KeyType::EcP256);
    let (_, _, other) = ca(KeyType::EcP256);
    let der = parent.sign_crl(&crl(1, &[("7", Reason::Superseded)]), MAX_ENTRIES).unwrap();
    assert!(other.read_crl(&der).unwrap_err().to_string().contains("another CA"));
    for at in 0..der.len() {
        let mut altered = der.clone();
        altered[at] ^= 1;
        assert!(parent.read_crl(&altered).is_err(), "byte {at}");
    }
    let trailing = [der, vec![0]].concat();
    assert!(parent.read_crl(&trailing).is_err());
}

#[test]
fn a_list_stays_inside_its_limits() {
    let (_, _, parent) = ca(KeyType::EcP256);
    let backwards = Crl { next_update: NOW, ..crl(1, &[]) };
    assert!(parent.sign_crl(&backwards, MAX_ENTRIES).is_err());
    let late = Crl { next_update: NOW.plus(101 * DAY), ..crl(1, &[]) };
    assert!(matches!(parent.sign_crl(&late, MAX_ENTRIES), Err(SignError::Issuer { .. })));
    let entry = Revoked { at: NOW, reason: Reason::KeyCompromise };
    let revoked = (1..=MAX_ENTRIES + 1).map(|n| (BigUint::from(n), entry)).collect();
    assert!(parent.sign_crl(&Crl { revoked, ..crl(1, &[]) }, MAX_ENTRIES).is_err());
}

#[test]
fn serial_numbers_are_decimal_or_marked_as_hexadecimal() {
    assert_eq!(serial("255"), serial("0xff"));
    assert_eq!(serial("255"), Some(BigUint::from(255_u32)));
    for bad in ["", "0", "0x", "ff", "-1", "1 2", &format!("0x{}", "f".repeat(40))] {
        assert_eq!(serial(bad), None, "{bad}");
    }
}
