//! What holds for every vendor.

use super::{sample::*, *};

fn verify_kind(kind: &str, policy: &VendorPolicy) -> Reason {
    verify(kind, YUBIHSM2, b"", &roots(), policy, NOW).unwrap_err().reason
}

#[test]
fn nothing_is_enabled_by_default_and_unknown_kinds_are_refused() {
    let yubihsm2 = on(Vendor::YubiHsm2, Terms::default());
    assert_eq!(verify_kind("yubihsm2", &VendorPolicy::default()), Reason::VendorKind);
    assert_eq!(verify_kind("sc-hsm", &yubihsm2), Reason::VendorKind);
    for kind in ["luna", "", "YubiHSM2", "yubihsm2 "] {
        assert_eq!(verify_kind(kind, &yubihsm2), Reason::VendorKind, "{kind}");
    }
}

#[test]
fn evidence_above_the_limit_is_refused_before_it_is_read() {
    for vendor in Vendor::ALL {
        let evidence = vec![0; MAX_EVIDENCE_BYTES + 1];
        let policy = on(*vendor, Terms::default());
        let refused = verify(vendor.name(), &evidence, b"", &roots(), &policy, NOW).unwrap_err();
        assert_eq!(refused.reason, Reason::EvidenceTooLarge);
        assert!(refused.detail.contains("8193 bytes exceeds 8192"), "{refused}");
    }
}

#[test]
fn one_vendors_evidence_is_not_taken_for_anothers() {
    let (yubihsm2, sc_hsm) = (on(Vendor::YubiHsm2, Terms::default()), on(Vendor::ScHsm, Terms::default()));
    let nitrokey = [NITROKEY, NITROKEY_KEY].concat();
    let refused = verify("yubihsm2", &nitrokey, b"", &roots(), &yubihsm2, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::EvidenceMalformed);
    let refused = verify("sc-hsm", YUBIHSM2, b"", &roots(), &sc_hsm, NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::EvidenceMalformed);
}

#[test]
fn firmware_is_compared_as_numbers() {
    let read = |text: &str| text.parse::<Firmware>();
    assert!(read("2.10").unwrap() > read("2.9.9").unwrap());
    assert_eq!(read("2.4").unwrap().to_string(), "2.4.0");
    for wrong in ["2", "2.4.1.0", "2.256", "2.x", "", "-1.0"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_root_is_not_taken_for_what_it_is_not() {
    let mut roots = PinnedRoots::default();
    let key_certificate = &YUBIHSM2[..YUBIHSM2_PARTS[0]];
    let root = include_bytes!("roots/yubihsm2.der");
    assert_eq!(roots.add_root(Vendor::YubiHsm2, key_certificate), Err(RootError::NotCa(Vendor::YubiHsm2)));
    let trailing = [&root[..], &[0]].concat();
    assert!(matches!(roots.add_root(Vendor::YubiHsm2, &trailing), Err(RootError::Malformed { .. })));
    assert!(matches!(roots.add_root(Vendor::ScHsm, root), Err(RootError::Malformed { .. })));
    let sub_ca = &YUBIHSM2[YUBIHSM2_PARTS[1]..];
    assert_eq!(roots.add_intermediate(Vendor::ScHsm, sub_ca), Err(RootError::NoIntermediates(Vendor::ScHsm)));
    let refused = roots.add_intermediate(Vendor::YubiHsm2, key_certificate);
    assert_eq!(refused, Err(RootError::NotCa(Vendor::YubiHsm2)));
}
