//! Cases 45 to 51: what a node may become, against what is stored of it.

use super::*;
use crate::{
    evidence::tpm::sample::{Fields, NOW, Sample},
    node::CertRef,
    policy::PolicySet,
};

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://test.example/spire/agent/tpm/aa").unwrap()
}

fn none() -> Policy {
    PolicySet::default().policies()[0].clone()
}

fn admit(stored: Option<&Node>, verified: &Verified) -> Result<Admission, Denied> {
    decide(&NodeFacts { stored, ak_owner: None, id: &id(), verified, policy: &none(), now: NOW })
}

/// A node and its sample, admitted before with the sample's boot state and a clock of 900.
fn known() -> (Sample, Node) {
    let sample = Sample::new();
    let mut binding = admit(None, &sample.verified(true, |_| {})).unwrap().binding;
    binding.boot.clock = 900;
    let node = Node {
        id: id(),
        attestation_type: "tpm".into(),
        standing: Standing::Good,
        reason: String::new(),
        current: Some(CertRef { serial: "1".into(), expires_at: NOW }),
        fresh: None,
        selectors: Selectors::new(),
        can_reattest: true,
        agent_version: String::new(),
        attested_at: NOW,
        version: 1,
        boot: Vec::new(),
        tpm: Some(binding),
        pkcs11: None,
    };
    (sample, node)
}

/// A known node answers with another boot state.
fn again(activated: bool, change: impl Fn(&mut Fields)) -> Result<Admission, Denied> {
    let (sample, node) = known();
    admit(Some(&node), &sample.verified(activated, change))
}

fn refuses(result: Result<Admission, Denied>, reason: Reason, attributable: bool) {
    let denied = result.unwrap_err();
    assert_eq!((denied.reason, denied.attributable), (reason, attributable), "{denied}");
    assert!(denied.steps.last().is_some_and(|step| !step.passed));
}

#[test]
fn a_new_node_is_admitted_after_activation_with_its_selectors() {
    let sample = Sample::new();
    let verified = sample.verified(true, |_| {});
    let admission = admit(None, &verified).unwrap();
    let selectors: Vec<String> = admission.selectors.iter().map(ToString::to_string).collect();
    let ek = format!("tpm:ek:{}", hex::encode(verified.applicant.ek_hash));
    assert_eq!(
        selectors,
        [ek.as_str(), "tpm:enrolled:yes", "tpm:firmware:0007005511cb0000", "tpm:manufacturer:IFX", "tpm:model:SLB9672"]
    );
    assert!(admission.new_boot);
    assert_eq!(admission.binding.activated_at, NOW);
}

#[test]
fn a_new_node_without_activation_is_refused() {
    refuses(admit(None, &Sample::new().verified(false, |_| {})), Reason::ActivationFailed, false);
}

#[test]
fn secure_boot_is_a_selector_only_when_the_log_proves_it_for_a_quoted_pcr_7() {
    use crate::eventlog::{examine, sample::*};
    let mut sample = Sample::new();
    sample.log = bytes(&good());
    let replayed = examine(&sample.log).unwrap().replayed;
    sample.pcrs = (0..8).map(|pcr| (pcr, replayed.get(&pcr).copied().unwrap_or_default())).collect();
    let has = |sample: &Sample| {
        let admission = admit(None, &sample.verified(true, |_| {})).unwrap();
        admission.selectors.iter().any(|s| s.value() == "secure_boot:on")
    };
    assert!(has(&sample));
    sample.pcrs.pop();
    assert!(!has(&sample));
}

#[test]
fn a_policy_that_passes_is_a_selector() {
    let text = "[[tpm.policy]]\nname = \"lab\"\nbank = \"sha256\"\npcrs = [0]\n[tpm.policy.state]\nfirst_use = \"FIRST\"\non_change = \"deny\"\n";
    let policy = |first: &str| PolicySet::from_toml(&text.replace("FIRST", first)).unwrap().policies()[0].clone();
    let verified = Sample::new().verified(true, |_| {});
    let decided = |policy: &Policy| {
        decide(&NodeFacts { stored: None, ak_owner: None, id: &id(), verified: &verified, policy, now: NOW })
    };
    assert!(decided(&policy("allow")).unwrap().selectors.iter().any(|s| s.value() == "policy:lab"));
    refuses(decided(&policy("deny")), Reason::PolicyFirstUse, true);
}

#[test]
fn every_failed_rule_is_recorded_and_the_first_gives_the_reason() {
    let text = "[[tpm.policy]]\nname = \"lab\"\nbank = \"sha256\"\npcrs = [0, 1, 2]\n\
        [tpm.policy.golden]\n\"0\" = [\"EE\"]\n\"1\" = [\"EE\"]\n\
        [tpm.policy.state]\nfirst_use = \"deny\"\non_change = \"deny\"\n";
    let policy = PolicySet::from_toml(&text.replace("EE", &"ee".repeat(32))).unwrap().policies()[0].clone();
    let verified = Sample::new().verified(true, |_| {});
    let facts = NodeFacts { stored: None, ak_owner: None, id: &id(), verified: &verified, policy: &policy, now: NOW };
    let denied = decide(&facts).unwrap_err();
    assert_eq!(denied.reason, Reason::PcrPolicy);
    assert!(denied.detail.starts_with("PCR 0: "), "{denied}");
    let failed: Vec<(&str, &str)> = denied
        .steps
        .iter()
        .filter(|step| !step.passed)
        .map(|step| (step.name, step.detail.split(": ").next().unwrap()))
        .collect();
    assert_eq!(
        failed,
        [("policy.golden", "PCR 0"), ("policy.golden", "PCR_POLICY"), ("policy.first_use", "POLICY_FIRST_USE")]
    );
}

#[test]
fn an_admission_remembers_the_boot_state_it_was_compared_with() {
    let (sample, node) = known();
    let before = node.tpm.clone().unwrap().boot;
    assert!(admit(None, &sample.verified(true, |_| {})).unwrap().binding.before.is_none());
    let admission = admit(Some(&node), &sample.verified(true, |_| {})).unwrap();
    assert_eq!(admission.binding.before, Some(before));
    assert_ne!(admission.binding.before.as_ref(), Some(&admission.binding.boot));
}

#[test]
fn banned_node_is_refused_whatever_it_proves() {
    let (sample, mut node) = known();
    node.standing = Standing::Banned;
    refuses(admit(Some(&node), &sample.verified(true, |_| {})), Reason::NodeBanned, false);
}

#[test]
fn a_failed_node_comes_back_by_a_good_proof() {
    let (sample, mut node) = known();
    node.standing = Standing::Failed;
    admit(Some(&node), &sample.verified(true, |_| {})).unwrap();
}

#[test]
fn case_45_47_hardware_bound_elsewhere_is_identity_conflict() {
    let (sample, mut node) = known();
    let verified = sample.verified(true, |_| {});
    let other = SpiffeId::parse("spiffe://test.example/spire/agent/tpm/bb").unwrap();
    let facts =
        NodeFacts { stored: None, ak_owner: Some(&other), id: &id(), verified: &verified, policy: &none(), now: NOW };
    refuses(decide(&facts), Reason::IdentityConflict, false);
    node.tpm.as_mut().unwrap().ek_hash = [0; 32];
    refuses(admit(Some(&node), &verified), Reason::IdentityConflict, false);
    node.tpm = None;
    refuses(admit(Some(&node), &verified), Reason::IdentityConflict, false);
}

#[test]
fn case_48_a_new_ak_needs_an_activation() {
    let (sample, mut node) = known();
    node.tpm.as_mut().unwrap().ak_name[5] ^= 1;
    refuses(admit(Some(&node), &sample.verified(false, |_| {})), Reason::AkChanged, false);
    let admission = admit(Some(&node), &sample.verified(true, |_| {})).unwrap();
    assert_eq!(admission.binding.ak_name, sample.verified(true, |_| {}).applicant.ak_name);
}

#[test]
fn case_49_a_clock_that_does_not_grow_within_a_boot_is_clock_rollback() {
    for clock in [0, 899, 900] {
        refuses(again(true, |q| q.clock = clock), Reason::ClockRollback, true);
        refuses(again(false, |q| (q.clock, q.safe) = (clock, 0)), Reason::ClockRollback, true);
        refuses(again(false, |q| (q.clock, q.restart) = (clock, 2)), Reason::ClockRollback, true);
    }
    refuses(again(true, |q| q.restart = 0), Reason::ClockRollback, true);
    assert!(!again(false, |q| q.clock = 901).unwrap().new_boot);
    assert!(!again(false, |q| (q.clock, q.restart) = (901, 2)).unwrap().new_boot);
}

#[test]
fn case_50_a_reset_counter_that_went_back_needs_an_activation() {
    refuses(again(false, |q| (q.reset, q.restart) = (0, 0)), Reason::ResetRollback, true);
    let admission = again(true, |q| (q.reset, q.restart) = (0, 0)).unwrap();
    assert!(admission.new_boot && admission.steps.iter().any(|s| s.detail.starts_with("alert")));
}

#[test]
fn a_reboot_may_change_pcrs_and_clock_and_is_a_new_boot() {
    assert!(again(false, |q| (q.reset, q.restart, q.clock) = (5, 0, 1)).unwrap().new_boot);
}

#[test]
fn case_51_boot_pcrs_that_change_without_a_reboot_are_pcr_runtime_change() {
    let (mut sample, node) = known();
    sample.pcrs[7].1 = [0xee; 32];
    refuses(admit(Some(&node), &sample.verified(true, |_| {})), Reason::PcrRuntimeChange, true);
    refuses(admit(Some(&node), &sample.verified(false, |q| q.restart = 2)), Reason::PcrRuntimeChange, true);
    assert!(admit(Some(&node), &sample.verified(false, |q| q.reset = 5)).unwrap().new_boot);
}

#[test]
fn changed_firmware_needs_an_activation() {
    refuses(again(false, |q| q.firmware += 1), Reason::FirmwareChanged, true);
    refuses(again(false, |q| (q.firmware, q.reset) = (1, 5)), Reason::FirmwareChanged, true);
    again(true, |q| (q.firmware, q.reset) = (1, 5)).unwrap();
}

#[test]
fn an_activation_lasts_30_days() {
    let (sample, mut node) = known();
    node.tpm.as_mut().unwrap().activated_at = NOW.plus(-ACTIVATION_LASTS_SECS + 1);
    let admission = admit(Some(&node), &sample.verified(false, |_| {})).unwrap();
    assert_eq!(admission.binding.activated_at, NOW.plus(-ACTIVATION_LASTS_SECS + 1));
    node.tpm.as_mut().unwrap().activated_at = NOW.plus(-ACTIVATION_LASTS_SECS);
    refuses(admit(Some(&node), &sample.verified(false, |_| {})), Reason::ActivationDue, false);
}

#[test]
fn activation_is_planned_unless_a_good_node_comes_with_its_own_ak() {
    let (sample, node) = known();
    let applicant = sample.examine().unwrap();
    let planned = |node: Option<&Node>, asked: bool| {
        plan(node, &applicant, Asked { activate: asked, has_log: false }, &none(), NOW)
    };
    assert_eq!(
        planned(None, false),
        Plan { activate: true, ak_known: false, pcrs: (0..8).collect(), log_wanted: false }
    );
    assert!(!planned(Some(&node), false).activate && planned(Some(&node), false).ak_known);
    assert!(planned(Some(&node), true).activate);
    let mut failed = node.clone();
    failed.standing = Standing::Failed;
    let mut old = node.clone();
    old.tpm.as_mut().unwrap().activated_at = NOW.plus(-ACTIVATION_LASTS_SECS);
    let mut other = node;
    other.tpm.as_mut().unwrap().ak_name[5] ^= 1;
    assert!([&failed, &old, &other].into_iter().all(|node| planned(Some(node), false).activate));
    assert!(!planned(Some(&other), false).ak_known);
}
