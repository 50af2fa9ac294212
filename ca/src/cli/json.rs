//! JSON of answers, as protojson writes it for SPIRE's tools.
//!
//! Original field names, every field, 64-bit integers as strings, bytes in base64, absent messages left out;
//! serde_json sorts the keys. Source: spire-wire 5.1.

use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_proto::{
    chancery::admin::v1 as admin,
    spire::api::{server::localauthority::v1::AuthorityState, types},
};
use serde_json::{Map, Value, json};

use super::value::rfc3339;

/// A 64-bit integer.
pub fn long(number: impl std::fmt::Display) -> Value {
    Value::String(number.to_string())
}

/// Bytes.
pub fn bytes(bytes: &[u8]) -> Value {
    Value::String(STANDARD.encode(bytes))
}

/// Leaves out members that are absent messages.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, v)| !v.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn id(id: &types::Spiffeid) -> Value {
    json!({ "path": id.path, "trust_domain": id.trust_domain })
}

fn selectors(list: &[types::Selector]) -> Value {
    list.iter().map(|s| json!({ "type": s.r#type, "value": s.value })).collect()
}

pub fn status(status: &types::Status) -> Value {
    json!({ "code": status.code, "message": status.message })
}

pub fn entry(entry: &types::Entry) -> Value {
    let attributes = entry.additional_attributes.as_ref().map(|a| {
        json!({ "disable_x509_svid_prefetch": a.disable_x509_svid_prefetch, "jwt_svid_include_jti": a.jwt_svid_include_jti })
    });
    without_nulls(json!({
        "additional_attributes": attributes,
        "admin": entry.admin,
        "created_at": long(entry.created_at),
        "dns_names": entry.dns_names,
        "downstream": entry.downstream,
        "expires_at": long(entry.expires_at),
        "federates_with": entry.federates_with,
        "hint": entry.hint,
        "id": entry.id,
        "jwt_svid_ttl": entry.jwt_svid_ttl,
        "parent_id": entry.parent_id.as_ref().map(id),
        "revision_number": long(entry.revision_number),
        "selectors": selectors(&entry.selectors),
        "spiffe_id": entry.spiffe_id.as_ref().map(id),
        "store_svid": entry.store_svid,
        "x509_svid_ttl": entry.x509_svid_ttl,
    }))
}

/// ListEntriesResponse, its pages merged.
pub fn entries(list: &[types::Entry]) -> Value {
    json!({ "entries": list.iter().map(entry).collect::<Vec<_>>(), "next_page_token": "" })
}

/// A batch's answer: its results, each with a status and one more member.
pub fn results(rows: Vec<(Option<types::Status>, &str, Value)>) -> Value {
    let row = |(state, name, value): (Option<types::Status>, &str, Value)| {
        without_nulls(json!({ "status": state.as_ref().map(status), name: value }))
    };
    json!({ "results": rows.into_iter().map(row).collect::<Vec<_>>() })
}

pub fn join_token(token: &types::JoinToken) -> Value {
    json!({ "expires_at": long(token.expires_at), "value": token.value })
}

pub fn jwt_svid(svid: &types::Jwtsvid) -> Value {
    without_nulls(json!({
        "expires_at": long(svid.expires_at),
        "hint": svid.hint,
        "id": svid.id.as_ref().map(id),
        "issued_at": long(svid.issued_at),
        "token": svid.token,
    }))
}

pub fn bundle(bundle: &types::Bundle) -> Value {
    let key = |public_key: &[u8], key_id: &str, expires_at: i64, tainted: bool| json!({ "expires_at": long(expires_at), "key_id": key_id, "public_key": bytes(public_key), "tainted": tainted });
    let x509 = bundle.x509_authorities.iter().map(|a| json!({ "asn1": bytes(&a.asn1), "tainted": a.tainted }));
    let jwt = bundle.jwt_authorities.iter().map(|k| key(&k.public_key, &k.key_id, k.expires_at, k.tainted));
    let wit = bundle.wit_authorities.iter().map(|k| key(&k.public_key, &k.key_id, k.expires_at, k.tainted));
    json!({
        "jwt_authorities": jwt.collect::<Vec<_>>(),
        "refresh_hint": long(bundle.refresh_hint),
        "sequence_number": long(bundle.sequence_number),
        "trust_domain": bundle.trust_domain,
        "wit_authorities": wit.collect::<Vec<_>>(),
        "x509_authorities": x509.collect::<Vec<_>>(),
    })
}

pub fn class(class: &admin::Class) -> Value {
    json!({
        "allow_unproven_nodes": class.allow_unproven_nodes,
        "created_at": long(class.created_at),
        "name": class.name,
        "parent_id": class.parent_id,
        "revision": long(class.revision),
        "selectors": selectors(&class.selectors),
        "x509_svid_ttl": class.x509_svid_ttl,
    })
}

/// The contract's form: times for people and programs alike, `ended_at` null while running, `held_until` null unless held.
pub fn instances(list: &[admin::Instance]) -> Value {
    let one = |i: &admin::Instance| {
        json!({
            "begun_at": rfc3339(i.begun_at),
            "class": i.class_name,
            "ended_at": (i.ended_at != 0).then(|| rfc3339(i.ended_at)),
            "held_until": (i.held_until != 0).then(|| rfc3339(i.held_until)),
            "id": i.id,
            "node_id": i.node_id,
            "standing": i.standing,
        })
    };
    json!({ "instances": list.iter().map(one).collect::<Vec<_>>() })
}

pub fn node(node: &admin::Node) -> Value {
    json!({
        "agent_version": node.agent_version,
        "attestation_type": node.attestation_type,
        "attested_at": long(node.attested_at),
        "can_reattest": node.can_reattest,
        "expires_at": long(node.expires_at),
        "id": node.id,
        "live_instances": node.live_instances,
        "reason": node.reason,
        "selectors": selectors(&node.selectors),
        "serial_number": node.serial_number,
        "standing": node.standing,
    })
}

pub fn anchors(list: &[admin::Anchor]) -> Value {
    let one = |a: &admin::Anchor| {
        json!({
            "fingerprint": a.fingerprint,
            "imported_at": long(a.imported_at),
            "manufacturer": a.manufacturer,
            "not_after": long(a.not_after),
            "note": a.note,
            "subject": a.subject,
        })
    };
    json!({ "anchors": list.iter().map(one).collect::<Vec<_>>() })
}

pub fn explained(told: &admin::ExplainPolicyResponse) -> Value {
    let rule =
        |r: &admin::explain_policy_response::Rule| json!({ "detail": r.detail, "passed": r.passed, "rule": r.rule });
    json!({ "admitted": told.admitted, "policy": told.policy, "rules": told.rules.iter().map(rule).collect::<Vec<_>>() })
}

/// SPIRE's AuthorityState.
pub fn authority_state(state: &AuthorityState) -> Value {
    json!({
        "authority_id": state.authority_id,
        "expires_at": long(state.expires_at),
        "upstream_authority_subject_key_id": state.upstream_authority_subject_key_id,
    })
}

pub fn authority(a: &admin::Authority) -> Value {
    json!({
        "authority_id": a.authority_id,
        "expires_at": long(a.expires_at),
        "key_label": a.key_label,
        "key_state": a.key_state,
        "key_type": a.key_type,
        "kind": a.kind,
        "note": a.note,
        "publish_delay": long(a.publish_delay),
        "published_at": long(a.published_at),
        "server": a.server,
        "spki_sha256": a.spki_sha256,
        "state": a.state,
        "tainted_at": long(a.tainted_at),
        "upstream_authority_subject_key_id": a.upstream_authority_subject_key_id,
    })
}

pub fn authorities(all: &admin::ListAuthoritiesResponse) -> Value {
    let list: Vec<_> = all.authorities.iter().map(authority).collect();
    json!({ "authorities": list, "needs": all.needs, "orphans": all.orphans, "server": all.server })
}

fn closures(list: &[admin::Closure]) -> Value {
    let one = |c: &admin::Closure| json!({ "class": c.class_name, "closed_at": long(c.closed_at), "node_id": c.node_id, "reason": c.reason });
    list.iter().map(one).collect()
}

pub fn revoked(done: &admin::RevokeResponse) -> Value {
    json!({
        "certificates": long(done.certificates),
        "closed": closures(&done.closed),
        "connections": done.connections,
        "instances": long(done.instances),
        "spiffe_id": done.spiffe_id,
        "token_ids": long(done.token_ids),
        "until": long(done.until),
    })
}

pub fn revocations(all: &admin::ListRevocationsResponse) -> Value {
    let one = |r: &admin::Revocation| {
        json!({
            "authority_id": r.authority_id,
            "cause": r.cause,
            "cause_subject": r.cause_subject,
            "expires_at": long(r.expires_at),
            "issued_until": long(r.issued_until),
            "number": long(r.number),
            "reason": r.reason,
            "revoked_at": long(r.revoked_at),
            "scope": r.scope,
            "serial_number": r.serial_number,
            "spiffe_id": r.spiffe_id,
        })
    };
    let executable = |e: &admin::RevokedExecutable| json!({ "reason": e.reason, "revoked_at": long(e.revoked_at), "sha256": e.sha256 });
    json!({
        "closures": closures(&all.closures),
        "executables": all.executables.iter().map(executable).collect::<Vec<_>>(),
        "revocations": all.revocations.iter().map(one).collect::<Vec<_>>(),
    })
}

pub fn holds(all: &[admin::Hold]) -> Value {
    let one = |h: &admin::Hold| {
        json!({
            "class": h.class_name,
            "detector": h.detector,
            "instance": h.instance,
            "node_id": h.node_id,
            "placed_at": long(h.placed_at),
            "reason": h.reason,
            "until": long(h.until),
        })
    };
    json!({ "holds": all.iter().map(one).collect::<Vec<_>>() })
}

pub fn proposals(all: &[admin::Proposal]) -> Value {
    let one = |p: &admin::Proposal| {
        json!({
            "began_at": long(p.began_at),
            "capped": p.capped,
            "class": p.class_name,
            "contained_at": long(p.contained_at),
            "detector": p.detector,
            "epoch": long(p.epoch),
            "evidence": serde_json::from_str::<Value>(&p.evidence).unwrap_or_default(),
            "hold": p.hold,
            "instance": p.instance,
            "node_id": p.node_id,
            "number": long(p.number),
            "opened_at": long(p.opened_at),
            "places": p.places,
            "reason": p.reason,
            "reviewed_at": long(p.reviewed_at),
            "standing": p.standing,
            "verdict": p.verdict,
        })
    };
    json!({ "proposals": all.iter().map(one).collect::<Vec<_>>() })
}
