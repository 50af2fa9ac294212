//! TPM attestation: examine, challenge, verify, decide; then sign, commit, reply.
//!
//! Nonce, secret and time enter here and nowhere else; every check is the core's. A re-attestation goes the
//! same way: what was known of the node only decides whether the EK is activated again.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use chancery_core::{
    admit::{self as rules, Asked, NodeFacts},
    evidence::{
        pkcs11 as token,
        tpm::{self, Applicant, Channel, OpenChallenge, Payload, Response, examine_payload, verify_response},
    },
    node::Node,
    policy::Policy,
    reason::Reason,
    transcript::{self, Exporters},
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use zeroize::Zeroizing;

use super::{Admitted, CHALLENGE_SECS, KeptEvidence, Refused, admit, pkcs11, stranger};
use crate::{
    chance,
    config::Enrol,
    crypto::make_credential::{Credential, make_credential},
    problem::Problem,
    state::State,
};

/// Attestation type.
pub const TYPE: &str = "tpm";

/// An applicant whose keys have the right form, and what it must answer. Used once, never stored.
pub struct Open {
    applicant: Applicant,
    /// A token that proves itself beside the TPM.
    token: Option<token::Applicant>,
    id: SpiffeId,
    stored: Option<Node>,
    policy: Policy,
    plan: rules::Plan,
    t1: [u8; 32],
    secret: Option<Zeroizing<[u8; 32]>>,
    expires_at: UnixTime,
}

/// What the applicant is asked.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Fresh.
    pub nonce: [u8; 32],
    /// Absent where a known AK needs no new activation.
    pub credential: Option<Credential>,
    /// SHA-256 PCRs to quote.
    pub pcrs: BTreeSet<u32>,
    /// The event log is asked for.
    pub log_wanted: bool,
}

impl Open {
    /// The node as it is stored, for an attributable failure.
    pub fn stored(&self) -> Option<&Node> {
        self.stored.as_ref()
    }
}

/// Examines an opening, `token` being its section of a token, and makes its challenge. `payload_bytes` are the bytes
/// both were read from.
///
/// # Errors
/// [`Refused`], never attributable: nothing is proven yet.
pub async fn challenge(
    state: &State,
    payload: &Payload,
    token: Option<&token::Payload>,
    payload_bytes: &[u8],
    csr: &[u8],
) -> Result<(Open, Challenge), Refused> {
    let mut trust = state.trust.load_full();
    let ek_hash = tpm::claimed_ek(payload)?;
    let enrolled = state.store.ek_enrolled(&ek_hash).await?.is_some();
    let now = state.now();
    let mut examined = examine_payload(payload, csr, &trust, enrolled, now);
    // Before a no for want of an anchor: another server may have imported it.
    if matches!(&examined, Err(denied) if denied.reason == Reason::EkUntrusted) && state.find_new_anchors().await? {
        trust = state.trust.load_full();
        examined = examine_payload(payload, csr, &trust, enrolled, now);
    }
    let mut applicant = examined?;
    let token = match token {
        Some(token) => {
            let steps = std::mem::take(&mut applicant.steps);
            let examined = pkcs11::examine_section(state, token, &applicant.node_spki, steps).await?;
            applicant.steps.clone_from(&examined.steps);
            Some(examined)
        }
        None => None,
    };
    let id = node_id(state, &applicant)?;
    let stored = state.store.node(&id).await?;
    let device = applicant.device.as_ref();
    let policy = trust.policies.choose(device.map(|d| d.manufacturer), device.map(|d| d.model.as_str()));
    let Some(policy) = policy.cloned() else {
        return Err(stranger(Reason::PolicyMissing, "no policy covers this manufacturer and model").into());
    };
    let asked = Asked { activate: payload.activate, has_log: payload.has_log };
    let plan = rules::plan(stored.as_ref(), &applicant, asked, &policy, now);
    let (secret, credential) = match plan.activate {
        true => activation(&applicant).map(|(secret, credential)| (Some(secret), Some(credential)))?,
        false => (None, None),
    };
    let challenge =
        Challenge { nonce: chance::bytes()?, credential, pcrs: plan.pcrs.clone(), log_wanted: plan.log_wanted };
    let t1 = transcript::t1(TYPE, payload_bytes, csr);
    let expires_at = now.plus(CHALLENGE_SECS);
    Ok((Open { applicant, token, id, stored, policy, plan, t1, secret, expires_at }, challenge))
}

fn node_id(state: &State, applicant: &Applicant) -> Result<SpiffeId, Problem> {
    SpiffeId::from_segments(&state.trust_domain, &["spire", "agent", TYPE, &hex::encode(applicant.ek_hash)])
        .map_err(|e| Problem::Internal(e.to_string()))
}

fn activation(applicant: &Applicant) -> Result<(Zeroizing<[u8; 32]>, Credential), Refused> {
    let secret = Zeroizing::new(chance::bytes()?);
    let credential = make_credential(&applicant.ek_key, &applicant.ak_name, &secret)
        .ok_or_else(|| stranger(Reason::EkWeak, "no credential can be made for this EK"))?;
    Ok((secret, credential))
}

/// What the answer came with.
pub struct Answer {
    /// The challenge exactly as it was sent.
    pub message: Vec<u8>,
    /// The answer.
    pub response: Response,
    /// Its section of a token.
    pub token: Option<token::Response>,
    /// TLS exporters of this connection.
    pub exporters: Exporters,
    /// Address it came from.
    pub source: IpAddr,
    /// All that was said.
    pub kept: KeptEvidence,
}

/// Verifies an answer and admits the node. `open` is moved in before the first check: a challenge is used once.
///
/// # Errors
/// [`Refused`]; attributable where the node's own AK signed what is refused.
pub async fn answer(state: &Arc<State>, open: Open, answer: Answer) -> Result<Admitted, Refused> {
    let now = state.now();
    if open.token.is_none() && answer.token.is_some() {
        return Err(stranger(Reason::EvidenceMalformed, "a token answers that was not in the opening").into());
    }
    let (t2, source) = (transcript::t2(&open.t1, &answer.message), answer.source.to_string());
    let challenge = OpenChallenge {
        message: answer.message,
        t1: open.t1,
        secret: open.secret,
        ak_known: open.plan.ak_known,
        pcrs: open.plan.pcrs,
        expires_at: open.expires_at,
    };
    let channel = Channel { trust_domain: state.trust_domain.name(), exporter: answer.exporters.tpm };
    let verified = verify_response(&open.applicant, challenge, &answer.response, &channel, now)?;
    // Who else has this AK is the committing transaction's to say.
    let facts = NodeFacts {
        stored: open.stored.as_ref(),
        ak_owner: None,
        id: &open.id,
        verified: &verified,
        policy: &open.policy,
        now,
    };
    let decided = rules::decide(&facts)?;
    let mut node = admit::node(open.id, TYPE, now);
    node.selectors = decided.selectors;
    node.can_reattest = true;
    node.tpm = Some(decided.binding);
    let (mut steps, mut require_key_enrolled) = (decided.steps, false);
    if let Some(examined) = &open.token {
        let channel = token::Channel { trust_domain: state.trust_domain.name(), exporter: answer.exporters.pkcs11 };
        let response = answer.token.unwrap_or_default();
        let stored = open.stored.as_ref();
        let added = pkcs11::answer_section(examined, stored, &t2, &response, &channel, &source, steps)?;
        node.selectors.extend(added.selectors);
        node.pkcs11 = Some(added.binding);
        (steps, require_key_enrolled) = (added.steps, added.require_key_enrolled);
    }
    let admission = admit::Admission {
        node,
        spki: open.applicant.node_spki,
        expected_version: open.stored.map(|stored| stored.version),
        spend_token: None,
        require_enrolled: state.config.tpm.enrol == Enrol::Inventory,
        require_key_enrolled,
        ends_instances: decided.new_boot,
        steps,
        evidence: Some(answer.response.event_log),
        kept: Some(answer.kept),
        source,
    };
    admit::admit(state, admission).await
}
