//! TPM evidence between the wire and the core. Nothing is judged here beyond "does it parse".

use chancery_core::{
    evidence::{
        Denied,
        tpm::{Payload, Response, Signed, constants::ALG_SHA256},
    },
    reason::Reason,
};
use chancery_proto::chancery::attest::tpm::v1 as pb;
use prost::Message;

use crate::enroll::{CHALLENGE_SECS, tpm::Challenge};

/// Reads an opening.
///
/// # Errors
/// [`Denied`] with `EVIDENCE_MALFORMED`.
pub(super) fn payload(bytes: &[u8]) -> Result<Payload, Denied> {
    let wire = pb::Payload::decode(bytes).map_err(malformed)?;
    Ok(Payload {
        version: wire.version,
        ek_certificate: wire.ek_certificate,
        ek_public: wire.ek_public,
        ek_intermediates: wire.ek_intermediates,
        ak_public: wire.ak_public,
        node_public: wire.node_public,
        activate: wire.activate,
        has_log: wire.has_log,
    })
}

/// Reads an answer.
///
/// # Errors
/// As [`payload`].
pub(super) fn response(bytes: &[u8]) -> Result<Response, Denied> {
    let wire = pb::Response::decode(bytes).map_err(malformed)?;
    Ok(Response {
        proof: wire.proof,
        quote: signed(wire.quote),
        pcr_values: wire.pcr_values,
        certify: signed(wire.certify),
        event_log: wire.event_log,
    })
}

/// Writes a challenge.
pub(super) fn challenge(challenge: &Challenge) -> pb::Challenge {
    pb::Challenge {
        nonce: challenge.nonce.to_vec(),
        credential: challenge.credential.as_ref().map(|credential| pb::Credential {
            id_object: credential.id_object.clone(),
            encrypted_secret: credential.encrypted_secret.clone(),
        }),
        pcrs: Some(pb::PcrSelection { bank: ALG_SHA256.into(), pcrs: challenge.pcrs.iter().copied().collect() }),
        log_wanted: challenge.log_wanted,
        expires_in: u32::try_from(CHALLENGE_SECS).expect("a minute fits"),
    }
}

/// A missing part is an empty one, which no check passes.
fn signed(wire: Option<pb::Signed>) -> Signed {
    wire.map(|s| Signed { attest: s.attest, signature: s.signature }).unwrap_or_default()
}

fn malformed(error: prost::DecodeError) -> Denied {
    Denied { reason: Reason::EvidenceMalformed, attributable: false, steps: Vec::new(), detail: error.to_string() }
}
