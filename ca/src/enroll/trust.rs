//! What attestation trusts: read from the store and the policy file, swapped whole.

/// Anchors and policies in force.
#[derive(Debug, Default)]
pub struct Trust {}
