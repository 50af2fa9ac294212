//! Loading, judging and learning policies.

use std::collections::BTreeMap;

use super::*;
use crate::{
    eventlog::{self, LogFacts, sample},
    node::BootState,
    reason::Reason,
};

const FULL: &str = r#"
[[tpm.policy]]
name = "prod-uki"
match = { model = "SLB*", manufacturer = "IFX" }
bank = "sha256"
pcrs = [0, 4, 7, 11]
firmware = { deny = ["IFX < 7.85"] }
[tpm.policy.golden]
"11" = ["0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"]
[tpm.policy.log]
required = true
secure_boot = "on"
db_certs_sha256 = ["CERT"]
boot_apps_sha256 = ["5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"]
[tpm.policy.state]
first_use = "allow"
on_change = "deny"
"#;

fn full() -> String {
    FULL.replace("CERT", &hex::encode(crate::crypto::sha256(&[b"certificate"])))
}

fn policy(text: &str) -> Policy {
    PolicySet::from_toml(text).unwrap().policies()[0].clone()
}

fn boot() -> BootState {
    let pcrs: BTreeMap<u32, [u8; 32]> = [0, 4, 7, 11].map(|pcr| (pcr, [pcr as u8; 32])).into();
    BootState { pcrs, firmware_version: 0x0007_0055_0000_0000, ..BootState::default() }
}

fn log() -> LogFacts {
    eventlog::examine(&sample::bytes(&sample::good())).unwrap()
}

fn failures(policy: &Policy, boot: &BootState, log: Option<&LogFacts>, previous: Option<&BootState>) -> Vec<Reason> {
    let facts = Facts { manufacturer: "IFX".parse().ok(), boot, log };
    let failed = |v: RuleVerdict| match v.outcome {
        Outcome::Failed(reason) => Some(reason),
        Outcome::Alert | Outcome::Passed => None,
    };
    evaluate(policy, &facts, previous).into_iter().filter_map(failed).collect()
}

fn refused(from: &str, to: &str) -> String {
    assert!(full().contains(from), "{from}");
    PolicySet::from_toml(&full().replace(from, to)).unwrap_err().to_string()
}

#[test]
fn a_node_in_order_passes_every_rule() {
    assert_eq!(failures(&policy(&full()), &boot(), Some(&log()), Some(&boot())), []);
    assert_eq!(failures(&policy(&full()), &boot(), Some(&log()), None), []);
}

#[test]
fn policies_are_chosen_by_manufacturer_and_model() {
    let set = PolicySet::from_toml(&full()).unwrap();
    let ifx = "IFX".parse().ok();
    assert!(set.choose(ifx, Some("SLB9672")).is_some());
    assert!(set.choose(ifx, Some("R750")).is_none());
    assert!(set.choose("STM".parse().ok(), Some("SLB9672")).is_none());
    assert!(set.choose(None, None).is_none());
    assert_eq!(PolicySet::default().choose(None, None).unwrap().name(), NONE);
}

#[test]
fn files_that_leave_a_pcr_unchecked_do_not_load() {
    let state = "[tpm.policy.state]\nfirst_use = \"allow\"\non_change = \"deny\"\n";
    assert!(refused(state, "").contains("PCR 0 is named but no rule covers it"));
    assert!(refused("pcrs = [0, 4, 7, 11]", "pcrs = [0, 4, 11]").contains("PCR 7"));
    assert!(refused("pcrs = [0, 4, 7, 11]", "pcrs = [0, 4, 7]").contains("PCR 11"));
}

#[test]
fn files_with_mistakes_are_refused_and_the_mistake_is_named() {
    assert!(refused("required = true", "required = true\ndbx_min = \"2025\"").contains("dbx_min"));
    assert!(refused("first_use = \"allow\"", "first_use = \"maybe\"").contains("maybe"));
    assert!(refused("first_use = \"allow\"\n", "").contains("first_use"));
    assert!(refused("secure_boot = \"on\"", "secure_boot = \"off\"").contains("off"));
    assert!(refused("secure_boot = \"on\"\n", "").contains("secure_boot"));
    assert!(refused("required = true", "required = false").contains("required"));
    assert!(refused("\"sha256\"\npcrs", "\"sha1\"\npcrs").contains("sha1"));
    assert!(refused("IFX < 7.85", "IFX 7.85").contains("IFX 7.85"));
    assert!(refused("\"prod-uki\"", "\"none\"").contains("name"));
    assert!(refused("[0, 4, 7, 11]", "[0, 4, 7, 11, 23]").contains("23"));
    assert!(refused("[0, 4, 7, 11]", "[0, 0, 4, 7, 11]").contains("twice"));
    assert!(refused("0b0b0b", "xx0b0b").contains("hex"));
    let twice = format!("{}{}", full(), full());
    assert!(PolicySet::from_toml(&twice).unwrap_err().to_string().contains("used twice"));
}

#[test]
fn values_that_are_not_golden_are_pcr_policy() {
    let mut other = boot();
    other.pcrs.insert(11, [0; 32]);
    assert_eq!(failures(&policy(&full()), &other, Some(&log()), Some(&boot())), [Reason::PcrPolicy]);
    other.pcrs.remove(&11);
    assert_eq!(failures(&policy(&full()), &other, Some(&log()), Some(&boot())), [Reason::PcrPolicy]);
}

#[test]
fn case_39_a_missing_log_is_log_missing_where_required() {
    assert_eq!(failures(&policy(&full()), &boot(), None, Some(&boot())), [Reason::LogMissing]);
    let none = PolicySet::default();
    assert_eq!(failures(&none.policies()[0], &boot(), None, None), []);
}

#[test]
fn case_34_36_secure_boot_off_or_out_of_order_is_log_secureboot() {
    let mut facts = log();
    facts.secure_boot.as_mut().unwrap().on = false;
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::LogSecureboot]);
    facts.secure_boot = Err(eventlog::LogError::Order { at: 1, what: "late" });
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::LogSecureboot]);
    facts.secure_boot = Err(eventlog::LogError::DataDigest(1));
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::LogDataDigest]);
}

#[test]
fn log_rules_believe_nothing_of_a_pcr_that_was_not_quoted() {
    let mut other = boot();
    other.pcrs.remove(&7);
    let twice = failures(&policy(&full()), &other, Some(&log()), Some(&other));
    assert_eq!(twice, [Reason::PcrPolicy]);
}

#[test]
fn missing_dma_protection_is_refused_unless_the_policy_allows_it() {
    let mut facts = log();
    facts.secure_boot.as_mut().unwrap().dma_protection_off = true;
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::LogSecureboot]);
    let lenient = full().replace("required = true", "required = true\nallow_dma_protection_off = true");
    assert_eq!(failures(&policy(&lenient), &boot(), Some(&facts), None), []);
}

#[test]
fn strange_authorities_and_programs_are_refused() {
    let mut facts = log();
    facts.secure_boot.as_mut().unwrap().authorities.push(Some([1; 32]));
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::PcrPolicy]);
    facts.secure_boot.as_mut().unwrap().authorities[1] = None;
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::LogDataDigest]);
    let mut facts = log();
    facts.boot_apps.as_mut().unwrap().push([1; 32]);
    assert_eq!(failures(&policy(&full()), &boot(), Some(&facts), None), [Reason::PcrPolicy]);
}

#[test]
fn first_use_and_changes_follow_the_state_rules() {
    let strict = full().replace("first_use = \"allow\"", "first_use = \"deny\"");
    assert_eq!(failures(&policy(&strict), &boot(), Some(&log()), None), [Reason::PolicyFirstUse]);
    let mut last = boot();
    last.pcrs.insert(0, [9; 32]);
    assert_eq!(failures(&policy(&full()), &boot(), Some(&log()), Some(&last)), [Reason::PolicyOnChange]);
    let alert = policy(&full().replace("on_change = \"deny\"", "on_change = \"alert\""));
    let facts = Facts { manufacturer: "IFX".parse().ok(), boot: &boot(), log: Some(&log()) };
    assert!(evaluate(&alert, &facts, Some(&last)).iter().any(|v| v.outcome == Outcome::Alert));
    let mut last = boot();
    last.pcrs.insert(11, [9; 32]); // golden values say what is allowed, not the past
    assert_eq!(failures(&policy(&full()), &boot(), Some(&log()), Some(&last)), []);
}

#[test]
fn denied_firmware_is_ek_denied_and_unknown_makers_are_not_excused() {
    let mut old = boot();
    old.firmware_version = 0x0007_0054_0000_0000;
    assert_eq!(failures(&policy(&full()), &old, Some(&log()), None), [Reason::EkDenied]);
    let facts = Facts { manufacturer: None, boot: &old, log: Some(&log()) };
    assert!(evaluate(&policy(&full()), &facts, None).iter().any(|v| v.outcome == Outcome::Failed(Reason::EkDenied)));
}

#[test]
fn a_learned_policy_loads_and_admits_what_it_was_learned_from() {
    for log in [Some(log()), None] {
        let facts = Facts { manufacturer: "IFX".parse().ok(), boot: &boot(), log: log.as_ref() };
        let text = learn("learned", Some("SLB \"9672\""), &facts);
        let set = PolicySet::from_toml(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let learned = set.choose(facts.manufacturer, Some("SLB \"9672\"")).unwrap();
        assert_eq!(failures(learned, &boot(), log.as_ref(), None), []);
        let mut other = boot();
        other.pcrs.insert(0, [0xff; 32]);
        assert_eq!(failures(learned, &other, log.as_ref(), None), [Reason::PcrPolicy]);
    }
}
