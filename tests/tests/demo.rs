//! The demos pass, and they can fail: each spoiled one exits 1 and says which act was not as told.
//!
//! The demo of the HSM as a whole is `make demo-hsm`: without its taint it goes through every other act here.

use std::process::Command;

use chancery_tests::playground::Binaries;

fn demo(args: &[&str]) -> (Option<i32>, String) {
    let bin = Binaries::find().unwrap();
    let mut command = Command::new(bin.path("demo"));
    // Everything is built. Told that cargo runs it, the demo would have the daemons built once more, with other features.
    command.args(args).env_remove("CARGO");
    let out = command.output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (out.status.code(), said)
}

#[test]
fn every_act_goes_as_told() {
    let (code, said) = demo(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("failures among good nodes 0"), "{said}");
    // Three peers of the revoked instance, two connections with each; then its child and itself.
    assert_eq!(said.matches(" ms after the command began (where it calls, at its next call)").count(), 3, "{said}");
    assert_eq!(said.matches(" ms (where it was called); its next handshake with").count(), 3, "{said}");
    assert_eq!(said.matches("is given nothing:").count(), 2, "{said}");
}

#[test]
fn fresh_evidence_in_place_of_the_replayed_one_fails_the_demo() {
    let (code, said) = demo(&["--spoil", "fresh-evidence"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the CA admitted a replayed attestation"), "{said}");
}

#[test]
fn an_emptied_pcr_policy_fails_the_demo() {
    let (code, said) = demo(&["--spoil", "no-policy"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the refusal of node 1: no such event"), "{said}");
}

#[test]
fn a_class_opened_again_before_the_revoked_instance_forks_fails_the_demo() {
    let (code, said) = demo(&["--spoil", "reopened-class"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the same program and user, got the identity spiffe://"), "{said}");
}

#[test]
fn an_attestor_stopped_past_a_rotation_fails_the_demo() {
    let (code, said) = demo(&["--spoil", "stopped-attestor"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("on node 0: rotation 3"), "{said}");
}

#[test]
fn an_hsm_that_never_comes_back_fails_the_demo_of_the_hsm() {
    let (code, said) = demo(&["hsm", "--spoil", "never-back"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the CA does not sign again"), "{said}");
}

#[test]
fn a_taint_left_out_fails_the_demo_of_the_hsm_after_its_outage() {
    let (code, said) = demo(&["hsm", "--spoil", "no-taint"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("every instance has rotated before the end of what it held"), "{said}");
    assert!(said.contains("the authority.tainted of"), "{said}");
}

#[test]
fn servers_die_in_turn_and_nobody_notices() {
    let (code, said) = demo(&["ha", "--short"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("failures 0; rotations"), "{said}");
}

#[test]
fn servers_that_never_come_back_fail_the_demo_of_high_availability() {
    let (code, said) = demo(&["ha", "--spoil", "never-back"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is dead, and no other server is asked"), "{said}");
}
