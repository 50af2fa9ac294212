//! The answer to a challenge: the attestation key's signature over this exchange on this connection.

use chancery_sdk::time::UnixTime;

use super::{Applicant, Response, key::MAX_SIGNATURE_BYTES};
use crate::{
    evidence::{Checks, Denied, Step},
    reason::Reason,
    transcript,
};

/// A challenge that waits for its answer; it is moved into [`verify_response`], so it is used once.
#[derive(Clone, Debug)]
pub struct OpenChallenge {
    /// The challenge message exactly as sent; it carries the nonce.
    pub message: Vec<u8>,
    /// T1 of the opening.
    pub t1: [u8; 32],
    /// Answers later than this are refused.
    pub expires_at: UnixTime,
}

/// The connection the answer came on.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// The CA's trust domain, bare.
    pub trust_domain: &'a str,
    /// X: keying material exported with `transcript::EXPORTER_LABEL_PKCS11`.
    pub exporter: [u8; 32],
}

/// Evidence that was verified: only [`verify_response`] and [`verify_section`] make one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// Whose evidence it is.
    pub applicant: Applicant,
    /// Every check, from the payload's on.
    pub steps: Vec<Step>,
}

/// Verifies the answer to a challenge.
///
/// # Errors
/// [`Denied`], never attributable: before the signature is verified the key is only claimed.
///
/// Source: docs/SOURCES.md, checks K10 and K12; ARCHITECTURE, "Whose failure is it?".
pub fn verify_response(
    applicant: &Applicant,
    challenge: OpenChallenge,
    response: &Response,
    channel: &Channel<'_>,
    now: UnixTime,
) -> Result<Verified, Denied> {
    let mut checks = Checks::after(applicant.steps.clone());
    let detail = format!("ended at {}, now is {now}", challenge.expires_at);
    checks.require("challenge.fresh", now <= challenge.expires_at, Reason::ChallengeExpired, detail)?;
    let t2 = transcript::t2(&challenge.t1, &challenge.message);
    proven(applicant, &t2, response, channel, checks)
}

/// Verifies the section of another attestor's evidence over the same T2.
///
/// `steps` are that evidence's, verified and its signer this node's own: what fails here is the node's failure.
///
/// # Errors
/// [`Denied`], attributable.
pub fn verify_section(
    applicant: &Applicant,
    t2: &[u8; 32],
    response: &Response,
    channel: &Channel<'_>,
    steps: Vec<Step>,
) -> Result<Verified, Denied> {
    let mut checks = Checks::after(steps);
    checks.attribute();
    proven(applicant, t2, response, channel, checks)
}

fn proven(
    applicant: &Applicant,
    t2: &[u8; 32],
    response: &Response,
    channel: &Channel<'_>,
    mut checks: Checks,
) -> Result<Verified, Denied> {
    let fits = response.signature.len() <= MAX_SIGNATURE_BYTES;
    checks.require("key.signature", fits, Reason::EvidenceTooLarge, "the signature exceeds its limit")?;
    let base = transcript::base(transcript::LABEL_PKCS11, channel.trust_domain, t2, &channel.exporter);
    let good = applicant.key.signed(&base, &response.signature);
    let detail = "the attestation key did not sign this exchange on this connection";
    checks.require("key.proof", good, Reason::KeyProof, detail)?;
    Ok(Verified { applicant: applicant.clone(), steps: checks.into_steps() })
}
