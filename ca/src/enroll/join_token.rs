//! Join tokens: a one-use secret. Proves that somebody was given it, and no hardware.

use std::net::IpAddr;

use chancery_core::{
    csr::Csr,
    evidence::{Step, exchange::Exchange},
    reason::Reason,
};

use super::{Admitted, Refused, admit, stranger};
use crate::{agents, state::State};

/// Longest token.
const MAX_TOKEN_BYTES: usize = 255;

/// Admits the node that holds `token`; the token is spent in the committing transaction, whatever follows.
///
/// # Errors
/// [`Refused`]. Source: spire-wire 2.3; ARCHITECTURE, "Identities" (join_token node).
pub async fn join_token(state: &State, source: IpAddr, token: &[u8], csr_bytes: &[u8]) -> Result<Admitted, Refused> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(stranger(Reason::EvidenceTooLarge, "join token").into());
    }
    let Ok(token) = std::str::from_utf8(token) else {
        return Err(stranger(Reason::JoinTokenUnknown, "join token is no text").into());
    };
    let csr = Csr::parse(csr_bytes).map_err(|e| stranger(Reason::CsrSignature, e.to_string()))?;
    let hash = agents::token_hash(token);
    let id = agents::token_node(state, &hash)?;
    let node = admit::node(id, "join_token", state.now());
    let steps =
        ["csr.signature", "join_token.spent"].map(|name| Step { name, passed: true, detail: String::new() }).to_vec();
    // The token is a secret; its hash is what the record knows it by.
    let said = Exchange { kind: "join_token", opening: hash.as_bytes(), csr: csr_bytes, challenge: &[], answer: &[] };
    let kept = super::kept(state, &said, None);
    let admission = admit::Admission {
        node,
        spki: csr.spki_der().to_vec(),
        expected_version: None,
        spend_token: Some(hash),
        require_enrolled: false,
        require_key_enrolled: false,
        ends_instances: false,
        steps,
        evidence: None,
        kept: Some(kept),
        source: source.to_string(),
    };
    admit::admit(state, admission).await
}
