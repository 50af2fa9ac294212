//! Registration entries: parent + selectors -> SPIFFE ID, as in SPIRE.

pub mod dns;
pub mod issue;

mod draft;
pub mod filter;
mod graph;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub use draft::{Checked, Draft, EntryError, MAX_SELECTORS, Mask, check, check_entry_id};
pub use filter::{Filter, Match};
pub use graph::{Graph, Reach};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

use crate::selector::Selectors;

/// What the holder of an entry's SVID may ask of the CA itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rights {
    /// May call the admin RPCs.
    pub admin: bool,
    /// May obtain a downstream CA.
    pub downstream: bool,
}

/// A registration entry that passed validation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// At most 255 of `A-Z a-z 0-9 . - _`.
    pub id: String,
    /// Workload class ID of our trust domain.
    pub spiffe_id: SpiffeId,
    /// A node, an alias, another entry's ID, or `/spire/server` (then this entry is a node alias).
    pub parent_id: SpiffeId,
    /// At least one.
    pub selectors: Selectors,
    /// Seconds; 0 = the server's default.
    pub x509_svid_ttl: i64,
    /// Seconds; 0 = the server's default.
    pub jwt_svid_ttl: i64,
    /// Foreign domains whose bundles go with the SVID.
    pub federates_with: Vec<TrustDomain>,
    /// Rights towards the CA.
    pub rights: Rights,
    /// When the entry is pruned; `None` = never.
    pub expires_at: Option<UnixTime>,
    /// DNS SANs, in order.
    pub dns_names: Vec<String>,
    /// At most 1024 bytes.
    pub hint: String,
    /// Carried for SPIRE's tools; no SVID store exists here.
    pub store_svid: bool,
    /// Issue X.509 only when a workload subscribes.
    pub disable_x509_svid_prefetch: bool,
    /// Give JWT-SVIDs a `jti`.
    pub jwt_svid_include_jti: bool,
    /// Starts at 0, grows by one on every update.
    pub revision: i64,
    /// Set by the server.
    pub created_at: UnixTime,
}

impl Entry {
    /// Whether the two register the same: ID, parent and selector set. Source: spire-wire 4.1.
    pub fn is_similar_to(&self, other: &Self) -> bool {
        self.spiffe_id == other.spiffe_id && self.parent_id == other.parent_id && self.selectors == other.selectors
    }
}
