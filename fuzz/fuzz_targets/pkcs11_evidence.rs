//! A token's key, certificates, their CRL and signature are accepted or refused, never a panic.
#![no_main]

use chancery_core::evidence::pkcs11::{
    AttestationKey, Crls, EnrolmentCa, Payload, Trust, VendorEvidence, certificate, examine_payload,
};
use chancery_sdk::time::UnixTime;
use libfuzzer_sys::fuzz_target;

const NOW: UnixTime = UnixTime(1_800_000_000);

fuzz_target!(|parts: (Vec<u8>, Vec<Vec<u8>>, Vec<u8>, String)| {
    let (key, certificates, rest, kind) = parts;
    if let Ok(key) = AttestationKey::parse(&key) {
        let _ = key.signed(b"message", &rest);
    }
    let enrolment_cas = certificates.last().and_then(|der| EnrolmentCa::parse(der).ok()).into_iter().collect();
    let mut crls = Crls::default();
    let _ = crls.add(&rest);
    let trust = Trust { enrolment_cas, enrolment_crls: Some(crls.into()), ..Trust::default() };
    for crls in [None, trust.enrolment_crls.as_deref()] {
        let _ = certificate::verify(&certificates, &key, &trust.enrolment_cas, crls, NOW);
    }
    let vendor = vec![VendorEvidence { kind, evidence: rest.clone() }];
    let payload = Payload { version: 1, key, certificates, vendor };
    let _ = examine_payload(&payload, &rest, &trust, true, NOW);
});
