//! Evidence that a real token made (`fixtures/README.md`).

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        hex::decode(include_str!(concat!("../fixtures/", $name, ".hex")).trim()).unwrap()
    };
}

#[test]
fn evidence_of_a_token_is_verified_with_its_certificate() {
    let csr = fixture!("csr");
    let trust = Trust { enrolment_cas: vec![EnrolmentCa::parse(&fixture!("ca")).unwrap()], ..Trust::default() };
    let payload =
        Payload { version: 1, key: fixture!("key"), certificates: vec![fixture!("device")], vendor: Vec::new() };
    let applicant = examine_payload(&payload, &csr, &trust, false, NOW).unwrap();
    let challenge = OpenChallenge {
        message: b"challenge bytes with a nonce of 32".to_vec(),
        t1: transcript::t1("pkcs11", b"payload bytes, hashed as they are", &csr),
        expires_at: NOW,
    };
    let response = Response { signature: fixture!("signature") };
    let verified = verify_response(&applicant, challenge, &response, &CHANNEL, NOW).unwrap();
    let values = verified.applicant.selectors();
    assert!(values[0] == "device-cert" && values.contains(&"subject:serial:FIXTURE-1".into()), "{values:?}");
}
