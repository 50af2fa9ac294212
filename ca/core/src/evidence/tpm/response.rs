//! The answer to a challenge: activation proof, Quote, Certify and event log, in this order.

use std::collections::{BTreeMap, BTreeSet};

use chancery_sdk::time::UnixTime;
use zeroize::Zeroizing;

use super::{
    Applicant, Response, Signed,
    attest::{self, Attest, AttestError, Attested, MAX_ATTEST_BYTES, Selection},
    constants::ALG_SHA256,
    names,
    signature::{self, MAX_SIGNATURE_BYTES, SignatureError},
};
use crate::{
    crypto::{hmac_sha256_is, p256_signed, sha256},
    eventlog::{self, LogFacts, MAX_LOG_BYTES},
    evidence::{Checks, Denied, Step},
    node::BootState,
    reason::Reason,
    transcript,
};

/// PCRs a TPM has.
pub const PCR_COUNT: u32 = 24;
/// The firmware's PCRs: the log must explain them whole.
const FIRMWARE_PCRS: std::ops::RangeInclusive<u32> = 0..=7;

/// A challenge that waits for its answer; it is moved into [`verify_response`], so it is used once.
#[derive(Clone, Debug)]
pub struct OpenChallenge {
    /// The challenge message exactly as sent; it carries the nonce.
    pub message: Vec<u8>,
    /// T1 of the opening.
    pub t1: [u8; 32],
    /// The secret wrapped to the AK; `None` where a known AK needs no new activation.
    pub secret: Option<Zeroizing<[u8; 32]>>,
    /// The AK is the one this node was admitted with.
    pub ak_known: bool,
    /// SHA-256 PCRs asked for, each below [`PCR_COUNT`].
    pub pcrs: BTreeSet<u32>,
    /// Answers later than this are refused.
    pub expires_at: UnixTime,
}

/// The connection the answer came on.
#[derive(Clone, Copy, Debug)]
pub struct Channel<'a> {
    /// The CA's trust domain, bare.
    pub trust_domain: &'a str,
    /// X: keying material exported with `transcript::EXPORTER_LABEL_TPM`.
    pub exporter: [u8; 32],
}

/// Evidence that was verified: only [`verify_response`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// Whose evidence it is.
    pub applicant: Applicant,
    /// Counters, firmware and quoted PCRs.
    pub boot: BootState,
    /// What the log says, replayed to the quoted PCRs.
    pub log: Option<LogFacts>,
    /// The EK was activated for this AK in this exchange.
    pub activated: bool,
    /// Every check, from the payload's on.
    pub steps: Vec<Step>,
}

/// Verifies the answer to a challenge, first failure first.
///
/// # Errors
/// [`Denied`]; attributable once the quote is of this challenge and connection, signed by an AK that was
/// activated now or is this node's own.
///
/// Source: docs/SOURCES.md, checks C10 to C20; ARCHITECTURE, "Whose failure is it?".
pub fn verify_response(
    applicant: &Applicant,
    challenge: OpenChallenge,
    response: &Response,
    channel: &Channel<'_>,
    now: UnixTime,
) -> Result<Verified, Denied> {
    let mut checks = Checks::after(applicant.steps.clone());
    let t2 = transcript::t2(&challenge.t1, &challenge.message);
    let base = transcript::base(transcript::LABEL_TPM, channel.trust_domain, &t2, &channel.exporter);
    let in_time = now <= challenge.expires_at;
    checks.require(
        "challenge.fresh",
        in_time,
        Reason::ChallengeExpired,
        format!("ended at {}, now is {now}", challenge.expires_at),
    )?;
    limits(response, &mut checks)?;
    let activated = activation(&challenge, response, &base, &mut checks)?;

    let judge = Judge { applicant, base: &base };
    let quote = judge.quote(&response.quote, &challenge, &mut checks)?;
    let pcrs = pcr_values(&quote, &challenge.pcrs, &response.pcr_values, &mut checks)?;
    judge.certify(&response.certify, &mut checks)?;
    let log = event_log(&response.event_log, &pcrs, &mut checks)?;
    let boot = BootState {
        reset_count: quote.reset_count,
        restart_count: quote.restart_count,
        clock: quote.clock,
        safe: quote.safe,
        firmware_version: quote.firmware_version,
        pcrs,
        log_digest: log.as_ref().map(|log| log.digest),
    };
    Ok(Verified { applicant: applicant.clone(), boot, log, activated, steps: checks.into_steps() })
}

fn limits(response: &Response, checks: &mut Checks) -> Result<(), Denied> {
    let small =
        |signed: &Signed| signed.attest.len() <= MAX_ATTEST_BYTES && signed.signature.len() <= MAX_SIGNATURE_BYTES;
    let fits = small(&response.quote)
        && small(&response.certify)
        && response.proof.len() <= 32
        && response.pcr_values.len() <= PCR_COUNT as usize
        && response.event_log.len() <= MAX_LOG_BYTES;
    checks.require("response.limits", fits, Reason::EvidenceTooLarge, "a part of the response exceeds its limit")
}

/// Whether the EK was activated; the message never says what was expected. Source: CVE-2023-38201.
fn activation(
    challenge: &OpenChallenge,
    response: &Response,
    base: &[u8; 32],
    checks: &mut Checks,
) -> Result<bool, Denied> {
    let Some(secret) = &challenge.secret else {
        let detail = "no activation was asked for";
        let consistent = challenge.ak_known && response.proof.is_empty();
        checks.require("activation.proof", consistent, Reason::ActivationFailed, detail)?;
        return Ok(false);
    };
    let right = hmac_sha256_is(secret.as_slice(), &transcript::activation_message(base), &response.proof);
    checks.require(
        "activation.proof",
        right,
        Reason::ActivationFailed,
        "the proof is not of this challenge and TPM",
    )?;
    Ok(true)
}

struct Judge<'a> {
    applicant: &'a Applicant,
    base: &'a [u8; 32],
}

/// Names of one attestation's checks.
struct Labels {
    parse: &'static str,
    kind: &'static str,
    nonce: &'static str,
    signature: &'static str,
    signer: &'static str,
}

const QUOTE: Labels = Labels {
    parse: "quote.parse",
    kind: "quote.type",
    nonce: "quote.nonce",
    signature: "quote.signature",
    signer: "quote.signer",
};
const CERTIFY: Labels = Labels {
    parse: "certify.parse",
    kind: "certify.type",
    nonce: "certify.nonce",
    signature: "certify.signature",
    signer: "certify.signer",
};

impl Judge<'_> {
    /// Who failed is known from the signature on, so the signature comes before signer and selection.
    fn quote<'r>(
        &self,
        signed: &'r Signed,
        challenge: &OpenChallenge,
        checks: &mut Checks,
    ) -> Result<Attest<'r>, Denied> {
        let attest = parse(signed, &QUOTE, checks)?;
        let Attested::Quote { selection, .. } = &attest.attested else {
            return Err(checks.fail(QUOTE.kind, Reason::AttestType, "a certification stands where the quote belongs"));
        };
        checks.pass(QUOTE.kind, "");
        let fresh = attest.extra_data == transcript::quote_qualifier(self.base);
        checks.require(
            QUOTE.nonce,
            fresh,
            Reason::QuoteNonce,
            "the qualifying data is not of this challenge and connection",
        )?;
        self.signature(signed, &QUOTE, checks)?;
        checks.attribute(); // [`activation`] let only an activated or a known AK come here
        self.signer(&attest, &QUOTE, checks)?;
        let asked = [Selection { bank: ALG_SHA256, pcrs: challenge.pcrs.clone() }];
        let equal = *selection == asked && !challenge.pcrs.is_empty();
        checks.require(
            "quote.pcr_selection",
            equal,
            Reason::PcrSelection,
            format!("asked for {asked:?}, quoted {selection:?}"),
        )?;
        Ok(attest)
    }

    /// Counters are not compared with the quote's: a machine may sleep in between, and the nonce binds both.
    fn certify(&self, signed: &Signed, checks: &mut Checks) -> Result<(), Denied> {
        let attest = parse(signed, &CERTIFY, checks)?;
        let Attested::Certify { name, .. } = &attest.attested else {
            return Err(checks.fail(
                CERTIFY.kind,
                Reason::AttestType,
                "a quote stands where the certification belongs",
            ));
        };
        checks.pass(CERTIFY.kind, "");
        let fresh = attest.extra_data == transcript::certify_qualifier(self.base);
        checks.require(
            CERTIFY.nonce,
            fresh,
            Reason::CertifyNonce,
            "the qualifying data is not of this challenge and connection",
        )?;
        self.signature(signed, &CERTIFY, checks)?;
        self.signer(&attest, &CERTIFY, checks)?;
        let ours = *name == self.applicant.node_name;
        checks.require("certify.name", ours, Reason::CertifyName, "the certified key is not the node key")
    }

    fn signature(&self, signed: &Signed, labels: &Labels, checks: &mut Checks) -> Result<(), Denied> {
        let detail = "not signed by the attestation key";
        let parsed = signature::parse(&signed.signature).map_err(|e| {
            let reason = match e {
                SignatureError::Scheme { .. } => Reason::SigScheme,
                SignatureError::Wire(_) => Reason::EvidenceMalformed,
            };
            checks.fail(labels.signature, reason, e.to_string())
        })?;
        let good = p256_signed(&self.applicant.ak.x, &self.applicant.ak.y, &signed.attest, &parsed);
        checks.require(labels.signature, good, Reason::QuoteSignature, detail)
    }

    /// The qualified name also proves the hierarchy: owner keys see obfuscated counters.
    fn signer(&self, attest: &Attest<'_>, labels: &Labels, checks: &mut Checks) -> Result<(), Denied> {
        let ours = attest.signer == names::endorsement_primary(&self.applicant.ak_name);
        checks.require(
            labels.signer,
            ours,
            Reason::SignerMismatch,
            "signed by another key, or one of another hierarchy",
        )
    }
}

fn parse<'r>(signed: &'r Signed, labels: &Labels, checks: &mut Checks) -> Result<Attest<'r>, Denied> {
    checks.take(labels.parse, attest::parse(&signed.attest), |e| match e {
        AttestError::Magic(_) | AttestError::Type(_) => Reason::AttestType,
        AttestError::Wire(_) => Reason::EvidenceMalformed,
    })
}

/// The values behind the quoted digest: exactly one SHA-256 value for each PCR asked for.
fn pcr_values(
    quote: &Attest<'_>,
    asked: &BTreeSet<u32>,
    values: &[Vec<u8>],
    checks: &mut Checks,
) -> Result<BTreeMap<u32, [u8; 32]>, Denied> {
    let sized: Option<Vec<[u8; 32]>> = values.iter().map(|value| value.as_slice().try_into().ok()).collect();
    let sized = sized.filter(|sized| sized.len() == asked.len());
    let Some(sized) = sized else {
        let detail = format!("{} values came for {} PCRs of 32 bytes", values.len(), asked.len());
        return Err(checks.fail("quote.pcr_values", Reason::EvidenceMalformed, detail));
    };
    let Attested::Quote { digest, .. } = &quote.attested else {
        return Err(checks.fail("quote.pcr_digest", Reason::AttestType, "no quote"));
    };
    let parts: Vec<&[u8]> = sized.iter().map(<[u8; 32]>::as_slice).collect();
    let equal = *digest == sha256(&parts);
    checks.require("quote.pcr_digest", equal, Reason::PcrDigest, "the values do not hash to the quoted digest")?;
    Ok(asked.iter().copied().zip(sized).collect())
}

fn event_log(bytes: &[u8], pcrs: &BTreeMap<u32, [u8; 32]>, checks: &mut Checks) -> Result<Option<LogFacts>, Denied> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let facts = checks.take("log.parse", eventlog::examine(bytes), |e| e.reason())?;
    for (index, quoted) in pcrs.iter().filter(|(index, _)| FIRMWARE_PCRS.contains(index)) {
        if facts.replayed.get(index).copied().unwrap_or_default() != *quoted {
            let detail = format!("PCR {index} is not what the log replays to");
            return Err(checks.fail("log.replay", Reason::LogReplay, detail));
        }
    }
    checks.pass("log.replay", "");
    Ok(Some(facts))
}
