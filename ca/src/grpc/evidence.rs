//! Evidence between the wire and the core. Nothing is judged here beyond "does it parse".

use chancery_core::{
    evidence::{
        Denied, pkcs11 as token,
        tpm::{Payload, Response, Signed, constants::ALG_SHA256},
    },
    reason::Reason,
};
use chancery_proto::chancery::attest::{pkcs11::v1 as pb11, tpm::v1 as pb};
use prost::Message;

use crate::enroll::{CHALLENGE_SECS, pkcs11, tpm::Challenge};

/// As the challenge says it.
const EXPIRES_IN: u32 = CHALLENGE_SECS as u32;

/// Reads a TPM's opening, and the section of a token that it may have.
///
/// # Errors
/// [`Denied`] with `EVIDENCE_MALFORMED`.
pub(super) fn payload(bytes: &[u8]) -> Result<(Payload, Option<token::Payload>), Denied> {
    let wire = pb::Payload::decode(bytes).map_err(malformed)?;
    let payload = Payload {
        version: wire.version,
        ek_certificate: wire.ek_certificate,
        ek_public: wire.ek_public,
        ek_intermediates: wire.ek_intermediates,
        ak_public: wire.ak_public,
        node_public: wire.node_public,
        activate: wire.activate,
        has_log: wire.has_log,
    };
    Ok((payload, wire.pkcs11.map(section)))
}

/// Reads a token's opening.
///
/// # Errors
/// As [`payload`].
pub(super) fn token_payload(bytes: &[u8]) -> Result<token::Payload, Denied> {
    pb11::Payload::decode(bytes).map(section).map_err(malformed)
}

fn section(wire: pb11::Payload) -> token::Payload {
    let vendor = wire.vendor.into_iter().map(|v| token::VendorEvidence { kind: v.kind, evidence: v.evidence });
    token::Payload { version: wire.version, key: wire.key, certificates: wire.certificates, vendor: vendor.collect() }
}

/// Reads a token's answer.
///
/// # Errors
/// As [`payload`].
pub(super) fn token_response(bytes: &[u8]) -> Result<token::Response, Denied> {
    let wire = pb11::Response::decode(bytes).map_err(malformed)?;
    Ok(token::Response { signature: wire.signature })
}

/// Writes a token's challenge.
pub(super) fn token_challenge(challenge: pkcs11::Challenge) -> pb11::Challenge {
    pb11::Challenge { nonce: challenge.nonce.to_vec(), expires_in: EXPIRES_IN }
}

/// Reads a TPM's answer, and the section of a token that it may have.
///
/// # Errors
/// As [`payload`].
pub(super) fn response(bytes: &[u8]) -> Result<(Response, Option<token::Response>), Denied> {
    let wire = pb::Response::decode(bytes).map_err(malformed)?;
    let response = Response {
        proof: wire.proof,
        quote: signed(wire.quote),
        pcr_values: wire.pcr_values,
        certify: signed(wire.certify),
        event_log: wire.event_log,
    };
    Ok((response, wire.pkcs11.map(|section| token::Response { signature: section.signature })))
}

/// Writes a TPM's challenge.
pub(super) fn challenge(challenge: &Challenge) -> pb::Challenge {
    pb::Challenge {
        nonce: challenge.nonce.to_vec(),
        credential: challenge.credential.as_ref().map(|credential| pb::Credential {
            id_object: credential.id_object.clone(),
            encrypted_secret: credential.encrypted_secret.clone(),
        }),
        pcrs: Some(pb::PcrSelection { bank: ALG_SHA256.into(), pcrs: challenge.pcrs.iter().copied().collect() }),
        log_wanted: challenge.log_wanted,
        expires_in: EXPIRES_IN,
    }
}

/// A missing part is an empty one, which no check passes.
fn signed(wire: Option<pb::Signed>) -> Signed {
    wire.map(|s| Signed { attest: s.attest, signature: s.signature }).unwrap_or_default()
}

fn malformed(error: prost::DecodeError) -> Denied {
    Denied { reason: Reason::EvidenceMalformed, attributable: false, steps: Vec::new(), detail: error.to_string() }
}
