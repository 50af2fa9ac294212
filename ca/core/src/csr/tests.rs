use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SignatureAlgorithm};

use super::*;

fn request(algorithm: &'static SignatureAlgorithm) -> Vec<u8> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    sample(&key)
}

fn sample(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.subject_alt_names = vec![
        SanType::URI("spiffe://example.org/asked".try_into().unwrap()),
        SanType::DnsName("db.example.org".try_into().unwrap()),
    ];
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn p256_p384_and_rsa_requests_prove_possession() {
    let cases = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, KeyKind::P256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, KeyKind::P384),
        (&rcgen::PKCS_RSA_SHA256, KeyKind::Rsa),
    ];
    for (algorithm, kind) in cases {
        let csr = Csr::parse(&request(algorithm)).unwrap();
        assert_eq!(csr.kind(), kind);
        assert_eq!(csr.spki_sha256(), sha256(csr.spki_der()));
    }
}

#[test]
fn key_read_is_the_key_that_signed() {
    let key = KeyPair::generate().unwrap();
    let csr = Csr::parse(&sample(&key)).unwrap();
    assert_eq!(csr.spki_der(), rcgen::PublicKeyData::subject_public_key_info(&key));
}

#[test]
fn every_flipped_bit_of_the_request_is_refused() {
    let good = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    let info = parse(&good).unwrap().certification_request_info.raw.len();
    // The header bytes around the signed part and around the signature value carry no meaning of their own.
    let signed = 4..4 + info;
    let signature = good.len() - 64..good.len();
    for at in signed.chain(signature).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
        let mut bad = good.clone();
        bad[at.0] ^= 1 << at.1;
        assert!(Csr::parse(&bad).is_err(), "bit {at:?}");
    }
}

#[test]
fn truncated_and_trailing_bytes_are_refused() {
    let good = request(&rcgen::PKCS_ECDSA_P256_SHA256);
    for len in 0..good.len() {
        assert!(Csr::parse(&good[..len]).is_err(), "{len} bytes");
    }
    let mut longer = good;
    longer.push(0);
    assert_eq!(Csr::parse(&longer), Err(CsrError::Malformed));
}

#[test]
fn xs_50_other_curves_and_algorithms_are_refused() {
    let ed25519 = request(&rcgen::PKCS_ED25519);
    assert_eq!(Csr::parse(&ed25519), Err(CsrError::UnsupportedKey));
    let p521 = request(&rcgen::PKCS_ECDSA_P521_SHA512);
    assert_eq!(Csr::parse(&p521), Err(CsrError::UnsupportedKey));
}

#[test]
fn xs_50_rsa_of_1024_bits_is_refused() {
    // Made with: openssl req -new -newkey rsa:1024 -nodes -subj /O=x -outform DER | base64
    use base64::Engine;
    let der = base64::engine::general_purpose::STANDARD.decode(RSA_1024.replace('\n', "")).unwrap();
    assert_eq!(Csr::parse(&der), Err(CsrError::Signature));
}

#[test]
fn oversized_request_is_refused_unparsed() {
    assert_eq!(Csr::parse(&vec![0x30; MAX_CSR_BYTES + 1]), Err(CsrError::TooLarge { len: MAX_CSR_BYTES + 1 }));
}

#[test]
fn asked_names_are_read_for_minting_only() {
    let asked = Asked::parse(&request(&rcgen::PKCS_ECDSA_P256_SHA256)).unwrap();
    assert_eq!(asked.spiffe_id().unwrap().as_str(), "spiffe://example.org/asked");
    assert_eq!(asked.dns_names, ["db.example.org"]);
    assert_eq!(asked.subject, [("2.5.4.10".to_owned(), "Example".to_owned())]);
}

const RSA_1024: &str = "MIIBSzCBtQIBADAMMQowCAYDVQQKDAF4MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDBW40bPLvCxT8lqn8OjIKhWUuwkW48DD9vqejJM125wfV2fUw1veNBchXQyQ9N1Kscy/f4K0ZOAuiGlycM6gWrp1IuDmzFkmS5vSwsOIS9Uoqby7ZiA1f2sPnc/diLCsawbWr/YSEWlJYiGaO6dzhwuC/C9nNOlQcuz0lOxuDzLwIDAQABoAAwDQYJKoZIhvcNAQELBQADgYEAfqh1j2keAiy1miIJV11bmIPfx/VCyY3NErSubFPWUBhDPdlK44BJsU868miQ9Vz6uKDQpfn7BLox7lLqhmATbNd7cdHKK9fRVOMvBO+dewFp7Td+khZ6LbiXZlamG9iR/TtclH1M8Df7rmIwJuAp2tSnZGYcwxxtKOhyaSwn2Dc=";
