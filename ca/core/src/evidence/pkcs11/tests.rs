//! The cases of the token threat table, each one fault in otherwise valid evidence.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize,
};

use super::{sample::*, *};
use crate::{crypto::weak, evidence::Denied, reason::Reason, transcript};

/// The payload is refused for this reason, and nobody is blamed.
fn refuses(sample: &Sample, reason: Reason) {
    let denied = sample.examine().unwrap_err();
    assert_eq!((denied.reason, denied.attributable), (reason, false), "{denied}");
    assert!(denied.steps.last().is_some_and(|step| !step.passed));
    assert!(denied.steps.iter().rev().skip(1).all(|step| step.passed));
}

fn is(denied: Denied, reason: Reason) {
    assert_eq!((denied.reason, denied.attributable), (reason, false), "{denied}");
}

/// Valid but for what signs, or what is signed.
fn broken(answer: impl FnOnce(&Sample, &OpenChallenge) -> Response) -> Denied {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = answer(&sample, &challenge);
    sample.verify(challenge, &response).unwrap_err()
}

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
fn a_key_that_an_enrolment_ca_vouches_for_needs_no_registration() {
    let sample = Sample::certified(&Profile::default());
    let values = sample.verified().applicant.selectors();
    assert_eq!(values[0], "device-cert");
    assert!(!values.contains(&"pop-only".to_string()));
    assert!(values.contains(&format!("ca:{}", hex::encode(sample.enroller.trusted().fingerprint))));
    assert!(values.contains(&"subject:serial:HSM-0007".to_string()));
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
fn case_15_an_unknown_root_is_untrusted_even_where_the_peer_sends_it() {
    let mut sample = Sample::certified(&Profile::default());
    let stranger = Enroller::new();
    sample.payload.certificates = vec![stranger.issue(&sample.key, &Profile::default()), stranger.der];
    refuses(&sample, Reason::DeviceCertUntrusted);
    let mut sample = Sample::certified(&Profile::default());
    sample.trust.enrolment_cas.clear();
    refuses(&sample, Reason::DeviceCertUntrusted);
}

#[test]
fn case_16_17_expired_and_future_device_certificates_are_device_cert_validity() {
    for years in [(2010, 2011), (2060, 2061)] {
        refuses(&Sample::certified(&Profile { years, ..Profile::default() }), Reason::DeviceCertValidity);
    }
}

#[test]
fn an_enrolment_ca_past_its_end_vouches_for_nothing() {
    let mut sample = Sample::certified(&Profile::default());
    sample.trust.enrolment_cas[0].not_after = NOW.plus(-1);
    refuses(&sample, Reason::DeviceCertUntrusted);
}

#[test]
fn case_18_19_another_or_no_extended_usage_is_device_cert_eku() {
    for extended in [vec![ExtendedKeyUsagePurpose::ServerAuth], vec![], vec![ExtendedKeyUsagePurpose::Any]] {
        refuses(&Sample::certified(&Profile { extended, ..Profile::default() }), Reason::DeviceCertEku);
    }
}

#[test]
fn case_20_a_key_usage_other_than_signing_is_device_cert_profile() {
    for usages in [
        vec![],
        vec![KeyUsagePurpose::KeyAgreement],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
    ] {
        refuses(&Sample::certified(&Profile { usages, ..Profile::default() }), Reason::DeviceCertProfile);
    }
}

#[test]
fn case_21_a_ca_certificate_is_device_cert_profile() {
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    refuses(&Sample::certified(&Profile { ca, ..Profile::default() }), Reason::DeviceCertProfile);
}

#[test]
fn case_21_a_certified_key_cannot_certify_another() {
    // The token signs whatever its owner wants: a certificate for a second, software key.
    let mut sample = Sample::certified(&Profile::default());
    let first = sample.payload.certificates.remove(0);
    let other = KeyPair::generate().unwrap();
    let own = params(&Profile::default()); // the name that its certificate has
    let below = rcgen::Issuer::from_params(&own, &sample.key);
    let forged = params(&Profile::default()).signed_by(&other, &below).unwrap().der().to_vec();
    sample.payload.key = other.subject_public_key_info();
    sample.payload.certificates = vec![forged, first];
    refuses(&sample, Reason::DeviceCertUntrusted);
}

#[test]
fn case_22_a_missing_intermediate_is_untrusted_and_a_sent_one_leads_to_the_ca() {
    let mut sample = Sample::certified(&Profile::default());
    let site = sample.enroller.intermediate();
    sample.payload.certificates = vec![site.issue(&sample.key, &Profile::default())];
    refuses(&sample, Reason::DeviceCertUntrusted);
    sample.payload.certificates.push(site.der.clone());
    assert_eq!(sample.examine().unwrap().vouched.unwrap().ca, sample.enroller.trusted().fingerprint);
    // The site's CA may certify keys, not further CAs.
    let below = site.intermediate();
    sample.payload.certificates = vec![below.issue(&sample.key, &Profile::default()), below.der, site.der];
    refuses(&sample, Reason::DeviceCertUntrusted);
}

#[test]
fn case_23_24_too_many_certificates_are_too_large_and_none_is_only_possession() {
    let mut sample = Sample::certified(&Profile::default());
    let one = sample.payload.certificates[0].clone();
    sample.payload.certificates = vec![one; 9];
    refuses(&sample, Reason::EvidenceTooLarge);
    sample.payload.certificates.clear();
    refuses(&sample, Reason::KeyUnknown);
}

#[test]
fn case_25_every_flipped_bit_of_a_device_certificate_is_refused() {
    let mut sample = Sample::certified(&Profile::default());
    let good = sample.payload.certificates[0].clone();
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        sample.payload.certificates = vec![flipped];
        assert!(sample.examine().is_err(), "bit {bit}");
    }
}

#[test]
fn case_25_every_flipped_bit_of_key_and_signature_is_refused() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let (applicant, response) = (sample.examine().unwrap(), sample.response(&challenge));
    for bit in 0..response.signature.len() * 8 {
        let mut flipped = response.clone();
        flipped.signature[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_response(&applicant, challenge.clone(), &flipped, &CHANNEL, NOW).is_err(), "bit {bit}");
    }
    for bit in 0..sample.payload.key.len() * 8 {
        let mut flipped = sample.payload.key.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(AttestationKey::parse(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn evidence_cut_off_anywhere_is_refused() {
    let sample = Sample::certified(&Profile::default());
    let (key, certificate) = (&sample.payload.key, &sample.payload.certificates[0]);
    for len in 0..key.len() {
        assert!(AttestationKey::parse(&key[..len]).is_err());
    }
    for len in 0..certificate.len() {
        let mut cut = Sample::certified(&Profile::default());
        cut.payload.key.clone_from(key);
        cut.payload.certificates = vec![certificate[..len].to_vec()];
        refuses(&cut, Reason::EvidenceMalformed);
    }
}

#[test]
fn case_26_trailing_bytes_and_doubled_extensions_are_malformed() {
    let mut sample = Sample::certified(&Profile::default());
    sample.payload.certificates[0].push(0);
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.key.push(0);
    refuses(&sample, Reason::EvidenceMalformed);
    let twice = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]); 2];
    refuses(&Sample::certified(&Profile { extensions: twice, ..Profile::default() }), Reason::EvidenceMalformed);
}

#[test]
fn an_unknown_critical_extension_is_device_cert_profile() {
    let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    odd.set_criticality(true);
    refuses(&Sample::certified(&Profile { extensions: vec![odd], ..Profile::default() }), Reason::DeviceCertProfile);
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

#[test]
fn a_certificate_of_another_key_is_key_mismatch() {
    let mut sample = Sample::certified(&Profile::default());
    sample.payload.certificates = vec![sample.enroller.issue(&sample.svid, &Profile::default())];
    refuses(&sample, Reason::KeyMismatch);
}

#[test]
fn denied_and_unknown_keys_have_codes_of_their_own() {
    let mut sample = Sample::new();
    sample.enrolled = false;
    refuses(&sample, Reason::KeyUnknown);
    let mut sample = Sample::new();
    let hash = hex::encode(crate::crypto::sha256(&[&sample.payload.key]));
    sample.trust.denied.insert(format!("spki:sha256:{hash}"));
    refuses(&sample, Reason::KeyDenied);
    let mut sample = Sample::certified(&Profile::default());
    sample.trust.denied.insert("subject:serial:HSM-0007".into());
    refuses(&sample, Reason::KeyDenied);
}

/// A real YubiHSM 2's statement about one of its keys, and that key.
fn stated() -> (Payload, Trust) {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let evidence = include_bytes!("vendor/samples/yubihsm2-20783176.chain.der").to_vec();
    let (_, leaf) = X509Certificate::from_der(&evidence).unwrap();
    let key = leaf.public_key().raw.to_vec();
    let vendor = vec![VendorEvidence { kind: "yubihsm2".into(), evidence }];
    let terms = vendor::Terms { serials: ["20783176".into()].into(), ..vendor::Terms::default() };
    let vendors = vendor::VendorPolicy { kinds: [(vendor::Vendor::YubiHsm2, terms)].into() };
    let trust = Trust { vendors, roots: vendor::PinnedRoots::builtin().unwrap(), ..Trust::default() };
    (Payload { version: 1, key, certificates: Vec::new(), vendor }, trust)
}

#[test]
fn a_listed_device_states_the_level_above_and_needs_no_enrolment() {
    let (payload, trust) = stated();
    let svid = Sample::new().svid.subject_public_key_info();
    let examine =
        |payload: &Payload, trust: &Trust, enrolled| examine_section(payload, &svid, Vec::new(), trust, enrolled, NOW);
    let values = examine(&payload, &trust, false).unwrap().selectors();
    for want in ["attested:yubihsm2", "yubihsm2:serial:20783176", "yubihsm2:exportable:false"] {
        assert!(values.contains(&want.to_string()), "{want}: {values:?}");
    }
    assert!(!values.contains(&"pop-only".into()) && !values.contains(&"device-cert".into()), "{values:?}");
    // Any genuine device may be: then the operator says which keys are ours.
    let mut any = trust.clone();
    any.vendors.kinds.values_mut().for_each(|terms| terms.serials.clear());
    is(examine(&payload, &any, false).unwrap_err(), Reason::KeyUnknown);
    assert!(examine(&payload, &any, true).unwrap().needs_enrolment());

    let mut denied = trust.clone();
    denied.denied.insert("yubihsm2:serial:20783176".into());
    is(examine(&payload, &denied, true).unwrap_err(), Reason::KeyDenied);
    let mut twice = payload.clone();
    twice.vendor.push(twice.vendor[0].clone());
    is(examine(&twice, &trust, true).unwrap_err(), Reason::VendorClaim);
    let mut other = payload;
    other.key = Sample::new().payload.key;
    is(examine(&other, &trust, true).unwrap_err(), Reason::VendorKey);
}

#[test]
fn vendor_evidence_of_a_kind_that_is_not_enabled_is_vendor_kind() {
    let mut sample = Sample::new();
    sample.payload.vendor = vec![VendorEvidence { kind: "luna".into(), evidence: vec![0; 64] }];
    refuses(&sample, Reason::VendorKind);
}

#[test]
fn sizes_and_version_are_checked_first() {
    let mut sample = Sample::new();
    sample.payload.version = 2;
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.vendor = vec![VendorEvidence::default(); 4];
    refuses(&sample, Reason::EvidenceTooLarge);
    let mut sample = Sample::new();
    sample.payload.certificates = vec![vec![0; 32 * 1024]];
    refuses(&sample, Reason::EvidenceTooLarge);
    let mut sample = Sample::new();
    sample.payload.key = vec![0; 601];
    refuses(&sample, Reason::EvidenceTooLarge);
    is(claimed_key(&sample.payload).unwrap_err(), Reason::EvidenceTooLarge);
    is(broken(|_, _| Response { signature: vec![0; 513] }), Reason::EvidenceTooLarge);
    is(broken(|_, _| Response::default()), Reason::KeyProof);
}

/// DER of one TLV; contents below 64 KiB.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let head = match len {
        0..0x80 => vec![tag, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [head, content.to_vec()].concat()
}

/// SubjectPublicKeyInfo of an RSA key.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if modulus[0] & 0x80 == 0 { &[] } else { &[0] };
    let key = tlv(0x30, &[tlv(2, &[sign, modulus].concat()), tlv(2, exponent)].concat());
    let algorithm = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    tlv(0x30, &[algorithm.to_vec(), tlv(3, &[&[0][..], &key].concat())].concat())
}

#[test]
fn weak_keys_are_key_weak() {
    let mut modulus = vec![0xa5; 256];
    *modulus.last_mut().unwrap() = 0xa7;
    let with = |key: Vec<u8>| {
        let mut sample = Sample::new();
        sample.payload.key = key;
        sample
    };
    with(rsa(&modulus, &[1, 0, 1])).examine().unwrap();
    let even = [&modulus[..255], &[0xa6]].concat();
    for weak in [
        rsa(&modulus[..128], &[1, 0, 1]),
        rsa(&[&[0x7f], &modulus[1..]].concat(), &[1, 0, 1]),
        rsa(&modulus, &[3]),
        rsa(&even, &[1, 0, 1]),
        rsa(&weak::tests::power_of_65537(128), &[1, 0, 1]),
    ] {
        refuses(&with(weak), Reason::KeyWeak);
    }
    // Off the curve, at infinity, compressed.
    let p256 = Sample::new().payload.key;
    let mut off = p256.clone();
    *off.last_mut().unwrap() ^= 1;
    let zero = [&p256[..27], &[0; 64]].concat();
    for point in [off, zero] {
        refuses(&with(point), Reason::KeyWeak);
    }
    let head = [0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    for point in [vec![0], [&[2][..], &p256[27..59]].concat()] {
        let key = tlv(0x30, &[head.to_vec(), tlv(3, &[&[0][..], &point].concat())].concat());
        refuses(&with(key), Reason::KeyWeak);
    }
}

mod section {
    use super::*;

    #[test]
    fn a_token_beside_another_attestor_proves_itself_over_the_same_t2() {
        let sample = Sample::certified(&Profile::default());
        let svid = sample.svid.subject_public_key_info();
        let t2 = [7; 32];
        let base = transcript::base(transcript::LABEL_PKCS11, DOMAIN, &t2, &CHANNEL.exporter);
        let examined = examine_section(&sample.payload, &svid, Vec::new(), &sample.trust, false, NOW).unwrap();
        let steps = examined.steps.clone();
        let verified = verify_section(&examined, &t2, &signed(&sample.key, &base), &CHANNEL, steps.clone()).unwrap();
        assert_eq!(verified.applicant.selectors()[0], "device-cert");
        let denied = verify_section(&examined, &t2, &signed(&sample.svid, &base), &CHANNEL, steps).unwrap_err();
        assert_eq!((denied.reason, denied.attributable), (Reason::KeyProof, true), "its node signed all else");
    }

    #[test]
    fn the_key_of_the_svid_is_never_the_tokens() {
        let sample = Sample::new();
        let denied = examine_section(&sample.payload, &sample.payload.key, Vec::new(), &sample.trust, true, NOW);
        is(denied.unwrap_err(), Reason::KeyReused);
    }
}

mod softhsm {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            hex::decode(include_str!(concat!("fixtures/", $name, ".hex")).trim()).unwrap()
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
}
