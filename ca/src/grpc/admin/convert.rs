//! Our own administration's messages.

use chancery_core::{
    class::{Class, Draft, NodeProof},
    instance::{Instance, Standing},
    policy::{Outcome, RuleVerdict},
};
use chancery_proto::chancery::admin::v1 as admin;
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use rustls_pki_types::CertificateDer;
use tonic::Status;

use crate::{
    authorities::{self, Listed, offline::Delivered},
    grpc::{
        entry::{seconds, selectors},
        wire,
    },
    nodes::Seen,
    policies::Explained,
    store::{Anchor, InstanceFilter, StoredEvent},
};

/// Most certificates of one import: a chain of five, and as many roots as an upstream may publish.
const MAX_DELIVERED: usize = 5 + 16;
/// Most bytes of one import; an RSA-4096 certificate has two thousand.
const MAX_DELIVERED_BYTES: usize = 64 * 1024;

/// Reads a class.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn draft(class: admin::Class) -> Result<Draft, Status> {
    Ok(Draft {
        parent_id: id(&class.parent_id, "parent_id")?,
        selectors: selectors(&class.selectors)?,
        x509_svid_ttl: class.x509_svid_ttl.into(),
        node_proof: if class.allow_unproven_nodes { NodeProof::AnyNode } else { NodeProof::Hardware },
        name: class.name,
    })
}

/// Writes a key and its authority.
pub fn authority(listed: &Listed, publish_delay: i64) -> admin::Authority {
    let (key, authority) = (&listed.key, listed.authority.as_ref());
    admin::Authority {
        authority_id: authority.map(|a| a.id.clone()).unwrap_or_default(),
        kind: key.kind.to_string(),
        server: key.server.clone(),
        state: authority.map_or_else(|| "none".into(), |a| a.state.to_string()),
        key_state: key.state.to_string(),
        key_label: key.label.clone(),
        key_type: key.key_type.to_string(),
        spki_sha256: authorities::spki_sha256(listed),
        expires_at: authority.map_or(0, |a| a.not_after.0),
        published_at: authority.map_or(0, |a| a.published_at.0),
        tainted_at: authority.and_then(|a| a.tainted_at).map_or(0, |at| at.0),
        upstream_authority_subject_key_id: authority.map(|a| a.upstream_id.clone()).unwrap_or_default(),
        note: key.note.clone(),
        publish_delay,
    }
}

/// Reads what came back from the ceremony; what the certificates say is judged later.
///
/// # Errors
/// INVALID_ARGUMENT where it is nothing, or far too much.
pub fn delivered(request: admin::ImportAuthorityRequest) -> Result<Delivered, Status> {
    let bytes = |list: &[Vec<u8>]| list.iter().map(Vec::len).sum::<usize>();
    if request.chain.is_empty() || request.chain.len() + request.roots.len() > MAX_DELIVERED {
        return Err(Status::invalid_argument(format!("chain and roots: 1 to {MAX_DELIVERED} certificates are taken")));
    }
    if bytes(&request.chain) + bytes(&request.roots) > MAX_DELIVERED_BYTES {
        return Err(Status::invalid_argument(format!("chain and roots exceed {MAX_DELIVERED_BYTES} bytes")));
    }
    let ders = |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect();
    Ok(Delivered { chain: ders(request.chain), roots: ders(request.roots) })
}

/// Writes a class.
pub fn class(class: &Class) -> admin::Class {
    admin::Class {
        name: class.name.to_string(),
        parent_id: class.parent_id.to_string(),
        selectors: wire::selectors(&class.selectors),
        x509_svid_ttl: seconds(class.x509_svid_ttl),
        allow_unproven_nodes: class.node_proof == NodeProof::AnyNode,
        revision: class.revision,
        created_at: class.created_at.0,
    }
}

/// Writes an instance as it is at `now`.
pub fn instance(instance: &Instance, now: UnixTime) -> admin::Instance {
    admin::Instance {
        id: instance.id.to_string(),
        class_name: instance.class.to_string(),
        node_id: instance.node_id.to_string(),
        standing: instance.standing.to_string(),
        begun_at: instance.begun_at.0,
        ended_at: instance.ended_at.map_or(0, |at| at.0),
        end_reason: instance.end_reason.clone(),
        serial_number: instance.newest.serial.clone(),
        expires_at: instance.newest.expires_at.0,
        held_until: instance.held(now).map_or(0, |until| until.0),
    }
}

/// Reads a filter of instances; without a page size everything is asked for, whatever the token is.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn filter(asked: admin::ListInstancesRequest) -> Result<InstanceFilter, Status> {
    let limit = u32::try_from(asked.page_size).ok().filter(|size| *size > 0);
    let standing = match asked.standing.as_str() {
        "" => None,
        word => Some(word.parse::<Standing>().map_err(Status::invalid_argument)?),
    };
    Ok(InstanceFilter {
        class: Some(asked.class_name).filter(|name| !name.is_empty()),
        node_id: if asked.node_id.is_empty() { None } else { Some(id(&asked.node_id, "node_id")?) },
        standing,
        after: Some(asked.page_token).filter(|token| limit.is_some() && !token.is_empty()),
        limit,
    })
}

/// Writes a node.
pub fn node(seen: &Seen) -> admin::Node {
    let node = &seen.node;
    let newest = node.current.as_ref();
    admin::Node {
        id: node.id.to_string(),
        attestation_type: node.attestation_type.clone(),
        standing: node.standing.to_string(),
        serial_number: newest.map(|c| c.serial.clone()).unwrap_or_default(),
        expires_at: newest.map_or(0, |c| c.expires_at.0),
        selectors: wire::selectors(&node.selectors),
        can_reattest: node.can_reattest,
        attested_at: node.attested_at.0,
        reason: node.reason.clone(),
        live_instances: u32::try_from(seen.live).unwrap_or(u32::MAX),
        agent_version: node.agent_version.clone(),
    }
}

/// Writes anchors.
pub fn anchors(list: Vec<Anchor>) -> admin::ListAnchorsResponse {
    let anchor = |a: Anchor| admin::Anchor {
        fingerprint: a.fingerprint,
        subject: a.subject,
        manufacturer: a.manufacturer,
        not_after: a.not_after.0,
        note: a.note,
        imported_at: a.imported_at.0,
    };
    admin::ListAnchorsResponse { anchors: list.into_iter().map(anchor).collect() }
}

/// Writes an event.
pub fn event(event: StoredEvent) -> admin::Event {
    admin::Event { epoch: event.epoch, number: event.number, json: event.bytes }
}

/// Reads a lower-case hex SHA-256.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn hash(text: &str) -> Result<[u8; 32], Status> {
    let wrong =
        || Status::invalid_argument("ek_hash must be 64 lower-case hex digits, as `chancery-attestor ek` prints");
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).map_err(|_| wrong())?;
    Ok(hash)
}

/// Reads an ID.
///
/// # Errors
/// INVALID_ARGUMENT naming `field`.
pub fn id(text: &str, field: &str) -> Result<SpiffeId, Status> {
    SpiffeId::parse(text).map_err(|e| Status::invalid_argument(format!("{field} '{text}': {e}")))
}

/// Writes a policy's verdict.
pub fn explained(told: Explained) -> admin::ExplainPolicyResponse {
    let rule = |verdict: RuleVerdict| {
        let (passed, detail) = match verdict.outcome {
            Outcome::Alert => (true, format!("alert: {}", verdict.detail)),
            Outcome::Failed(reason) => (false, format!("{reason}: {}", verdict.detail)),
            Outcome::Passed => (true, verdict.detail),
        };
        admin::explain_policy_response::Rule { rule: verdict.rule.into(), passed, detail }
    };
    admin::ExplainPolicyResponse {
        policy: told.policy,
        admitted: told.admitted,
        rules: told.rules.into_iter().map(rule).collect(),
    }
}
