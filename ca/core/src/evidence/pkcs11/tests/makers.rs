//! What makers state, as a part of the whole evidence; form by form in `vendor`.

use super::*;

/// A real YubiHSM 2's statement about one of its keys, and that key.
fn stated() -> (Payload, Trust) {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let evidence = include_bytes!("../vendor/samples/yubihsm2-20783176.chain.der").to_vec();
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
