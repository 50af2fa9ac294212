//! The demo passes, and it can fail: each spoiled demo exits 1 and says which act was not as told.

use std::process::Command;

use chancery_tests::playground::Binaries;

fn demo(spoil: Option<&str>) -> (Option<i32>, String) {
    let bin = Binaries::find().unwrap();
    let mut command = Command::new(bin.path("demo"));
    if let Some(spoil) = spoil {
        command.args(["--spoil", spoil]);
    }
    let out = command.output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (out.status.code(), said)
}

#[test]
fn every_act_goes_as_told() {
    let (code, said) = demo(None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("failures among good nodes 0"), "{said}");
}

#[test]
fn fresh_evidence_in_place_of_the_replayed_one_fails_the_demo() {
    let (code, said) = demo(Some("fresh-evidence"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the CA admitted a replayed attestation"), "{said}");
}

#[test]
fn an_emptied_pcr_policy_fails_the_demo() {
    let (code, said) = demo(Some("no-policy"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the refusal of node 1: no such event"), "{said}");
}

#[test]
fn an_attestor_stopped_past_a_rotation_fails_the_demo() {
    let (code, said) = demo(Some("stopped-attestor"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("on node 0: rotation 3"), "{said}");
}
