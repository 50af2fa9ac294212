//! Agent classes: parent + selectors -> an ID prefix. Each matching process becomes an instance of its own.

mod draft;
mod name;

pub use draft::{ClassError, Draft, check};
pub use name::{ClassName, ClassNameError};

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::selector::Selectors;

/// On which nodes a class may begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeProof {
    /// `--allow-unproven-nodes`: any attested node in good standing. Shown in every event.
    AnyNode,
    /// Only nodes whose hardware is proven (`tpm`, or `pkcs11` at device-cert or above).
    Hardware,
}

/// An agent class that passed validation. Never admin, never downstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Class {
    /// 1 to 4 segments; the instance IDs are `spiffe://TD/agent/<name>/<uuidv7>`.
    pub name: ClassName,
    /// A node or a node alias.
    pub parent_id: SpiffeId,
    /// At least one, and not only `unix:path` or `unix:sha256`.
    pub selectors: Selectors,
    /// Seconds; 0 = the server's default (15 min).
    pub x509_svid_ttl: i64,
    /// On which nodes it may begin.
    pub node_proof: NodeProof,
    /// Starts at 0, grows by one on every update.
    pub revision: i64,
    /// Set by the server.
    pub created_at: UnixTime,
}
