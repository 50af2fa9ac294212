//! May this node join, or stay? The one place where bans, hardware binding, activation, boot state and
//! policy meet verified evidence.

pub mod boot_state;
pub mod pkcs11;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::{
    evidence::{
        Checks, Denied, Step,
        tpm::{Applicant, Verified},
    },
    node::{Node, Standing, TpmBinding},
    policy::{self, Facts, Outcome, Policy},
    reason::Reason,
    selector::{Selector, SelectorError, Selectors},
};

pub use boot_state::Boot;

/// An activation holds this long; then the EK proves again that it is there.
pub const ACTIVATION_LASTS_SECS: i64 = 30 * 24 * 3600;
/// Selector type of everything proven with a TPM.
pub const SELECTOR_TYPE: &str = "tpm";

/// What to challenge an applicant with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Wrap a secret to the AK under the EK.
    pub activate: bool,
    /// The AK is the one this node was admitted with.
    pub ak_known: bool,
    /// SHA-256 PCRs to quote.
    pub pcrs: BTreeSet<u32>,
    /// Ask for the event log.
    pub log_wanted: bool,
}

/// Plans the challenge: activation unless a good node comes with the AK it was admitted with, asks for no
/// activation, and was activated within [`ACTIVATION_LASTS_SECS`].
pub fn plan(stored: Option<&Node>, applicant: &Applicant, asked: Asked, policy: &Policy, now: UnixTime) -> Plan {
    let bound = stored.and_then(|node| node.tpm.as_ref());
    let ak_known = bound.is_some_and(|tpm| tpm.ak_name == applicant.ak_name && tpm.ek_hash == applicant.ek_hash);
    let good = stored.is_some_and(|node| node.standing == Standing::Good);
    let recent = bound.is_some_and(|tpm| now.since(tpm.activated_at) < ACTIVATION_LASTS_SECS);
    Plan {
        activate: asked.activate || !(ak_known && good && recent),
        ak_known,
        pcrs: policy.pcrs().clone(),
        log_wanted: asked.has_log || policy.log_required(),
    }
}

/// The wishes of a payload.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Asked {
    /// `Payload.activate`.
    pub activate: bool,
    /// `Payload.has_log`.
    pub has_log: bool,
}

/// Everything the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct NodeFacts<'a> {
    /// The node of this EK as the store keeps it.
    pub stored: Option<&'a Node>,
    /// The node the store has this AK name under, if any.
    pub ak_owner: Option<&'a SpiffeId>,
    /// The node's ID, made of the EK hash.
    pub id: &'a SpiffeId,
    /// The evidence.
    pub verified: &'a Verified,
    /// The policy the challenge was made from.
    pub policy: &'a Policy,
    /// Now.
    pub now: UnixTime,
}

/// A node that may join, and what to store of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admission {
    /// Facts proven about it.
    pub selectors: Selectors,
    /// EK, AK, last activation and boot state.
    pub binding: TpmBinding,
    /// The machine was started anew: its instances are over.
    pub new_boot: bool,
    /// Every check, from the payload's on; an alert is a passed step whose detail says `alert: ...`.
    pub steps: Vec<Step>,
}

/// Decides on verified evidence.
///
/// # Errors
/// [`Denied`]; attributable where the node's own AK signed what is refused.
///
/// Source: ARCHITECTURE, "Renewal is re-attestation"; docs/SOURCES.md, C21.
pub fn decide(facts: &NodeFacts<'_>) -> Result<Admission, Denied> {
    let mut checks = Checks::after(facts.verified.steps.clone());
    let banned = facts.stored.is_some_and(|node| node.standing == Standing::Banned);
    checks.require("node.ban", !banned, Reason::NodeBanned, "an operator banned the node")?;
    let previous = binding(facts, &mut checks)?;
    let activated_at = activation(facts, previous, &mut checks)?;
    checks.attribute(); // the AK is this node's own: known, or activated just now
    let boot =
        boot_state::judge(previous.map(|p| &p.boot), &facts.verified.boot, facts.verified.activated, &mut checks)?;
    rules(facts, previous, &mut checks)?;
    let applicant = &facts.verified.applicant;
    let selectors = selectors(facts).map_err(|e| checks.fail("selectors", Reason::EvidenceMalformed, e.to_string()))?;
    Ok(Admission {
        selectors,
        binding: TpmBinding {
            ek_hash: applicant.ek_hash,
            ak_name: applicant.ak_name.to_vec(),
            activated_at,
            boot: facts.verified.boot.clone(),
            before: previous.map(|p| p.boot.clone()),
        },
        new_boot: boot == Boot::New,
        steps: checks.into_steps(),
    })
}

/// One EK, one AK, one node, for ever; a new AK of the same EK needs a new activation.
fn binding<'a>(facts: &NodeFacts<'a>, checks: &mut Checks) -> Result<Option<&'a TpmBinding>, Denied> {
    let applicant = &facts.verified.applicant;
    let previous = facts.stored.and_then(|node| node.tpm.as_ref());
    let elsewhere = facts.ak_owner.is_some_and(|owner| owner != facts.id);
    let other_kind = facts.stored.is_some() && previous.is_none();
    let other_ek = previous.is_some_and(|tpm| tpm.ek_hash != applicant.ek_hash);
    let free = !elsewhere && !other_kind && !other_ek;
    checks.require(
        "node.binding",
        free,
        Reason::IdentityConflict,
        "the EK, the AK or the ID is bound to another node",
    )?;
    let same = previous.is_none_or(|tpm| tpm.ak_name == applicant.ak_name);
    let proven = same || facts.verified.activated;
    checks.require("node.ak", proven, Reason::AkChanged, "a new attestation key needs an activation")?;
    Ok(previous)
}

fn activation(facts: &NodeFacts<'_>, previous: Option<&TpmBinding>, checks: &mut Checks) -> Result<UnixTime, Denied> {
    if facts.verified.activated {
        checks.pass("node.activation", "");
        return Ok(facts.now);
    }
    let Some(previous) = previous else {
        return Err(checks.fail("node.activation", Reason::ActivationFailed, "a new node was not activated"));
    };
    let recent = facts.now.since(previous.activated_at) < ACTIVATION_LASTS_SECS;
    checks.require("node.activation", recent, Reason::ActivationDue, "the last activation is 30 days old")?;
    Ok(previous.activated_at)
}

/// All verdicts are recorded, the failed ones last; the first of these gives the reason.
fn rules(facts: &NodeFacts<'_>, previous: Option<&TpmBinding>, checks: &mut Checks) -> Result<(), Denied> {
    let verified = facts.verified;
    let manufacturer = verified.applicant.device.as_ref().map(|device| device.manufacturer);
    let seen = Facts { manufacturer, boot: &verified.boot, log: verified.log.as_ref() };
    let verdicts = policy::evaluate(facts.policy, &seen, previous.map(|p| &p.boot));
    let mut refusals = Vec::new();
    for verdict in verdicts {
        match verdict.outcome {
            Outcome::Passed => checks.pass(verdict.rule, verdict.detail),
            Outcome::Alert => checks.pass(verdict.rule, format!("alert: {}", verdict.detail)),
            Outcome::Failed(reason) => refusals.push((verdict.rule, reason, verdict.detail)),
        }
    }
    let mut refusals = refusals.into_iter();
    match refusals.next() {
        Some(first) => Err(checks.fail_all(first, refusals)),
        None => Ok(()),
    }
}

fn selectors(facts: &NodeFacts<'_>) -> Result<Selectors, SelectorError> {
    let applicant = &facts.verified.applicant;
    let mut values = vec![
        format!("ek:{}", hex::encode(applicant.ek_hash)),
        format!("enrolled:{}", if applicant.enrolled { "yes" } else { "no" }),
        format!("firmware:{:016x}", facts.verified.boot.firmware_version),
    ];
    if let Some(device) = &applicant.device {
        values.push(format!("manufacturer:{}", device.manufacturer));
        values.push(format!("model:{}", device.model));
    }
    let proven = facts.verified.log.as_ref().filter(|_| facts.verified.boot.pcrs.contains_key(&7));
    if let Some(Ok(state)) = proven.map(|log| &log.secure_boot) {
        values.push(format!("secure_boot:{}", if state.on { "on" } else { "off" }));
    }
    if facts.policy.name() != policy::NONE {
        values.push(format!("policy:{}", facts.policy.name()));
    }
    values.iter().map(|value| Selector::new(SELECTOR_TYPE, value)).collect()
}
