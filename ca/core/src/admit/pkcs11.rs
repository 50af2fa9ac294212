//! May the node of this token join, or stay? Bans, key binding and the second host meet verified evidence.

use chancery_sdk::time::UnixTime;

use crate::{
    evidence::{
        Checks, Denied, Step,
        pkcs11::{SELECTOR_TYPE, Verified},
    },
    node::{KeyBinding, Node, Standing},
    reason::Reason,
    selector::{Selector, Selectors},
};

/// What becomes of a token that attests from another address while its SVID is still good.
///
/// A token proves itself, not a host: a network HSM or a forwarded socket serves any host that has the PIN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TwoHosts {
    /// Recorded as an alert, and admitted: hosts change their address.
    #[default]
    Alert,
    /// Refused, and the node's standing ends.
    Deny,
}

/// Everything the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    /// The node of this key as the store keeps it.
    pub stored: Option<&'a Node>,
    /// The evidence.
    pub verified: &'a Verified,
    /// Address it came from.
    pub source: &'a str,
    /// What the operator wants.
    pub two_hosts: TwoHosts,
    /// Now.
    pub now: UnixTime,
}

/// A node that may join, and what to store of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyAdmission {
    /// Facts proven about the key.
    pub selectors: Selectors,
    /// The key.
    pub binding: KeyBinding,
    /// Every check, from the payload's on; an alert is a passed step whose detail says `alert: ...`.
    pub steps: Vec<Step>,
}

/// Decides on verified evidence of a token alone.
///
/// # Errors
/// [`Denied`]; attributable, but for a ban: the signature was the node's own, fresh and on this connection.
///
/// Source: ARCHITECTURE, "Whose failure is it?"; docs/SOURCES.md, K13.
pub fn decide(facts: &KeyFacts<'_>) -> Result<KeyAdmission, Denied> {
    let mut checks = Checks::after(facts.verified.steps.clone());
    let banned = facts.stored.is_some_and(|node| node.standing == Standing::Banned);
    checks.require("node.ban", !banned, Reason::NodeBanned, "an operator banned the node")?;
    checks.attribute();
    bound(facts.stored, facts.verified, &mut checks)?;
    hosts(facts, &mut checks)?;
    admission(facts.stored, facts.verified, facts.source, checks)
}

/// Decides on a token beside another attestor's evidence, which was decided on before: `steps` are its checks.
///
/// # Errors
/// [`Denied`], attributable.
pub fn decide_section(
    stored: Option<&Node>,
    verified: &Verified,
    source: &str,
    steps: Vec<Step>,
) -> Result<KeyAdmission, Denied> {
    let mut checks = Checks::after(steps);
    checks.attribute();
    bound(stored, verified, &mut checks)?;
    admission(stored, verified, source, checks)
}

/// A node stays bound to its first key until an operator evicts it. Who else has the key is the store's to say.
fn bound(stored: Option<&Node>, verified: &Verified, checks: &mut Checks) -> Result<(), Denied> {
    let previous = stored.and_then(|node| node.pkcs11.as_ref());
    let same = previous.is_none_or(|bound| bound.key_sha256 == verified.applicant.key.hash());
    checks.require("key.binding", same, Reason::IdentityConflict, "the node is bound to another attestation key")
}

fn hosts(facts: &KeyFacts<'_>, checks: &mut Checks) -> Result<(), Denied> {
    let alive = facts.stored.filter(|node| node.standing == Standing::Good);
    let good = alive.and_then(|node| node.current.as_ref()).is_some_and(|svid| facts.now < svid.expires_at);
    let moved = alive.and_then(|node| node.pkcs11.as_ref()).is_some_and(|bound| bound.source != facts.source);
    if !(good && moved) {
        checks.pass("key.hosts", "");
        return Ok(());
    }
    let detail = "attested from another address while the last SVID is still good";
    match facts.two_hosts {
        TwoHosts::Alert => checks.pass("key.hosts", format!("alert: {detail}")),
        TwoHosts::Deny => return Err(checks.fail("key.hosts", Reason::TwoHosts, detail)),
    }
    Ok(())
}

fn admission(
    stored: Option<&Node>,
    verified: &Verified,
    source: &str,
    mut checks: Checks,
) -> Result<KeyAdmission, Denied> {
    let values = verified.applicant.selectors();
    let made = values.iter().map(|value| Selector::new(SELECTOR_TYPE, value)).collect::<Result<Selectors, _>>();
    let selectors = made.map_err(|e| checks.fail("selectors", Reason::EvidenceMalformed, e.to_string()))?;
    let lost: Vec<_> =
        stored.iter().flat_map(|node| levels(&node.selectors)).filter(|s| !selectors.contains(s)).collect();
    if let Some(level) = lost.first() {
        checks.pass("key.level", format!("alert: {level} is no longer proven"));
    }
    let binding = KeyBinding { key_sha256: verified.applicant.key.hash(), source: source.to_owned() };
    Ok(KeyAdmission { selectors, binding, steps: checks.into_steps() })
}

/// The levels above mere possession.
fn levels(selectors: &Selectors) -> impl Iterator<Item = &Selector> {
    let vouched = |value: &str| value == "device-cert" || value.starts_with("attested:");
    selectors.iter().filter(move |s| s.kind() == SELECTOR_TYPE && vouched(s.value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evidence::pkcs11::sample::{NOW, Profile, Sample},
        node::CertRef,
    };

    const HERE: &str = "192.0.2.7";

    fn facts<'a>(stored: Option<&'a Node>, verified: &'a Verified, source: &'a str) -> KeyFacts<'a> {
        KeyFacts { stored, verified, source, two_hosts: TwoHosts::Alert, now: NOW }
    }

    /// The node as the store has it after `admission`.
    fn stored(admission: &KeyAdmission) -> Node {
        Node {
            id: "spiffe://test.example/spire/agent/pkcs11/x".parse().unwrap(),
            attestation_type: "pkcs11".into(),
            standing: Standing::Good,
            reason: String::new(),
            current: Some(CertRef { serial: "1".into(), expires_at: NOW.plus(60) }),
            fresh: None,
            selectors: admission.selectors.clone(),
            can_reattest: true,
            agent_version: String::new(),
            attested_at: NOW,
            version: 0,
            boot: Vec::new(),
            tpm: None,
            pkcs11: Some(admission.binding.clone()),
        }
    }

    fn alerts(admission: &KeyAdmission) -> Vec<&'static str> {
        let alert = admission.steps.iter().filter(|step| step.detail.starts_with("alert:"));
        alert.map(|step| step.name).collect()
    }

    #[test]
    fn case_01_32_a_token_joins_and_attests_again() {
        let verified = Sample::new().verified();
        let first = decide(&facts(None, &verified, HERE)).unwrap();
        assert!(first.selectors.contains(&"pkcs11:pop-only".parse().unwrap()));
        let node = stored(&first);
        let again = decide(&facts(Some(&node), &verified, HERE)).unwrap();
        assert_eq!((again.binding.clone(), alerts(&again)), (first.binding, Vec::new()));
    }

    #[test]
    fn case_31_a_banned_key_is_node_banned_and_stays_it() {
        let verified = Sample::new().verified();
        let mut node = stored(&decide(&facts(None, &verified, HERE)).unwrap());
        node.standing = Standing::Banned;
        let denied = decide(&facts(Some(&node), &verified, HERE)).unwrap_err();
        assert_eq!((denied.reason, denied.attributable), (Reason::NodeBanned, false));
    }

    #[test]
    fn a_second_host_is_an_alert_or_ends_the_standing_as_the_operator_says() {
        let verified = Sample::new().verified();
        let mut node = stored(&decide(&facts(None, &verified, HERE)).unwrap());
        let elsewhere = facts(Some(&node), &verified, "198.51.100.1");
        assert_eq!(alerts(&decide(&elsewhere).unwrap()), ["key.hosts"]);
        let denied = decide(&KeyFacts { two_hosts: TwoHosts::Deny, ..elsewhere }).unwrap_err();
        assert_eq!((denied.reason, denied.attributable), (Reason::TwoHosts, true));
        // A host that moved while it was away is no second host.
        node.current = Some(CertRef { serial: "1".into(), expires_at: NOW });
        decide(&KeyFacts { two_hosts: TwoHosts::Deny, ..facts(Some(&node), &verified, "198.51.100.1") }).unwrap();
    }

    #[test]
    fn a_node_that_comes_with_another_key_is_identity_conflict() {
        let (one, other) = (Sample::new().verified(), Sample::new().verified());
        let node = stored(&decide(&facts(None, &one, HERE)).unwrap());
        let denied = decide_section(Some(&node), &other, HERE, Vec::new()).unwrap_err();
        assert_eq!((denied.reason, denied.attributable), (Reason::IdentityConflict, true));
        decide_section(Some(&node), &one, HERE, Vec::new()).unwrap();
    }

    #[test]
    fn a_level_that_is_no_longer_proven_is_an_alert() {
        let mut sample = Sample::certified(&Profile::default());
        let node = stored(&decide(&facts(None, &sample.verified(), HERE)).unwrap());
        assert!(node.selectors.contains(&"pkcs11:device-cert".parse().unwrap()));
        (sample.payload.certificates, sample.enrolled) = (Vec::new(), true);
        let less = decide(&facts(Some(&node), &sample.verified(), HERE)).unwrap();
        assert_eq!(alerts(&less), ["key.level"]);
        assert!(!less.selectors.contains(&"pkcs11:device-cert".parse().unwrap()));
    }
}
