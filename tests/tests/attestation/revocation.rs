//! Case 39 over the network: an enrolment CA takes a device certificate back while the CA runs.

use std::path::Path;

use chancery_core::reason::Reason;
use time::{Duration, OffsetDateTime};

use crate::{
    court::{Court, case},
    token_rig::{EnrolmentCa, TokenRig},
};

/// Replaces the list and has it read.
fn publish(court: &Court, path: &Path, pem: &str) {
    std::fs::write(path, pem).unwrap();
    court.playground.ca(&["policy", "reload"]).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn a_revoked_device_is_refused_from_the_reload_on_and_a_stale_list_refuses_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (EnrolmentCa::new(), EnrolmentCa::new());
    let (cas, list) = (folder.path().join("cas.pem"), folder.path().join("list.pem"));
    std::fs::write(&cas, &ca.pem).unwrap();
    let (now, hour) = (OffsetDateTime::now_utc(), Duration::hours(1));
    let good = (now - hour, now + hour);
    std::fs::write(&list, ca.crl(good, &[])).unwrap();
    let lines = format!("\n[pkcs11]\nenrolment_ca_file = {cas:?}\nenrolment_crl_files = [{list:?}]\n");
    let court = Court::for_tokens(&lines);
    let [kept, revoked] = [0, 1].map(|_| {
        let mut rig = TokenRig::new(&court);
        rig.certificates = vec![ca.issue(&rig.key, |_| {})];
        rig
    });
    kept.admit(&court);
    revoked.admit(&court);

    publish(&court, &list, &ca.crl(good, &revoked.certificates));
    kept.admit(&court);
    court.refuses(vec![case("39: revoked", Reason::DeviceCertRevoked, revoked.attest(&court))]);

    // What cannot be read is not taken, and what was in force stays.
    for wrong in [ca.pem.clone(), String::new(), ca.crl(good, &[]) + &ca.crl(good, &[])] {
        std::fs::write(&list, wrong).unwrap();
        let told = court.playground.ca(&["policy", "reload"]).unwrap_err();
        assert!(told.contains("pkcs11.enrolment_crl_files"), "{told}");
    }
    kept.admit(&court);
    court.refuses(vec![case("39: still revoked", Reason::DeviceCertRevoked, revoked.attest(&court))]);

    let unusable = [
        ("39: stale", ca.crl((now - hour * 2, now - hour), &[])),
        ("39: not yet in force", ca.crl((now + hour, now + hour * 2), &[])),
        ("39: signed by another", other.crl(good, &[])),
    ];
    for (name, pem) in unusable {
        publish(&court, &list, &pem);
        court.refuses(vec![case(name, Reason::DeviceCertCrl, kept.attest(&court))]);
    }
}
