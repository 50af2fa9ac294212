//! PKCS#11 attestation: examine, challenge, verify, decide; then sign, commit, reply. Alone, or beside a TPM.
//!
//! Nonce and time enter here and nowhere else; every check is the core's. A re-attestation goes the same way.

use std::{net::IpAddr, sync::Arc};

use chancery_core::{
    admit::pkcs11::{self as rules, KeyFacts},
    evidence::{
        Denied, Step,
        pkcs11::{self, Applicant, Channel, OpenChallenge, Payload, Response, examine_payload, verify_response},
    },
    node::{KeyBinding, Node},
    reason::Reason,
    selector::Selectors,
    transcript,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use super::{Admitted, CHALLENGE_SECS, KeptEvidence, Refused, admit, stranger};
use crate::{
    chance,
    config::{NodeAttestor, TwoHosts},
    problem::Problem,
    state::State,
};

/// Attestation type.
pub const TYPE: &str = "pkcs11";

/// An applicant whose key somebody vouches for, and what it must answer. Used once, never stored.
pub struct Open {
    applicant: Applicant,
    id: SpiffeId,
    stored: Option<Node>,
    t1: [u8; 32],
    expires_at: UnixTime,
}

/// What the applicant is asked.
#[derive(Clone, Copy, Debug)]
pub struct Challenge {
    /// Fresh.
    pub nonce: [u8; 32],
}

impl Open {
    /// The node as it is stored, for an attributable failure.
    pub fn stored(&self) -> Option<&Node> {
        self.stored.as_ref()
    }
}

/// Examines an opening and makes its challenge. `payload_bytes` are the bytes `payload` was read from.
///
/// # Errors
/// [`Refused`], never attributable: nothing is proven yet.
pub async fn challenge(
    state: &State,
    payload: &Payload,
    payload_bytes: &[u8],
    csr: &[u8],
) -> Result<(Open, Challenge), Refused> {
    let (trust, now) = (state.trust.load_full(), state.now());
    let enrolled = enrolled(state, payload).await?;
    let applicant = examine_payload(payload, csr, trust.pkcs11(), enrolled, now)?;
    let id = node_id(state, &applicant.key.hash())?;
    let stored = state.store.node(&id).await?;
    let t1 = transcript::t1(TYPE, payload_bytes, csr);
    let expires_at = now.plus(CHALLENGE_SECS);
    Ok((Open { applicant, id, stored, t1, expires_at }, Challenge { nonce: chance::bytes()? }))
}

async fn enrolled(state: &State, payload: &Payload) -> Result<bool, Refused> {
    let key = pkcs11::claimed_key(payload)?;
    Ok(state.store.key_enrolled(&key).await?.is_some())
}

/// ID of the node of this attestation key.
///
/// # Errors
/// [`Problem::Internal`] where the domain leaves no room.
pub fn node_id(state: &State, key_sha256: &[u8; 32]) -> Result<SpiffeId, Problem> {
    SpiffeId::from_segments(&state.trust_domain, &["spire", "agent", TYPE, &hex::encode(key_sha256)])
        .map_err(|e| Problem::Internal(e.to_string()))
}

/// What the answer came with.
pub struct Answer {
    /// The challenge exactly as it was sent.
    pub message: Vec<u8>,
    /// The answer.
    pub response: Response,
    /// TLS exporter of this connection under this attestor's label.
    pub exporter: [u8; 32],
    /// Address it came from.
    pub source: IpAddr,
    /// All that was said.
    pub kept: KeptEvidence,
}

/// Verifies an answer and admits the node. `open` is moved in before the first check: a challenge is used once.
///
/// # Errors
/// [`Refused`]; attributable where the node's own key signed and what it proved is refused.
pub async fn answer(state: &Arc<State>, open: Open, answer: Answer) -> Result<Admitted, Refused> {
    let now = state.now();
    let challenge = OpenChallenge { message: answer.message, t1: open.t1, expires_at: open.expires_at };
    let channel = Channel { trust_domain: state.trust_domain.name(), exporter: answer.exporter };
    let verified = verify_response(&open.applicant, challenge, &answer.response, &channel, now)?;
    let source = answer.source.to_string();
    let two_hosts = match state.config.pkcs11.two_hosts {
        TwoHosts::Alert => rules::TwoHosts::Alert,
        TwoHosts::Deny => rules::TwoHosts::Deny,
    };
    let facts = KeyFacts { stored: open.stored.as_ref(), verified: &verified, source: &source, two_hosts, now };
    let decided = rules::decide(&facts)?;
    let mut node = admit::node(open.id, TYPE, now);
    node.selectors = decided.selectors;
    node.can_reattest = true;
    node.pkcs11 = Some(decided.binding);
    let require_key_enrolled = open.applicant.needs_enrolment();
    let admission = admit::Admission {
        node,
        spki: open.applicant.svid_spki,
        expected_version: open.stored.map(|stored| stored.version),
        spend_token: None,
        require_enrolled: false,
        require_key_enrolled,
        ends_instances: false,
        steps: decided.steps,
        evidence: None,
        kept: Some(answer.kept),
        source,
    };
    admit::admit(state, admission).await
}

/// What a token beside a TPM adds to the node.
pub(super) struct Added {
    pub(super) selectors: Selectors,
    pub(super) binding: KeyBinding,
    pub(super) steps: Vec<Step>,
    pub(super) require_key_enrolled: bool,
}

/// Examines the token's section of a TPM's opening, whose checks were `steps` and whose CSR is for `svid_spki`.
///
/// # Errors
/// [`Refused`], never attributable.
pub(super) async fn examine_section(
    state: &State,
    payload: &Payload,
    svid_spki: &[u8],
    steps: Vec<Step>,
) -> Result<Applicant, Refused> {
    if !state.config.attests(NodeAttestor::Pkcs11) {
        return Err(stranger(Reason::UnknownType, "a token beside the TPM: pkcs11 is not configured").into());
    }
    let (trust, enrolled) = (state.trust.load_full(), enrolled(state, payload).await?);
    Ok(pkcs11::examine_section(payload, svid_spki, steps, trust.pkcs11(), enrolled, state.now())?)
}

/// Verifies and decides the token's section; the TPM's evidence was verified and decided before.
///
/// # Errors
/// [`Denied`], attributable.
pub(super) fn answer_section(
    applicant: &Applicant,
    stored: Option<&Node>,
    t2: &[u8; 32],
    response: &Response,
    channel: &Channel<'_>,
    source: &str,
    steps: Vec<Step>,
) -> Result<Added, Denied> {
    let verified = pkcs11::verify_section(applicant, t2, response, channel, steps)?;
    let decided = rules::decide_section(stored, &verified, source, verified.steps.clone())?;
    Ok(Added {
        selectors: decided.selectors,
        binding: decided.binding,
        steps: decided.steps,
        require_key_enrolled: applicant.needs_enrolment(),
    })
}
