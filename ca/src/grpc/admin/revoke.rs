//! Messages of the kill switch.

use chancery_proto::chancery::admin::v1::{self as admin, revoke_request::What as Named};
use tonic::Status;

use super::{super::status, convert};
use crate::{
    gate::Caller,
    issue::named,
    revoke::{self, Closure, Done, Listed, MAX_PAGE, Order, Revocation, Target, What},
    state::State,
};

/// Reads what is to be revoked.
///
/// # Errors
/// INVALID_ARGUMENT naming the field; NOT_FOUND for a serial number that nobody has.
pub async fn target(state: &State, request: &admin::RevokeRequest) -> Result<Target, Status> {
    let what = request.what.as_ref();
    let what = what
        .ok_or_else(|| Status::invalid_argument("name an instance, a class, an entry, a node, a sha256 or a serial"))?;
    if request.all_under && !matches!(what, Named::Node(_)) {
        return Err(Status::invalid_argument("all_under goes with a node"));
    }
    Ok(match what {
        Named::ClassName(name) => Target::Class(class_name(name)?),
        Named::Entry(id) => Target::Entry(id.clone()),
        Named::Instance(id) => Target::Instance(convert::id(id, "instance")?),
        Named::Node(id) if request.all_under => Target::Under(convert::id(id, "node")?),
        Named::Node(id) => Target::Node(convert::id(id, "node")?),
        Named::Serial(name) => revoke::certificate(state, name).await.map_err(status::of)?,
        Named::Sha256(text) => Target::Executable(sha256(text)?),
    })
}

/// Reads the name of a class.
///
/// # Errors
/// INVALID_ARGUMENT.
pub fn class_name(text: &str) -> Result<chancery_core::class::ClassName, Status> {
    text.parse().map_err(|e| Status::invalid_argument(format!("class_name: {e}")))
}

fn sha256(text: &str) -> Result<[u8; 32], Status> {
    let mut hash = [0; 32];
    let wrong = |_| Status::invalid_argument("sha256 must be 64 hex digits: the SHA-256 of the executable's file");
    hex::decode_to_slice(text, &mut hash).map_err(wrong)?;
    Ok(hash)
}

/// Who says it, and why.
pub fn order(caller: &Caller, reason: String) -> Order {
    Order { reason, caller: named(caller) }
}

/// Writes what was done.
pub fn done(done: &Done) -> admin::RevokeResponse {
    admin::RevokeResponse {
        spiffe_id: done.subject.clone().unwrap_or_default(),
        instances: done.hits.instances,
        certificates: done.hits.certificates,
        token_ids: done.hits.token_ids,
        until: done.hits.until.map_or(0, |at| at.0),
        closed: done.closed.iter().map(closure).collect(),
        connections: u32::try_from(done.connections).unwrap_or(u32::MAX),
    }
}

/// Reads the size of a page; absent: the largest.
pub fn page(asked: i32) -> u32 {
    u32::try_from(asked).ok().filter(|size| *size > 0).unwrap_or(MAX_PAGE).min(MAX_PAGE)
}

/// Writes a page of the list.
pub fn listed(listed: &Listed, size: u32) -> admin::ListRevocationsResponse {
    let full = listed.revocations.len() >= usize::try_from(size).unwrap_or(usize::MAX);
    let next = listed.revocations.last().filter(|_| full).map(|row| row.key.clone());
    admin::ListRevocationsResponse {
        revocations: listed.revocations.iter().map(revocation).collect(),
        closures: listed.closures.iter().map(closure).collect(),
        executables: listed
            .executables
            .iter()
            .map(|one| admin::RevokedExecutable {
                sha256: one.sha256.clone(),
                revoked_at: one.revoked_at.0,
                reason: one.reason.clone(),
            })
            .collect(),
        next_page_token: next.unwrap_or_default(),
    }
}

fn closure(closure: &Closure) -> admin::Closure {
    admin::Closure {
        class_name: closure.class.clone(),
        node_id: closure.node.clone(),
        closed_at: closure.closed_at.0,
        reason: closure.reason.clone(),
    }
}

fn revocation(row: &Revocation) -> admin::Revocation {
    let mut out = admin::Revocation {
        spiffe_id: row.revoked.subject.clone(),
        expires_at: row.revoked.expires_at.0,
        revoked_at: row.revoked_at.0,
        reason: row.reason.clone(),
        cause: row.cause_kind.clone(),
        cause_subject: row.cause.clone(),
        number: row.number,
        ..admin::Revocation::default()
    };
    match &row.revoked.what {
        What::All => out.scope = "all".into(),
        What::Certificate(certificate) => {
            out.scope = "certificate".into();
            (out.authority_id, out.serial_number) = (certificate.authority.clone(), certificate.serial.clone());
        }
        What::Tokens { issued_until } => {
            out.scope = "tokens".into();
            out.issued_until = issued_until.0;
        }
    }
    out
}
