//! Between the wire's types and ours: all shape errors die here.

use chancery_core::{node::Node, selector::Selectors};
use chancery_proto::{
    google::rpc,
    spire::api::types::{self, PermissionDeniedDetails, permission_denied_details::Reason},
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    origin::Origin,
    time::UnixTime,
};
use prost::Message;
use rustls_pki_types::CertificateDer;
use tonic::{Code, Request, Status};

use crate::gate::{Denial, NodeDenial};

/// Type URL of SPIRE's detail.
const DETAILS: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// Which request of somebody's this one is for; what has no such form is left out.
pub fn origin<T>(request: &Request<T>) -> Origin {
    let metadata = request.metadata();
    Origin::read(|key| metadata.get(key)?.to_str().ok())
}

/// The gate's no, in SPIRE's form.
pub fn denial(denial: Denial) -> Status {
    match denial {
        Denial::NotAllowed => Status::permission_denied("this caller may not call this method"),
        Denial::Node(NodeDenial::Banned) => must("agent is banned", Reason::AgentBanned),
        Denial::Node(NodeDenial::Expired) => must("agent SVID has expired", Reason::AgentExpired),
        Denial::Node(NodeDenial::NotActive) => must("agent SVID is not active", Reason::AgentNotActive),
        Denial::Node(NodeDenial::NotAttested) => must("agent is not attested", Reason::AgentNotAttested),
        Denial::Unavailable => Status::unavailable("the database cannot be asked now; try again"),
    }
}

/// PERMISSION_DENIED with the reason SPIRE's agents act on.
pub fn must(message: &str, reason: Reason) -> Status {
    let details = PermissionDeniedDetails { reason: reason.into() };
    let any = prost_types::Any { type_url: DETAILS.into(), value: details.encode_to_vec() };
    let code = Code::PermissionDenied;
    let status = rpc::Status { code: code.into(), message: message.into(), details: vec![any] };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// Reads an ID from its two parts.
///
/// # Errors
/// INVALID_ARGUMENT naming `field`.
pub fn spiffe_id(id: Option<&types::Spiffeid>, field: &str) -> Result<SpiffeId, Status> {
    let Some(id) = id else { return Err(Status::invalid_argument(format!("{field} is missing"))) };
    let wrong = |e| Status::invalid_argument(format!("{field}: {e}"));
    let domain = TrustDomain::new(&id.trust_domain).map_err(wrong)?;
    SpiffeId::from_path(&domain, &id.path).map_err(wrong)
}

/// Writes an ID in its two parts.
pub fn spiffe_id_parts(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid { trust_domain: id.trust_domain_name().into(), path: id.path().into() }
}

/// Writes an X509-SVID.
pub fn x509_svid(id: &SpiffeId, chain: &[CertificateDer<'_>], expires_at: UnixTime) -> types::X509svid {
    types::X509svid {
        cert_chain: chain.iter().map(|der| der.to_vec()).collect(),
        id: Some(spiffe_id_parts(id)),
        expires_at: expires_at.0,
        ..Default::default()
    }
}

/// Writes selectors, sorted.
pub fn selectors(set: &Selectors) -> Vec<types::Selector> {
    set.iter().map(|s| types::Selector { r#type: s.kind().into(), value: s.value().into() }).collect()
}

/// Writes a node as SPIRE's agent, cut by the mask.
pub fn agent(node: &Node, mask: Option<&types::AgentMask>) -> types::Agent {
    let all = types::AgentMask {
        attestation_type: true,
        x509svid_serial_number: true,
        x509svid_expires_at: true,
        selectors: true,
        banned: true,
        can_reattest: true,
        agent_version: true,
    };
    let mask = mask.unwrap_or(&all);
    let mut agent = types::Agent { id: Some(spiffe_id_parts(&node.id)), ..Default::default() };
    let current = node.current.as_ref();
    if mask.attestation_type {
        agent.attestation_type = node.attestation_type.clone();
    }
    if mask.x509svid_serial_number {
        agent.x509svid_serial_number = current.map(|c| c.serial.clone()).unwrap_or_default();
    }
    if mask.x509svid_expires_at {
        agent.x509svid_expires_at = current.map_or(0, |c| c.expires_at.0);
    }
    if mask.selectors {
        agent.selectors = selectors(&node.selectors);
    }
    agent.banned = mask.banned && node.standing == chancery_core::node::Standing::Banned;
    agent.can_reattest = mask.can_reattest && node.can_reattest;
    if mask.agent_version {
        agent.agent_version = node.agent_version.clone();
    }
    agent
}
