//! Measured-boot policies, as operators ask about them. The verdicts are the core's.

use chancery_core::{
    eventlog::{self, LogFacts},
    evidence::tpm::Manufacturer,
    node::{BootState, Node},
    policy::{self, Facts, Outcome, RuleVerdict},
};
use chancery_sdk::id::SpiffeId;

use crate::{enroll::Loaded, nodes, problem::Problem, state::State};

/// Longest name of a policy in bytes.
const MAX_NAME_BYTES: usize = 64;

/// What a policy would have said to a node's last accepted evidence.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Name of the policy in force for this TPM.
    pub policy: String,
    /// Whether no rule fails.
    pub admitted: bool,
    /// Each rule's verdict.
    pub rules: Vec<RuleVerdict>,
}

/// What is kept of a node's last accepted attestation.
struct Seen {
    boot: BootState,
    /// What it was compared with; `None` where the attestation was the node's first.
    before: Option<BootState>,
    log: Option<LogFacts>,
    manufacturer: Option<Manufacturer>,
    model: Option<String>,
}

impl Seen {
    fn facts(&self) -> Facts<'_> {
        Facts { manufacturer: self.manufacturer, boot: &self.boot, log: self.log.as_ref() }
    }
}

/// Reads anchors and policies again; what is wrong is told and the old ones stay.
///
/// # Errors
/// [`Problem::Precondition`] with the file and what is wrong in it.
pub async fn reload(state: &State) -> Result<Loaded, Problem> {
    state.reload().await.map_err(|e| Problem::Precondition(e.to_string()))
}

/// Holds a node's last accepted evidence against the policy in force, as if it came again: the rules about the boot
/// state compare it with the one that was stored when it came.
///
/// # Errors
/// [`Problem::NotFound`], [`Problem::Precondition`] for nodes without a TPM and TPMs without a policy.
pub async fn explain(state: &State, id: &SpiffeId) -> Result<Explained, Problem> {
    let seen = seen(state, id).await?;
    let trust = state.trust.load_full();
    let Some(policy) = trust.policies.choose(seen.manufacturer, seen.model.as_deref()) else {
        return Err(Problem::Precondition("no policy covers this manufacturer and model".into()));
    };
    let rules = policy::evaluate(policy, &seen.facts(), seen.before.as_ref());
    let admitted = !rules.iter().any(|rule| matches!(rule.outcome, Outcome::Failed(_)));
    Ok(Explained { policy: policy.name().to_owned(), admitted, rules })
}

/// A candidate policy, as TOML, that a node's last accepted evidence meets.
///
/// # Errors
/// As [`explain`]; [`Problem::Invalid`] for a name that is no selector value.
pub async fn learn(state: &State, id: &SpiffeId, name: &str) -> Result<String, Problem> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    if !fits || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(Problem::Invalid(format!("policy name must be 1 to {MAX_NAME_BYTES} of A-Z a-z 0-9 . - _")));
    }
    let seen = seen(state, id).await?;
    Ok(policy::learn(name, seen.model.as_deref(), &seen.facts()))
}

async fn seen(state: &State, id: &SpiffeId) -> Result<Seen, Problem> {
    let node = nodes::get(state, id).await?.node;
    let Some(tpm) = node.tpm.clone() else {
        return Err(Problem::Precondition(format!(
            "{id} attested by {}, which has no boot state",
            node.attestation_type
        )));
    };
    // The log was verified when it was accepted, and is parsed again the same way.
    let log = state.store.evidence(id).await?.filter(|log| !log.is_empty());
    let log = log.map(|log| eventlog::examine(&log)).transpose();
    let log = log.map_err(|e| Problem::Internal(format!("stored event log: {e}")))?;
    let manufacturer = fact(&node, "manufacturer:").and_then(|text| text.parse().ok());
    Ok(Seen { boot: tpm.boot, before: tpm.before, log, manufacturer, model: fact(&node, "model:") })
}

/// A fact that the last admission wrote down as a selector.
fn fact(node: &Node, prefix: &str) -> Option<String> {
    let of_tpm = node.selectors.iter().filter(|s| s.kind() == "tpm");
    of_tpm.filter_map(|s| s.value().strip_prefix(prefix)).next().map(str::to_owned)
}
