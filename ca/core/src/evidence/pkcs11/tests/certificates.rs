//! Device certificates of an enrolment CA.

use super::*;

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
fn a_certificate_of_another_key_is_key_mismatch() {
    let mut sample = Sample::certified(&Profile::default());
    sample.payload.certificates = vec![sample.enroller.issue(&sample.svid, &Profile::default())];
    refuses(&sample, Reason::KeyMismatch);
}
