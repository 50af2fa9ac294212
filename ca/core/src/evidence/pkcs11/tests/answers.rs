//! Who signs what: possession, the exchange and the CSR.

use super::*;

#[test]
fn case_01_a_registered_key_that_signs_proves_possession_and_no_more() {
    for key in [
        KeyPair::generate().unwrap(),
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap(),
    ] {
        let verified = Sample::with(key).verified();
        assert!(verified.steps.iter().all(|step| step.passed));
        let hash = hex::encode(verified.applicant.key.hash());
        assert_eq!(verified.applicant.selectors(), ["pop-only".to_string(), format!("spki:sha256:{hash}")]);
    }
}

#[test]
fn case_03_an_answer_to_another_challenge_is_key_proof() {
    let denied = broken(|s, _| s.response(&s.challenge(b"another challenge")));
    is(denied, Reason::KeyProof);
}

#[test]
fn case_04_05_a_signature_for_another_connection_is_key_proof() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    let channel = Channel { exporter: [0x78; 32], ..CHANNEL };
    is(verify_response(&sample.examine().unwrap(), challenge, &response, &channel, NOW).unwrap_err(), Reason::KeyProof);
}

#[test]
fn case_06_a_csr_or_payload_swapped_after_the_signature_is_key_proof() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    for t1 in [transcript::t1("pkcs11", b"payload", b"another csr"), transcript::t1("pkcs11", b"other", &sample.csr)] {
        is(sample.verify(OpenChallenge { t1, ..challenge.clone() }, &response).unwrap_err(), Reason::KeyProof);
    }
}

#[test]
fn case_07_another_keys_signature_is_key_proof() {
    is(broken(|s, c| signed(&s.svid, &s.base(c))), Reason::KeyProof);
}

#[test]
fn case_08_an_answer_after_the_end_is_challenge_expired() {
    let sample = Sample::new();
    let challenge = OpenChallenge { expires_at: NOW.plus(-1), ..sample.challenge(b"challenge") };
    let response = sample.response(&challenge);
    is(sample.verify(challenge, &response).unwrap_err(), Reason::ChallengeExpired);
}

#[test]
fn case_09_a_signature_over_nonces_or_a_digest_alone_is_key_proof() {
    is(broken(|s, c| signed(&s.key, &c.message)), Reason::KeyProof);
    is(broken(|s, c| signed(&s.key, &crate::crypto::sha256(&[&s.base(c)]))), Reason::KeyProof);
}

#[test]
fn case_10_11_a_signature_for_another_domain_or_label_is_key_proof() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    let channel = Channel { trust_domain: "other.example", ..CHANNEL };
    let denied = verify_response(&sample.examine().unwrap(), challenge, &response, &channel, NOW).unwrap_err();
    is(denied, Reason::KeyProof);
    let denied = broken(|s, c| {
        let t2 = transcript::t2(&c.t1, &c.message);
        signed(&s.key, &transcript::base(transcript::LABEL_TPM, DOMAIN, &t2, &CHANNEL.exporter))
    });
    is(denied, Reason::KeyProof);
}

#[test]
fn case_13_a_raw_signature_is_key_proof() {
    let denied = broken(|s, c| Response { signature: raw(&s.response(c).signature) });
    is(denied, Reason::KeyProof);
}

/// r and s, 32 bytes each, of a DER signature.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    while let [_, len, tail @ ..] = rest {
        let (integer, tail) = tail.split_at(usize::from(*len));
        let value = &integer[integer.len().saturating_sub(32)..];
        out.extend(vec![0; 32 - value.len()]);
        out.extend(value);
        rest = tail;
    }
    assert_eq!(out.len(), 64);
    out
}

#[test]
fn case_27_a_broken_csr_signature_is_csr_signature() {
    let mut sample = Sample::new();
    *sample.csr.last_mut().unwrap() ^= 1;
    refuses(&sample, Reason::CsrSignature);
}

#[test]
fn case_28_a_csr_for_the_attestation_key_is_key_reused() {
    let mut sample = Sample::new();
    sample.csr = CertificateParams::default().serialize_request(&sample.key).unwrap().der().to_vec();
    refuses(&sample, Reason::KeyReused);
}

#[test]
fn case_29_names_asked_for_in_the_csr_are_ignored() {
    let mut sample = Sample::new();
    let params = CertificateParams::new(vec!["admin.example".into()]).unwrap();
    sample.csr = params.serialize_request(&sample.svid).unwrap().der().to_vec();
    sample.verified();
}

#[test]
fn case_30_a_p384_signature_is_no_p256_keys() {
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    is(broken(|s, c| signed(&other, &s.base(c))), Reason::KeyProof);
}
