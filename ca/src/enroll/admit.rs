//! The end of every attestation: sign, commit, reply. Signing again where authorities rotate meanwhile.

use chancery_core::{
    crypto::sha256,
    evidence::Step,
    leaf,
    node::{CertRef, Node, Standing},
    reason::Reason,
};
use chancery_sdk::time::UnixTime;

use super::{Admitted, Refused, stranger};
use crate::{
    authority::IssuedX509,
    chance,
    issue::SIGN_TRIES,
    lifetimes,
    metrics::Metrics,
    problem::Problem,
    state::State,
    store::{AdmitNode, Fact, KeptEvidence, Outcome, Refusal},
};

/// A decided admission; what is missing is the certificate.
pub(super) struct Admission {
    /// What to store.
    pub node: Node,
    /// DER SubjectPublicKeyInfo that was proven.
    pub spki: Vec<u8>,
    /// Version the decision was made on.
    pub expected_version: Option<i64>,
    /// Hex hash of the join token to spend.
    pub spend_token: Option<String>,
    /// The EK must be enrolled.
    pub require_enrolled: bool,
    /// The token's attestation key must be enrolled.
    pub require_key_enrolled: bool,
    /// A new boot.
    pub ends_instances: bool,
    /// Verdict of each check.
    pub steps: Vec<Step>,
    /// The boot log, kept for the operator.
    pub evidence: Option<Vec<u8>>,
    /// What was said.
    pub kept: Option<KeptEvidence>,
    /// Address it came from.
    pub source: String,
}

/// Signs, commits and answers.
///
/// # Errors
/// [`Refused`]; no certificate left the process.
pub(super) async fn admit(state: &State, admission: Admission) -> Result<Admitted, Refused> {
    let profile = lifetimes::node(&state.config.ttl)?;
    for _ in 0..SIGN_TRIES {
        let limits = lifetimes::x509_limits(state, None)?;
        let validity = profile.clamp(0, limits, state.now())?;
        let leaf = leaf::for_node(&admission.node.id, &admission.spki, validity, chance::serial()?)?;
        let issued = state.authority.sign_x509(&leaf)?;
        match state.commit(Fact::AdmitNode(admission.fact(&issued))).await? {
            Outcome::Done { .. } => return Ok(done(state, admission, issued)),
            Outcome::Refused(Refusal::AuthorityNotActive) => {}
            Outcome::Refused(refusal) => return Err(refused(refusal)),
        }
    }
    Err(Refused::Problem(Problem::Unavailable("the authority rotates; try again".into())))
}

fn done(state: &State, admission: Admission, issued: IssuedX509) -> Admitted {
    Metrics::count(&state.metrics.svids, "kind", "node");
    state.metrics.attested(&admission.node.attestation_type, "admitted");
    Admitted {
        reattestable: admission.node.can_reattest,
        id: admission.node.id,
        chain: issued.chain,
        expires_at: issued.cert.expires_at,
    }
}

/// What the committing transaction saw that the decision did not.
fn refused(refusal: Refusal) -> Refused {
    let reason = match &refusal {
        Refusal::TokenUnknown => Reason::JoinTokenUnknown,
        Refusal::TokenExpired => Reason::JoinTokenExpired,
        Refusal::EkNotEnrolled => Reason::EkUnknown,
        Refusal::NodeNotGood => Reason::NodeBanned,
        Refusal::KeyNotEnrolled => Reason::KeyUnknown,
        Refusal::SvidKeyTaken => Reason::KeyReused,
        Refusal::AkTaken | Refusal::EkTaken | Refusal::KeyTaken => Reason::IdentityConflict,
        // Another attestation of the same node was first.
        Refusal::AlreadyExists(_) | Refusal::NotFound | Refusal::Stale => {
            return Refused::Problem(Problem::Conflict("the node attested meanwhile; try again".into()));
        }
        _ => return Refused::Problem(refusal.into()),
    };
    stranger(reason, refusal.to_string()).into()
}

impl Admission {
    fn fact(&self, issued: &IssuedX509) -> AdmitNode {
        AdmitNode {
            node: self.node.clone(),
            cert: issued.cert.clone(),
            authority: issued.authority_id.clone(),
            expected_version: self.expected_version,
            spend_token: self.spend_token.clone(),
            require_enrolled: self.require_enrolled,
            require_key_enrolled: self.require_key_enrolled,
            svid_key: sha256(&[&self.spki]),
            ends_instances: self.ends_instances,
            steps: self.steps.clone(),
            evidence: self.evidence.clone(),
            kept: self.kept.clone(),
            source: self.source.clone(),
        }
    }
}

/// A node as an admission describes it; serials, standing and version are the store's to set.
pub(super) fn node(id: chancery_sdk::id::SpiffeId, kind: &str, now: UnixTime) -> Node {
    let none: Option<CertRef> = None;
    Node {
        id,
        attestation_type: kind.into(),
        standing: Standing::Good,
        reason: String::new(),
        current: none.clone(),
        fresh: none,
        selectors: Default::default(),
        can_reattest: false,
        agent_version: String::new(),
        attested_at: now,
        version: 0,
        boot: Vec::new(),
        tpm: None,
        pkcs11: None,
    }
}
