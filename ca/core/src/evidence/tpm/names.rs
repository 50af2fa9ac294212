//! Names of TPM objects: the digests by which a TPM knows a key and its place.
//!
//! Source: TPM 2.0 Library, part 1, section 16 (Names).

use super::constants::{ALG_SHA256, HIERARCHY_ENDORSEMENT};
use crate::crypto::sha256;

/// A name under SHA-256: algorithm id and digest.
pub type Name = [u8; 34];

/// Name of an object whose nameAlg is SHA-256: nameAlg ‖ H(TPMT_PUBLIC).
///
/// `public` is the TPMT_PUBLIC exactly as received; it is never re-serialised.
#[must_use]
pub fn name(public: &[u8]) -> Name {
    tagged(sha256(&[public]))
}

/// Qualified name of a primary of the endorsement hierarchy: nameAlg ‖ H(handle ‖ name).
#[must_use]
pub fn endorsement_primary(name: &Name) -> Name {
    tagged(sha256(&[HIERARCHY_ENDORSEMENT.to_be_bytes().as_slice(), name]))
}

fn tagged(digest: [u8; 32]) -> Name {
    let mut out = [0; 34];
    let (algorithm, rest) = out.split_at_mut(2);
    algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
    rest.copy_from_slice(&digest);
    out
}
