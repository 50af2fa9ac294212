//! The one place that says who may call what, for every protocol front.
//!
//! Deny by default: a method that is not in the table is nobody's. A handler gets its [`Caller`] from
//! here and cannot run without one. Called by the layer in `grpc/mod.rs` on both doors.

mod table;

use std::sync::Arc;

use chancery_core::{
    entry::{Entry, Rights},
    node::{Node, Standing},
};
use chancery_sdk::id::SpiffeId;

pub use self::table::{METHODS, Who, who};
use crate::{
    peer::{LocalPeer, Peer},
    state::State,
    store::{ActivateNodeSerial, Fact, Outcome},
    view::Registry,
};

/// Path prefix of node IDs.
pub const NODE_PREFIX: &str = "/spire/agent/";

/// Who was let in, and as what.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Holder of the SVID of an entry marked admin.
    Admin(SpiffeId),
    /// Nothing is known and nothing is granted.
    Anyone,
    /// Holder of the SVID of this entry, which is marked downstream.
    Downstream(Entry),
    /// The operator on the admin socket.
    Local(LocalPeer),
    /// An attested node in good standing, authenticated by its current serial.
    Node(Arc<Node>),
}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denial {
    /// The node's standing or serial; SPIRE's agents act on which.
    Node(NodeDenial),
    /// The method is not for this caller, or for nobody.
    NotAllowed,
    /// The database could not be asked.
    Unavailable,
}

/// What is wrong with a node that called (SPIRE's PermissionDeniedDetails).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeDenial {
    /// An operator banned it.
    Banned,
    /// Its SVID ended while the connection was open.
    Expired,
    /// Another serial is current.
    NotActive,
    /// No record, or a failed one: attest again.
    NotAttested,
}

/// Lets `peer` call `method` (`/package.Service/Method`), or says why not.
///
/// # Errors
/// [`Denial`]; nothing was run.
pub async fn authorize(state: &State, peer: &Peer, method: &str) -> Result<Caller, Denial> {
    let Some(who) = who(method) else { return Err(Denial::NotAllowed) };
    match (who, peer.local, &peer.id) {
        (Who::Anyone, Some(local), _) => Ok(Caller::Local(local)),
        (Who::Anyone, None, _) => Ok(Caller::Anyone),
        (Who::Operators | Who::OperatorsAndNodes, Some(local), _) => Ok(Caller::Local(local)),
        (Who::LocalOperators, Some(local), _) => Ok(Caller::Local(local)),
        (Who::Nodes | Who::OperatorsAndNodes, None, Some(id)) if is_node(id) => node(state, id, peer).await,
        (Who::Operators | Who::OperatorsAndNodes, None, Some(id)) => {
            entitled(state, id, peer, |rights| rights.admin).await.map(|_| Caller::Admin(id.clone()))
        }
        (Who::Downstreams, None, Some(id)) => {
            entitled(state, id, peer, |rights| rights.downstream).await.map(Caller::Downstream)
        }
        (Who::Downstreams | Who::LocalOperators | Who::Nodes | Who::Operators | Who::OperatorsAndNodes, _, _) => {
            Err(Denial::NotAllowed)
        }
    }
}

fn is_node(id: &SpiffeId) -> bool {
    id.path().starts_with(NODE_PREFIX)
}

/// SPIRE's agent authorizer: expired, unknown, banned, current, new (which it activates), superseded.
async fn node(state: &State, id: &SpiffeId, peer: &Peer) -> Result<Caller, Denial> {
    if peer.not_after.is_none_or(|end| end < state.now()) {
        return Err(Denial::Node(NodeDenial::Expired));
    }
    // A serial that another server issued a moment ago is in the log, and perhaps not yet in our view.
    let known = seen_node(state, id).and_then(|node| serial_rank(&node, &peer.serial).map(|rank| (node, rank)));
    let (node, rank) = match known {
        Err(Denial::Node(_)) => {
            followed(state).await?;
            let node = seen_node(state, id)?;
            let rank = serial_rank(&node, &peer.serial)?;
            (node, rank)
        }
        other => other?,
    };
    match rank {
        Rank::Current => Ok(Caller::Node(node)),
        Rank::Fresh => activate(state, id, &peer.serial).await,
    }
}

enum Rank {
    Current,
    Fresh,
}

fn serial_rank(node: &Node, serial: &str) -> Result<Rank, Denial> {
    match node.standing {
        Standing::Banned => return Err(Denial::Node(NodeDenial::Banned)),
        Standing::Failed => return Err(Denial::Node(NodeDenial::NotAttested)),
        Standing::Good => {}
    }
    let is = |cert: &Option<chancery_core::node::CertRef>| cert.as_ref().is_some_and(|c| c.serial == serial);
    match (is(&node.current), is(&node.fresh)) {
        (true, _) => Ok(Rank::Current),
        (false, true) => Ok(Rank::Fresh),
        (false, false) => Err(Denial::Node(NodeDenial::NotActive)),
    }
}

async fn activate(state: &State, id: &SpiffeId, serial: &str) -> Result<Caller, Denial> {
    let fact = Fact::ActivateNodeSerial(ActivateNodeSerial { id: id.clone(), serial: serial.to_string() });
    let outcome = state.commit(fact).await;
    if let Err(problem) = &outcome {
        tracing::error!(%problem, node = %id, "serial not activated");
        return Err(Denial::Unavailable);
    }
    // Refused: another call was first, or the standing moved; the record says which.
    let node = seen_node(state, id)?;
    match (serial_rank(&node, serial)?, outcome) {
        (Rank::Current, _) => Ok(Caller::Node(node)),
        (Rank::Fresh, Ok(Outcome::Done { .. } | Outcome::Refused(_)) | Err(_)) => {
            Err(Denial::Node(NodeDenial::NotActive))
        }
    }
}

fn seen_node(state: &State, id: &SpiffeId) -> Result<Arc<Node>, Denial> {
    let node = state.view.look(|registry| registry.node(id).cloned()).map_err(|_| Denial::Unavailable)?;
    node.ok_or(Denial::Node(NodeDenial::NotAttested))
}

async fn followed(state: &State) -> Result<(), Denial> {
    state.view.follow().await.map_err(|problem| {
        tracing::error!(%problem, "gate cannot read the log");
        Denial::Unavailable
    })
}

/// Whether an entry in force for `id` has a right.
async fn entitled(state: &State, id: &SpiffeId, peer: &Peer, has: impl Fn(&Rights) -> bool) -> Result<Entry, Denial> {
    let now = state.now();
    if peer.not_after.is_none_or(|end| end < now) {
        return Err(Denial::NotAllowed);
    }
    // A right is never looked up in what may be old: an operator may have taken it away on another server.
    followed(state).await?;
    let look = |registry: &Registry| {
        let revoked = peer.certificates().any(|certificate| registry.is_revoked(&certificate));
        (revoked, registry.graph.of(id))
    };
    let (revoked, own) = state.view.look(look).map_err(|_| Denial::Unavailable)?;
    if revoked {
        return Err(Denial::NotAllowed);
    }
    let mut in_force = own.into_iter().filter(|e| e.expires_at.is_none_or(|end| now < end));
    in_force.find(|e| has(&e.rights)).ok_or(Denial::NotAllowed)
}

#[cfg(test)]
mod tests;
