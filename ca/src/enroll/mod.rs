//! A node proves itself: gather, decide, sign, commit, reply.
//!
//! Called by the AttestAgent handler, in a task of its own. The peer learns `denied`; the record the reason.

mod admit;
mod join_token;
pub mod pkcs11;
#[cfg(test)]
mod tests;
pub mod tpm;
mod trust;

use std::{net::IpAddr, sync::Arc};

use chancery_core::{
    evidence::{Denied, exchange::Exchange},
    node::Node,
    reason::Reason,
    transcript::Exporters,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use rustls_pki_types::CertificateDer;

pub use self::{
    join_token::join_token,
    trust::{Loaded, Trust, TrustError},
};
pub use crate::store::KeptEvidence;
use crate::{
    config::NodeAttestor,
    limits::Slot,
    metrics::Metrics,
    problem::Problem,
    state::State,
    store::{Fact, FailNode},
};

/// How long a challenge stays open.
pub const CHALLENGE_SECS: i64 = 60;
/// Largest CSR.
pub const MAX_CSR_BYTES: usize = 16 << 10;
/// Largest attestation type.
pub const MAX_TYPE_BYTES: usize = 64;

/// An admitted node's SVID; its record is durable.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The node.
    pub id: SpiffeId,
    /// DER, leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// End.
    pub expires_at: UnixTime,
    /// Renews by attesting again.
    pub reattestable: bool,
}

/// Why a node was not admitted.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The evidence, or the node's standing. The peer is told `denied`.
    Denied(Box<Denied>),
    /// Ours or the database's trouble; trying again may help.
    Problem(Problem),
}

impl<E: Into<Problem>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

/// A refusal that is nobody's in particular: no check was made yet, or none beyond the reason.
pub(crate) fn stranger(reason: Reason, detail: impl Into<String>) -> Denied {
    Denied { reason, attributable: false, steps: Vec::new(), detail: detail.into() }
}

/// What a caller without an address is told.
pub(crate) fn no_source() -> Problem {
    Problem::Precondition("nodes attest over the network".into())
}

/// A use case's task died; the log has the cause.
pub(crate) fn died(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "an attestation died");
    Problem::Internal("the attestation died; the log has the cause".into())
}

/// A slot for one attestation from `source`.
///
/// # Errors
/// [`Problem::Exhausted`] while too many run.
pub fn slot(state: &State, source: IpAddr) -> Result<Slot, Problem> {
    state.attestations.take(source).ok_or_else(|| Problem::Exhausted("too many attestations at once; try again".into()))
}

/// The attestor of this name, if it is configured.
///
/// # Errors
/// [`Denied`] with `UNKNOWN_TYPE`.
pub fn attestor(state: &State, kind: &str) -> Result<NodeAttestor, Denied> {
    let known = match kind {
        "join_token" => Some(NodeAttestor::JoinToken),
        "pkcs11" => Some(NodeAttestor::Pkcs11),
        "tpm" => Some(NodeAttestor::Tpm),
        _ => None,
    };
    known
        .filter(|kind| state.config.attests(*kind))
        .ok_or_else(|| stranger(Reason::UnknownType, "attestation type is not configured"))
}

/// Nothing is attested on a connection whose keying material is unknown.
///
/// # Errors
/// [`Denied`] with `CHANNEL_UNBOUND`.
pub fn exporters(exporters: Option<Exporters>) -> Result<Exporters, Denied> {
    exporters.ok_or_else(|| stranger(Reason::ChannelUnbound, "the connection has no exporter"))
}

/// What was said, to keep as long as it is configured.
pub fn kept(state: &State, said: &Exchange<'_>, exporters: Option<&Exporters>) -> KeptEvidence {
    let what = said.kept(state.trust_domain.name(), exporters);
    KeptEvidence { what: Arc::new(what), until: state.now().plus(state.config.log.evidence_kept.as_secs()) }
}

/// Whom a denial is about, as far as anybody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Suspect<'a> {
    /// The node that is claimed.
    pub node: Option<&'a Node>,
    /// Where it came from.
    pub source: Option<IpAddr>,
    /// What was said.
    pub kept: Option<&'a KeptEvidence>,
}

/// Writes a refusal where it belongs: an attributable one into the node's standing, any other into the summary.
pub async fn record(state: &State, kind: &str, suspect: Suspect<'_>, denied: &Denied) {
    Metrics::count(&state.metrics.refusals, "reason", denied.reason.code());
    state.metrics.attested(kind, "denied");
    tracing::info!(kind, reason = denied.reason.code(), attributable = denied.attributable, "attestation denied");
    let Some(node) = suspect.node.filter(|_| denied.attributable) else {
        state.failures.note(suspect.source, denied.reason);
        return;
    };
    let fact = FailNode {
        id: node.id.clone(),
        reason: denied.reason,
        steps: denied.steps.clone(),
        detail: denied.detail.clone(),
        kept: suspect.kept.cloned(),
    };
    if let Err(problem) = state.commit(Fact::FailNode(fact)).await {
        tracing::error!(%problem, node = %node.id, "failure not recorded");
    }
    state.live.close_where(|peer| peer.id.as_ref() == Some(&node.id));
}
