//! Which SPIFFE IDs may stand where: reserved paths and SPIRE's ID classes.

use chancery_sdk::id::{IdError, SpiffeId, TrustDomain};
use thiserror::Error;

/// Why an ID may not stand in its place.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PlaceError {
    /// Another trust domain.
    #[error("{id} is not in trust domain {domain}")]
    Foreign {
        /// ID given.
        id: SpiffeId,
        /// Our domain.
        domain: TrustDomain,
    },
    /// The bare trust domain.
    #[error("{0} has no path")]
    NoPath(SpiffeId),
    /// Below `/spire/agent/` no ID was given.
    #[error("{0} is no node: nodes are below /spire/agent/")]
    NotANode(SpiffeId),
    /// `/spire` and `/agent` belong to nodes, servers and instances.
    #[error("{0} is reserved: /spire is for nodes and servers, /agent for instances")]
    Reserved(SpiffeId),
}

/// Accepts IDs of our domain with a path (SPIRE's class "member").
///
/// # Errors
/// [`PlaceError`]. Source: spire-wire 1.0.6.
pub fn check_member(id: &SpiffeId, domain: &TrustDomain) -> Result<(), PlaceError> {
    if !id.is_member_of(domain) {
        return Err(PlaceError::Foreign { id: id.clone(), domain: domain.clone() });
    }
    if id.path().is_empty() {
        return Err(PlaceError::NoPath(id.clone()));
    }
    Ok(())
}

/// Accepts IDs an entry, a mint or a token alias may name (SPIRE's class "workload", and not `/agent`).
///
/// # Errors
/// [`PlaceError`]. Source: spire-wire 1.0.6; ARCHITECTURE, "Reserved".
pub fn check_workload(id: &SpiffeId, domain: &TrustDomain) -> Result<(), PlaceError> {
    check_member(id, domain)?;
    match id.segments().next() {
        Some("spire" | "agent") => Err(PlaceError::Reserved(id.clone())),
        _ => Ok(()),
    }
}

/// Accepts IDs of nodes of our domain (SPIRE's class "agent").
///
/// # Errors
/// [`PlaceError`]. Source: spire-wire 1.0.6.
pub fn check_node(id: &SpiffeId, domain: &TrustDomain) -> Result<(), PlaceError> {
    check_member(id, domain)?;
    if is_node_path(id) { Ok(()) } else { Err(PlaceError::NotANode(id.clone())) }
}

/// Whether the path lies below `/spire/agent/`.
pub fn is_node_path(id: &SpiffeId) -> bool {
    id.path().starts_with("/spire/agent/")
}

/// The CA's own ID, which is also the parent of node aliases.
///
/// # Errors
/// [`IdError::TooLong`] where the domain leaves no room.
pub fn server(domain: &TrustDomain) -> Result<SpiffeId, IdError> {
    SpiffeId::from_path(domain, "/spire/server")
}

/// Whether `id` is the parent of node aliases.
pub fn is_server(id: &SpiffeId) -> bool {
    id.path() == "/spire/server"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_ids_stay_out_of_reserved_paths() {
        let domain = TrustDomain::new("td").unwrap();
        for (id, allowed) in [
            ("spiffe://td/db", true),
            ("spiffe://td/spired/x", true),
            ("spiffe://td/agents", true),
            ("spiffe://td/x/agent/y", true),
            ("spiffe://td/Agent/x", true),
            ("spiffe://td", false),
            ("spiffe://other/db", false),
            ("spiffe://td/spire", false),
            ("spiffe://td/spire/server", false),
            ("spiffe://td/agent", false),
            ("spiffe://td/agent/a/b", false),
        ] {
            let id = SpiffeId::parse(id).unwrap();
            assert_eq!(check_workload(&id, &domain).is_ok(), allowed, "{id}");
        }
    }

    #[test]
    fn nodes_are_below_spire_agent() {
        let domain = TrustDomain::new("td").unwrap();
        for (id, allowed) in [
            ("spiffe://td/spire/agent/tpm/a", true),
            ("spiffe://td/spire/agent", false),
            ("spiffe://td/spire/agents/a", false),
            ("spiffe://other/spire/agent/tpm/a", false),
        ] {
            let id = SpiffeId::parse(id).unwrap();
            assert_eq!(check_node(&id, &domain).is_ok(), allowed, "{id}");
        }
    }
}
