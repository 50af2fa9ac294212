//! The verdict of a policy on verified facts, rule by rule.

use super::{FirstUse, OnChange, Policy};
use crate::{
    eventlog::{LogFacts, secure_boot::SecureBoot},
    evidence::tpm::Manufacturer,
    node::BootState,
    reason::Reason,
};

/// What a policy looks at; everything in it was verified.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// From the EK certificate.
    pub manufacturer: Option<Manufacturer>,
    /// From the quote.
    pub boot: &'a BootState,
    /// From the event log.
    pub log: Option<&'a LogFacts>,
}

/// How one rule judges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Allowed, but an operator should look.
    Alert,
    /// Refused.
    Failed(Reason),
    /// As the rule wants it.
    Passed,
}

/// One rule's verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleVerdict {
    /// Stable name, for example `policy.golden`.
    pub rule: &'static str,
    /// The verdict.
    pub outcome: Outcome,
    /// What was seen.
    pub detail: String,
}

impl RuleVerdict {
    fn new(rule: &'static str, failed: Option<Reason>, detail: impl Into<String>) -> Self {
        Self { rule, outcome: failed.map_or(Outcome::Passed, Outcome::Failed), detail: detail.into() }
    }
}

/// Judges all rules, so that an operator sees every failure at once; the order is golden, log, state.
///
/// `previous` is the last accepted boot state, `None` for a node not seen before.
pub fn evaluate(policy: &Policy, facts: &Facts<'_>, previous: Option<&BootState>) -> Vec<RuleVerdict> {
    let mut verdicts = firmware(policy, facts);
    verdicts.extend(golden(policy, facts));
    verdicts.extend(log(policy, facts));
    verdicts.extend(state(policy, facts, previous));
    verdicts
}

fn firmware(policy: &Policy, facts: &Facts<'_>) -> Vec<RuleVerdict> {
    let version = facts.boot.firmware_version;
    let ranges = policy.firmware_deny.iter();
    ranges
        .map(|range| {
            let denied = range.holds(facts.manufacturer, version).then_some(Reason::EkDenied);
            RuleVerdict::new("policy.firmware", denied, format!("firmware {version:016x}, denied {range}"))
        })
        .collect()
}

fn golden(policy: &Policy, facts: &Facts<'_>) -> Vec<RuleVerdict> {
    let rules = policy.golden.iter();
    rules
        .map(|(pcr, allowed)| {
            let value = facts.boot.pcrs.get(pcr);
            let wrong = (!value.is_some_and(|value| allowed.contains(value))).then_some(Reason::PcrPolicy);
            let seen = value.map_or_else(|| "not quoted".into(), hex::encode);
            RuleVerdict::new("policy.golden", wrong, format!("PCR {pcr}: {seen}"))
        })
        .collect()
}

fn log(policy: &Policy, facts: &Facts<'_>) -> Vec<RuleVerdict> {
    let rules = &policy.log;
    let Some(log) = facts.log else {
        let missing =
            rules.required.then(|| RuleVerdict::new("policy.log", Some(Reason::LogMissing), "no event log came"));
        return missing.into_iter().collect();
    };
    // What the log says of a PCR is worth as much as the quote over that PCR.
    if let Some(pcr) = [4, 7].into_iter().find(|pcr| rules.covers(*pcr) && !facts.boot.pcrs.contains_key(pcr)) {
        return vec![RuleVerdict::new("policy.log", Some(Reason::PcrPolicy), format!("PCR {pcr} was not quoted"))];
    }
    let mut verdicts = Vec::new();
    if rules.secure_boot {
        verdicts.push(match &log.secure_boot {
            Ok(state) => secure_boot(policy, state),
            Err(error) => RuleVerdict::new("policy.secure_boot", Some(error.reason()), error.to_string()),
        });
    }
    if let Some(allowed) = &rules.boot_apps {
        verdicts.push(match &log.boot_apps {
            Ok(apps) => {
                let strange: Vec<String> = apps.iter().filter(|app| !allowed.contains(*app)).map(hex::encode).collect();
                let wrong = (!strange.is_empty()).then_some(Reason::PcrPolicy);
                RuleVerdict::new(
                    "policy.boot_apps",
                    wrong,
                    format!("PCR 4: {} started, not allowed {strange:?}", apps.len()),
                )
            }
            Err(error) => RuleVerdict::new("policy.boot_apps", Some(Reason::PcrPolicy), error.to_string()),
        });
    }
    verdicts
}

fn secure_boot(policy: &Policy, state: &SecureBoot) -> RuleVerdict {
    let refused = |reason, detail: String| RuleVerdict::new("policy.secure_boot", Some(reason), detail);
    if !state.on {
        return refused(Reason::LogSecureboot, "secure boot is off".into());
    }
    if state.dma_protection_off && !policy.log.allow_dma_protection_off {
        return refused(Reason::LogSecureboot, "DMA protection is off".into());
    }
    if let Some(allowed) = &policy.log.authorities {
        for authority in &state.authorities {
            match authority {
                Some(digest) if allowed.contains(digest) => {}
                Some(digest) => {
                    return refused(Reason::PcrPolicy, format!("authority {} is not allowed", hex::encode(digest)));
                }
                None => {
                    return refused(Reason::LogDataDigest, "an authority's data does not hash to its digest".into());
                }
            }
        }
    }
    RuleVerdict::new("policy.secure_boot", None, format!("on, {} authorities", state.authorities.len()))
}

/// State rules watch the PCRs that no other rule covers; explicit allow-lists win over "as before".
fn state(policy: &Policy, facts: &Facts<'_>, previous: Option<&BootState>) -> Vec<RuleVerdict> {
    let Some(rules) = policy.state else { return Vec::new() };
    let Some(previous) = previous else {
        let refused = (rules.first_use == FirstUse::Deny).then_some(Reason::PolicyFirstUse);
        return vec![RuleVerdict::new("policy.first_use", refused, "no boot state was accepted before")];
    };
    let changed: Vec<u32> = policy.watched().filter(|pcr| previous.pcrs.get(pcr) != facts.boot.pcrs.get(pcr)).collect();
    let outcome = match (changed.is_empty(), rules.on_change) {
        (true, _) => Outcome::Passed,
        (false, OnChange::Alert) => Outcome::Alert,
        (false, OnChange::Deny) => Outcome::Failed(Reason::PolicyOnChange),
    };
    vec![RuleVerdict { rule: "policy.on_change", outcome, detail: format!("changed PCRs {changed:?}") }]
}
