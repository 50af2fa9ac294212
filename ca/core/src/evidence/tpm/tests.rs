//! The threat model's cases 1 to 32, 39 to 44 and 53, each one fault in otherwise valid evidence.

use rcgen::{CertificateParams, CustomExtension, KeyPair, KeyUsagePurpose, PublicKeyData};
use zeroize::Zeroizing;

use super::{sample::*, *};
use crate::{crypto::sha256, eventlog, evidence::Denied, policy::PolicySet, reason::Reason, transcript};

/// The payload is refused for this reason, and nobody is blamed.
fn refuses(sample: &Sample, reason: Reason) {
    let denied = sample.examine().unwrap_err();
    assert_eq!((denied.reason, denied.attributable), (reason, false), "{denied}");
    assert!(denied.steps.last().is_some_and(|step| !step.passed));
    assert!(denied.steps.iter().rev().skip(1).all(|step| step.passed));
}

fn with_ek(profile: EkProfile) -> Sample {
    let mut sample = Sample::new();
    sample.payload.ek_certificate = sample.maker.issue(&sample.ek, &profile);
    sample
}

/// Valid but for one change of the response: the denial.
fn broken(change: impl FnOnce(&Sample, &OpenChallenge, &mut Response)) -> Denied {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let mut response = sample.response(&challenge);
    change(&sample, &challenge, &mut response);
    sample.verify(challenge, &response).unwrap_err()
}

/// Valid but for one change of the quote, signed again by the AK.
fn broken_quote(change: impl FnOnce(&Sample, &OpenChallenge, &mut Fields)) -> Denied {
    broken(|sample, challenge, response| {
        let mut quote = sample.quote(challenge);
        change(sample, challenge, &mut quote);
        response.quote = sample.ak.sign(quote.bytes());
    })
}

fn broken_certify(change: impl FnOnce(&Sample, &OpenChallenge, &mut Fields)) -> Denied {
    broken(|sample, challenge, response| {
        let mut certify = sample.certify(challenge);
        change(sample, challenge, &mut certify);
        response.certify = sample.ak.sign(certify.bytes());
    })
}

fn is(denied: Denied, reason: Reason, attributable: bool) {
    assert_eq!((denied.reason, denied.attributable), (reason, attributable), "{denied}");
}

#[test]
fn valid_evidence_is_verified_with_every_step_passed() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    let verified = sample.verify(challenge, &response).unwrap();
    assert!(verified.activated && verified.steps.iter().all(|step| step.passed));
    assert_eq!((verified.boot.reset_count, verified.boot.pcrs.len()), (4, 8));
    let device = verified.applicant.device.unwrap();
    assert_eq!((device.manufacturer.to_string().as_str(), device.model.as_str()), ("IFX", "SLB9672"));
}

#[test]
fn the_applicant_is_what_the_payload_claims() {
    let sample = Sample::new();
    assert_eq!(claimed_ek(&sample.payload).unwrap(), sample.examine().unwrap().ek_hash);
    assert_eq!(sample.examine().unwrap().node_spki, sample.node.subject_public_key_info());
}

#[test]
fn case_01_ek_certificate_of_an_unknown_ca_is_ek_untrusted() {
    let mut sample = Sample::new();
    sample.trust.anchors = Vec::new();
    refuses(&sample, Reason::EkUntrusted);
}

#[test]
fn case_02_a_ca_with_the_anchors_name_but_another_key_is_ek_untrusted() {
    let mut sample = Sample::new();
    sample.payload.ek_certificate = Maker::new().issue(&sample.ek, &EkProfile::default());
    refuses(&sample, Reason::EkUntrusted);
}

#[test]
fn case_02_a_self_signed_ek_certificate_is_ek_untrusted() {
    let mut sample = Sample::new();
    sample.payload.ek_certificate =
        profile_params(&EkProfile::default()).self_signed(&sample.ek).unwrap().der().to_vec();
    refuses(&sample, Reason::EkUntrusted);
}

#[test]
fn case_03_an_expired_or_future_ek_certificate_is_ek_validity() {
    refuses(&with_ek(EkProfile { years: (2020, 2021), ..EkProfile::default() }), Reason::EkValidity);
    refuses(&with_ek(EkProfile { years: (2080, 9999), ..EkProfile::default() }), Reason::EkValidity);
}

#[test]
fn an_anchor_past_its_end_vouches_for_nothing() {
    let mut sample = Sample::new();
    sample.trust.anchors[0].not_after = NOW.plus(-1);
    refuses(&sample, Reason::EkUntrusted);
}

#[test]
fn case_04_an_ek_certificate_without_the_ek_usage_is_ek_eku() {
    refuses(&with_ek(EkProfile { eku: vec![], ..EkProfile::default() }), Reason::EkEku);
    let client = vec![vec![1, 3, 6, 1, 5, 5, 7, 3, 2]];
    refuses(&with_ek(EkProfile { eku: client, ..EkProfile::default() }), Reason::EkEku);
}

#[test]
fn case_05_an_unknown_critical_extension_is_ek_critical_ext() {
    let mut odd = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    odd.set_criticality(true);
    refuses(&with_ek(EkProfile { extension: Some(odd), ..EkProfile::default() }), Reason::EkCriticalExt);
    let harmless = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
    with_ek(EkProfile { extension: Some(harmless), ..EkProfile::default() }).examine().unwrap();
}

#[test]
fn case_06_ca_and_platform_certificates_are_ek_profile() {
    refuses(&with_ek(EkProfile { ca: true, ..EkProfile::default() }), Reason::EkProfile);
    refuses(&with_ek(EkProfile { eku: vec![vec![2, 23, 133, 8, 2]], ..EkProfile::default() }), Reason::EkProfile);
    let signing = EkProfile { usage: KeyUsagePurpose::DigitalSignature, ..EkProfile::default() };
    refuses(&with_ek(signing), Reason::EkProfile);
}

#[test]
fn case_07_wrong_missing_or_doubled_manufacturers_are_ek_san() {
    let rows: [&[(u8, &'static [u8])]; 5] = [
        &[(1, b"id:53544D20"), (2, b"ST33"), (3, b"id:1")],
        &[],
        &[(2, b"SLB9672"), (3, b"id:1")],
        &[(1, IFX), (1, IFX), (2, b"SLB9672"), (3, b"id:1")],
        &[(1, IFX), (2, b"a\nb"), (3, b"id:1")],
    ];
    for san in rows {
        refuses(&with_ek(EkProfile { san: san.to_vec(), ..EkProfile::default() }), Reason::EkSan);
    }
}

#[test]
fn case_08_trailing_bytes_indefinite_lengths_and_huge_certificates_are_refused() {
    let mut sample = Sample::new();
    sample.payload.ek_certificate.push(0);
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.ek_certificate[1] = 0x80;
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.ek_certificate = vec![0x30; 1024 * 1024];
    refuses(&sample, Reason::EvidenceTooLarge);
}

#[test]
fn case_08_every_flipped_bit_of_an_ek_certificate_is_refused() {
    let sample = Sample::new();
    let der = &sample.payload.ek_certificate;
    for bit in 0..der.len() * 8 {
        let mut flipped = der.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let verdict = ek_certificate::parse(&flipped).and_then(|c| c.verify(&[], &sample.trust.anchors, NOW).map(drop));
        assert!(verdict.is_err(), "bit {bit}");
    }
}

#[test]
fn an_intermediate_sent_along_leads_to_the_anchor_above_it() {
    let mut sample = Sample::new();
    let (root, below) = (Maker::new(), KeyPair::generate().unwrap());
    let (issuer, intermediate) = root.intermediate(below);
    sample.trust.anchors = vec![root.anchor()];
    sample.payload.ek_certificate =
        profile_params(&EkProfile::default()).signed_by(&sample.ek, &issuer).unwrap().der().to_vec();
    refuses(&sample, Reason::EkUntrusted);
    sample.payload.ek_intermediates = vec![intermediate];
    sample.examine().unwrap();
}

#[test]
fn case_09_weak_eks_are_ek_weak() {
    let spki = |algorithm: &[u8], bits: &[u8]| {
        let long = |tag: u8, body: &[u8]| [&[tag, 0x82], &(body.len() as u16).to_be_bytes()[..], body].concat();
        long(0x30, &[algorithm, &long(3, &[&[0], bits].concat())].concat())
    };
    let rsa = |bytes: usize, exponent: &[u8]| {
        let mut modulus = vec![0xa5; bytes + 1];
        modulus[0] = 0;
        let integer = [&[2, 0x82], &(modulus.len() as u16).to_be_bytes()[..], &modulus].concat();
        let body = [integer, tlv(2, exponent)].concat();
        [&[0x30, 0x82], &(body.len() as u16).to_be_bytes()[..], &body].concat()
    };
    let rsa_algorithm = hex::decode("300d06092a864886f70d0101010500").unwrap();
    let p224 = hex::decode("301006072a8648ce3d020106052b81040021").unwrap();
    assert!(ek_certificate::parse_public(&spki(&rsa_algorithm, &rsa(256, &[1, 0, 1]))).is_ok());
    for weak in [
        spki(&rsa_algorithm, &rsa(128, &[1, 0, 1])),
        spki(&rsa_algorithm, &rsa(256, &[3])),
        spki(&p224, &[&[4][..], &[1; 56]].concat()),
        spki(&hex::decode("301306072a8648ce3d020106082a8648ce3d030107").unwrap(), &[&[2][..], &[1; 32]].concat()),
    ] {
        assert_eq!(ek_certificate::parse_public(&weak).unwrap_err().reason, Reason::EkWeak);
    }
}

#[test]
fn case_10_denied_and_unknown_eks_have_codes_of_their_own() {
    let mut sample = Sample::new();
    sample.trust.denied_eks.insert(claimed_ek(&sample.payload).unwrap());
    refuses(&sample, Reason::EkDenied);
    let sample = Sample::new();
    let denied = examine_payload(&sample.payload, &sample.csr, &sample.trust, false, NOW).unwrap_err();
    assert_eq!(denied.reason, Reason::EkUnknown);
}

#[test]
fn open_enrolment_admits_only_the_models_listed() {
    let mut sample = Sample::new();
    let allowed =
        |model: &str| Enrol::Open(vec![Allowed { manufacturer: "IFX".parse().unwrap(), model: model.into() }]);
    sample.trust.enrol = allowed("SLB96*");
    assert!(!examine_payload(&sample.payload, &sample.csr, &sample.trust, false, NOW).unwrap().enrolled);
    sample.trust.enrol = allowed("SLB97*");
    let denied = examine_payload(&sample.payload, &sample.csr, &sample.trust, false, NOW).unwrap_err();
    assert_eq!(denied.reason, Reason::EkUnknown);
}

#[test]
fn an_ek_without_certificate_is_taken_only_when_enrolled_and_proves_no_device() {
    let mut sample = Sample::new();
    sample.payload.ek_public = sample.ek.subject_public_key_info();
    refuses(&sample, Reason::EvidenceMalformed); // both
    sample.payload.ek_certificate = Vec::new();
    assert_eq!(sample.examine().unwrap().device, None);
    sample.trust.enrol = Enrol::Open(vec![]);
    let denied = examine_payload(&sample.payload, &sample.csr, &sample.trust, false, NOW).unwrap_err();
    assert_eq!(denied.reason, Reason::EkUnknown);
    sample.payload.ek_public = Vec::new();
    refuses(&sample, Reason::EvidenceMalformed); // neither
}

#[test]
fn case_12_14_15_any_other_attribute_of_the_ak_is_refused() {
    for bit in 0..32 {
        let mut sample = Sample::new();
        let attributes = templates::AK_ATTRIBUTES ^ (1 << bit);
        sample.payload.ak_public[4..8].copy_from_slice(&attributes.to_be_bytes());
        let reason = sample.examine().unwrap_err().reason;
        assert!(matches!(reason, Reason::AkTemplate | Reason::EvidenceMalformed), "bit {bit}: {reason}");
        if [1, 4, 5, 10, 11, 16, 17, 18].contains(&bit) {
            assert_eq!(reason, Reason::AkTemplate, "bit {bit}");
        }
    }
}

#[test]
fn case_16_other_algorithms_of_the_ak_are_ak_template() {
    // type, nameAlg, symmetric, scheme, hash, curve, kdf: offset and another value
    for (at, value) in [(0, 0x0001u16), (2, 0x0004), (14, 0x0004), (14, 0x000c), (16, 0x0002), (16, 0x0004)] {
        let mut sample = Sample::new();
        sample.payload.ak_public[at..at + 2].copy_from_slice(&value.to_be_bytes());
        refuses(&sample, Reason::AkTemplate);
    }
    let mut sample = Sample::new();
    sample.payload.ak_public.splice(12..16, [0, 0x10]); // scheme null
    refuses(&sample, Reason::AkTemplate);
}

#[test]
fn case_17_points_off_the_curve_are_ak_template() {
    let mut sample = Sample::new();
    *sample.payload.ak_public.last_mut().unwrap() ^= 1;
    refuses(&sample, Reason::AkTemplate);
    for (x, y) in [(vec![0; 32], vec![0; 32]), (vec![1; 33], vec![1; 32]), (vec![], vec![])] {
        let mut sample = Sample::new();
        sample.payload.ak_public = templates::attestation_key_public(&x, &y);
        refuses(&sample, Reason::AkTemplate);
    }
}

#[test]
fn case_18_an_ak_with_a_byte_more_or_fewer_is_malformed() {
    let mut sample = Sample::new();
    sample.payload.ak_public.push(0);
    refuses(&sample, Reason::EvidenceMalformed);
    let whole = Sample::new();
    for len in 0..whole.payload.ak_public.len() {
        assert!(public::parse(&whole.payload.ak_public[..len]).is_err());
        assert!(public::attestation_key(&whole.payload.ak_public[..len]).is_none());
    }
}

#[test]
fn case_11_13_19_wrong_proofs_are_activation_failed_and_blame_nobody() {
    let proofs: [fn(&Sample) -> Vec<u8>; 4] =
        [|_| vec![0; 32], |_| Vec::new(), |_| SECRET.to_vec(), |s| s.proof(&s.challenge(b"a former challenge"))];
    for proof in proofs {
        is(broken(|sample, _, response| response.proof = proof(sample)), Reason::ActivationFailed, false);
    }
}

/// No oracle: whoever asks cannot tell, by text or by how far the checks went, which of these it was.
#[test]
fn case_58_a_proof_of_another_ek_is_refused_exactly_as_a_guessed_one() {
    let proofs: [fn(&[u8; 32]) -> Vec<u8>; 5] = [
        |_| vec![0x5a; 32],
        |_| Vec::new(),
        |_| SECRET.to_vec(),
        // The first byte alone is right: a comparison that stops early would tell.
        |right| [&right[..1], &[0; 31]].concat(),
        |right| [&right[..31], &[!right[31]]].concat(),
    ];
    let denials: Vec<Denied> = proofs
        .iter()
        .map(|proof| {
            broken(|_, _, response| {
                let right: [u8; 32] = response.proof.as_slice().try_into().unwrap();
                response.proof = proof(&right);
            })
        })
        .collect();
    assert_eq!(denials[0].reason, Reason::ActivationFailed);
    assert!(denials.iter().all(|denied| (&denied.reason, &denied.detail) == (&denials[0].reason, &denials[0].detail)));
    let names = |denied: &Denied| denied.steps.iter().map(|step| (step.name, step.passed)).collect::<Vec<_>>();
    assert!(denials.iter().all(|denied| names(denied) == names(&denials[0])));
}

#[test]
fn case_19_a_known_ak_does_not_excuse_a_wrong_proof() {
    let sample = Sample::new();
    let challenge = OpenChallenge { ak_known: true, ..sample.challenge(b"challenge") };
    let response = Response { proof: vec![0; 32], ..sample.response(&challenge) };
    is(sample.verify(challenge, &response).unwrap_err(), Reason::ActivationFailed, false);
}

#[test]
fn without_a_secret_only_a_known_ak_passes() {
    let sample = Sample::new();
    let known = OpenChallenge { secret: None, ak_known: true, ..sample.challenge(b"challenge") };
    let response = sample.response(&known);
    assert!(!sample.verify(known.clone(), &response).unwrap().activated);
    let unknown = OpenChallenge { ak_known: false, ..known.clone() };
    is(sample.verify(unknown, &response).unwrap_err(), Reason::ActivationFailed, false);
    let unasked = Response { proof: vec![1; 32], ..response };
    is(sample.verify(known, &unasked).unwrap_err(), Reason::ActivationFailed, false);
}

#[test]
fn case_21_an_answer_after_the_end_is_challenge_expired() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    let late = verify_response(&sample.examine().unwrap(), challenge, &response, &CHANNEL, NOW.plus(61));
    is(late.unwrap_err(), Reason::ChallengeExpired, false);
}

#[test]
fn case_20_22_evidence_of_another_challenge_fails_proof_and_with_it_fixed_the_nonce() {
    let sample = Sample::new();
    let other = sample.response(&sample.challenge(b"other"));
    let challenge = sample.challenge(b"challenge");
    is(sample.verify(challenge.clone(), &other).unwrap_err(), Reason::ActivationFailed, false);
    let fixed = Response { proof: sample.proof(&challenge), ..other };
    is(sample.verify(challenge, &fixed).unwrap_err(), Reason::QuoteNonce, false);
}

#[test]
fn case_24_other_qualifying_data_is_quote_nonce() {
    type Change = fn(&[u8; 32]) -> Vec<u8>;
    let changes: [Change; 4] = [
        |base| base.to_vec(),
        |_| Vec::new(),
        |base| transcript::quote_qualifier(base)[..31].to_vec(),
        |base| transcript::certify_qualifier(base).to_vec(),
    ];
    for change in changes {
        is(broken_quote(|s, c, quote| quote.extra = change(&s.base(c))), Reason::QuoteNonce, false);
    }
}

#[test]
fn case_25_a_quote_signed_by_a_software_key_is_quote_signature() {
    let denied =
        broken(|sample, challenge, response| response.quote = SoftKey::new().sign(sample.quote(challenge).bytes()));
    is(denied, Reason::QuoteSignature, false);
}

#[test]
fn case_25_another_magic_is_no_attestation_whoever_signed_it() {
    is(broken_quote(|_, _, quote| quote.magic ^= 1), Reason::AttestType, false);
}

#[test]
fn case_26_attestations_of_another_type_are_attest_type() {
    is(broken(|s, c, r| r.quote = s.ak.sign(s.certify(c).bytes())), Reason::AttestType, false);
    is(broken(|s, c, r| r.certify = s.ak.sign(s.quote(c).bytes())), Reason::AttestType, true);
    for kind in [0x8014, 0x8019, 0x801a, 0x801c, 0x8016] {
        is(broken_quote(|_, _, quote| quote.kind = kind), Reason::AttestType, false);
    }
}

#[test]
fn case_27_28_52_another_signers_name_is_signer_mismatch() {
    is(broken_quote(|_, _, quote| quote.signer[5] ^= 1), Reason::SignerMismatch, true);
    let owner = |sample: &Sample| {
        let name = names::name(&sample.payload.ak_public);
        let digest = sha256(&[0x4000_0001u32.to_be_bytes().as_slice(), &name]);
        [&[0, 0x0b][..], &digest].concat()
    };
    is(broken_quote(|s, _, quote| quote.signer = owner(s)), Reason::SignerMismatch, true);
    is(broken_certify(|s, _, certify| certify.signer = owner(s)), Reason::SignerMismatch, true);
}

#[test]
fn case_29_every_flipped_bit_of_attestation_and_signature_is_refused() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let (applicant, response) = (sample.examine().unwrap(), sample.response(&challenge));
    let slots: [fn(&mut Response) -> &mut Vec<u8>; 4] =
        [|r| &mut r.quote.attest, |r| &mut r.quote.signature, |r| &mut r.certify.attest, |r| &mut r.certify.signature];
    for slot in slots {
        let bits = slot(&mut response.clone()).len() * 8;
        for bit in 0..bits {
            let mut flipped = response.clone();
            slot(&mut flipped)[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_response(&applicant, challenge.clone(), &flipped, &CHANNEL, NOW).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn case_29_evidence_cut_off_anywhere_is_refused() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let response = sample.response(&challenge);
    for len in 0..response.quote.attest.len() {
        assert!(attest::parse(&response.quote.attest[..len]).is_err());
    }
    for len in 0..response.quote.signature.len() {
        assert!(signature::parse(&response.quote.signature[..len]).is_err());
    }
}

#[test]
fn case_30_signatures_of_another_form_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, Reason); 7] = [
        (|s| s[1] = 0x14, Reason::SigScheme),
        (|s| s[3] = 0x0c, Reason::SigScheme),
        (|s| s[3] = 0x04, Reason::SigScheme),
        (|s| s[6..38].fill(0), Reason::QuoteSignature),
        (|s| s[40..72].fill(0), Reason::QuoteSignature),
        (|s| s.push(0), Reason::EvidenceMalformed),
        (
            |s| {
                s[5] = 33;
                s.insert(6, 0);
            },
            Reason::EvidenceMalformed,
        ),
    ];
    for (change, reason) in cases {
        is(broken(|_, _, response| change(&mut response.quote.signature)), reason, false);
    }
}

#[test]
fn case_31_quote_over_other_pcrs_is_pcr_selection() {
    let bodies: [&[(u16, &[u32])]; 6] = [
        &[(0x000b, &[0, 1, 2, 3, 4, 5, 6])],
        &[(0x000b, &[0, 1, 2, 3, 4, 5, 6, 7, 8])],
        &[(0x0004, &[0, 1, 2, 3, 4, 5, 6, 7])],
        &[(0x000b, &[0, 1, 2, 3, 4, 5, 6, 7]), (0x000b, &[])],
        &[(0x000b, &[])],
        &[],
    ];
    for banks in bodies {
        is(broken_quote(|_, _, quote| quote.body = quote_body(banks, &sha256(&[]))), Reason::PcrSelection, true);
    }
}

#[test]
fn case_32_altered_pcr_values_are_refused() {
    is(broken(|_, _, r| r.pcr_values[3][0] ^= 1), Reason::PcrDigest, true);
    is(broken(|_, _, r| r.pcr_values.swap(0, 1)), Reason::PcrDigest, true);
    is(broken(|_, _, r| r.pcr_values[1] = r.pcr_values[0].clone()), Reason::PcrDigest, true);
    is(broken(|_, _, r| drop(r.pcr_values.pop())), Reason::EvidenceMalformed, true);
    is(broken(|_, _, r| r.pcr_values.push(vec![0; 32])), Reason::EvidenceMalformed, true);
    is(broken(|_, _, r| r.pcr_values[0].push(0)), Reason::EvidenceMalformed, true);
}

#[test]
fn case_33_a_log_that_does_not_replay_is_log_replay() {
    let denied = broken(|_, _, r| r.event_log = eventlog::sample::bytes(&eventlog::sample::good()));
    is(denied, Reason::LogReplay, true);
    is(broken(|_, _, r| r.event_log = vec![1, 2, 3]), Reason::LogMalformed, true);
}

#[test]
fn case_40_41_any_other_attribute_of_the_node_key_is_refused() {
    for bit in 0..32 {
        let mut sample = Sample::new();
        let attributes = templates::NODE_KEY_ATTRIBUTES ^ (1 << bit);
        sample.payload.node_public[4..8].copy_from_slice(&attributes.to_be_bytes());
        let reason = sample.examine().unwrap_err().reason;
        assert!(matches!(reason, Reason::NodekeyTemplate | Reason::EvidenceMalformed), "bit {bit}: {reason}");
        if [1, 4, 5, 11, 16, 17].contains(&bit) {
            assert_eq!(reason, Reason::NodekeyTemplate, "bit {bit}");
        }
    }
}

#[test]
fn case_42_a_certification_of_another_key_is_certify_name() {
    is(broken_certify(|_, _, certify| certify.body[9] ^= 1), Reason::CertifyName, true);
}

#[test]
fn case_43_a_certification_of_a_former_challenge_is_certify_nonce() {
    let former = |sample: &Sample| sample.certify(&sample.challenge(b"former")).extra;
    is(broken_certify(|s, _, certify| certify.extra = former(s)), Reason::CertifyNonce, true);
    is(broken_certify(|s, c, certify| certify.extra = s.quote(c).extra), Reason::CertifyNonce, true);
}

#[test]
fn a_machine_may_sleep_between_quote_and_certification() {
    let sample = Sample::new();
    let challenge = sample.challenge(b"challenge");
    let certify = Fields { restart: 2, ..sample.certify(&challenge) };
    let response = Response { certify: sample.ak.sign(certify.bytes()), ..sample.response(&challenge) };
    sample.verify(challenge, &response).unwrap();
}

#[test]
fn case_44_csrs_of_another_key_or_with_a_broken_signature_are_refused() {
    let mut sample = Sample::new();
    let other = KeyPair::generate().unwrap();
    sample.csr = CertificateParams::default().serialize_request(&other).unwrap().der().to_vec();
    refuses(&sample, Reason::CsrKey);
    let mut sample = Sample::new();
    *sample.csr.last_mut().unwrap() ^= 1;
    refuses(&sample, Reason::CsrSignature);
}

#[test]
fn case_44_names_asked_for_in_the_csr_are_ignored() {
    let mut sample = Sample::new();
    let params = CertificateParams::new(vec!["admin.example".into()]).unwrap();
    sample.csr = params.serialize_request(&sample.node).unwrap().der().to_vec();
    sample.examine().unwrap();
}

#[test]
fn case_53_evidence_relayed_over_another_connection_fails() {
    let sample = Sample::new();
    let challenge = OpenChallenge { secret: None, ak_known: true, ..sample.challenge(b"challenge") };
    let response = sample.response(&challenge);
    for channel in [Channel { exporter: [0; 32], ..CHANNEL }, Channel { trust_domain: "other.example", ..CHANNEL }] {
        let denied = verify_response(&sample.examine().unwrap(), challenge.clone(), &response, &channel, NOW);
        is(denied.unwrap_err(), Reason::QuoteNonce, false);
    }
}

#[test]
fn sizes_and_version_are_checked_first() {
    let mut sample = Sample::new();
    sample.payload.version = 2;
    refuses(&sample, Reason::EvidenceMalformed);
    let mut sample = Sample::new();
    sample.payload.ek_intermediates = vec![vec![]; 4];
    refuses(&sample, Reason::EvidenceTooLarge);
    is(broken(|_, _, r| r.event_log = vec![0; eventlog::MAX_LOG_BYTES + 1]), Reason::EvidenceTooLarge, false);
    is(broken(|_, _, r| r.quote.attest = vec![0; 1025]), Reason::EvidenceTooLarge, false);
}

mod swtpm {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            hex::decode(include_str!(concat!("fixtures/", $name, ".hex")).trim()).unwrap()
        };
    }

    fn trust() -> Trust {
        Trust {
            anchors: vec![Anchor::parse(&fixture!("issuer"), "id:00001014".parse().unwrap(), None).unwrap()],
            enrol: Enrol::Inventory,
            denied_eks: Default::default(),
            policies: PolicySet::default(),
        }
    }

    fn payload(ek_certificate: Vec<u8>) -> Payload {
        Payload {
            version: 1,
            ek_certificate,
            ak_public: fixture!("ak_public"),
            node_public: fixture!("node_public"),
            ..Payload::default()
        }
    }

    #[test]
    fn the_ek_rebuilt_from_a_certificate_is_the_ek_in_the_tpm() {
        for (certificate, public) in
            [(fixture!("ek_p384"), fixture!("ek_p384_public")), (fixture!("ek_rsa2048"), fixture!("ek_rsa2048_public"))]
        {
            let applicant = examine_payload(&payload(certificate), &fixture!("csr"), &trust(), true, NOW).unwrap();
            assert_eq!(hex::encode(applicant.ek_public), hex::encode(public));
        }
    }

    #[test]
    fn evidence_of_an_emulated_tpm_is_verified_with_its_log() {
        let csr = fixture!("csr");
        let applicant = examine_payload(&payload(fixture!("ek_p384")), &csr, &trust(), true, NOW).unwrap();
        let challenge = OpenChallenge {
            message: b"challenge bytes with a nonce of 32".to_vec(),
            t1: transcript::t1("tpm", b"payload bytes, hashed as they are", &csr),
            secret: Some(Zeroizing::new(SECRET)),
            ak_known: false,
            pcrs: (0..8).collect(),
            expires_at: NOW,
        };
        let response = Response {
            proof: fixture!("proof"),
            quote: Signed { attest: fixture!("quote_attest"), signature: fixture!("quote_signature") },
            pcr_values: fixture!("pcr_values").chunks(32).map(<[u8]>::to_vec).collect(),
            certify: Signed { attest: fixture!("certify_attest"), signature: fixture!("certify_signature") },
            event_log: fixture!("event_log"),
        };
        let verified = verify_response(&applicant, challenge, &response, &CHANNEL, NOW).unwrap();
        assert!(verified.log.unwrap().secure_boot.unwrap().on);
        assert_eq!(verified.applicant.device.unwrap().model, "swtpm");
    }
}
