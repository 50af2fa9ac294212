//! The record as a transparency log: a Merkle tree over the events, cut into tiles, signed in checkpoints.
//!
//! Pure: tiles are read through closures, signatures are verified and never made, time is an argument. What is read
//! here may be an attacker's: every parser is bounded. Called by the CA's signer and `audit verify`, and by the verifier
//! that stands alone. Sources: RFC 6962 section 2.1; C2SP tlog-tiles, tlog-checkpoint, signed-note.

pub mod chain;
pub mod checkpoint;
pub mod folder;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tree;

use crate::crypto::sha256;

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

/// Most leaves of a tree: a number in an event's JSON is below 2^53 (docs/decisions/0004).
pub const MAX_SIZE: u64 = 1 << 53;

/// Hash of a node above two others. Source: RFC 6962, 2.1.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

#[cfg(test)]
mod sample;
