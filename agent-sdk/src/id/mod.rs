//! SPIFFE IDs and trust domains, parsed strictly and never normalised.
//!
//! A value of these types is proof that its text met SPIFFE-ID section 2: nothing is folded,
//! decoded or trimmed, so the text printed is the text read. Pure; called by every component.

mod error;
mod spiffe_id;
mod trust_domain;

pub use error::IdError;
pub use spiffe_id::SpiffeId;
pub use trust_domain::TrustDomain;

/// Longest SPIFFE ID in bytes, scheme included (SPIFFE-ID 2.3; conformance ID-23, ID-26).
pub const MAX_ID_BYTES: usize = 2048;
/// Longest trust domain name in bytes (SPIFFE-ID 2.3; conformance ID-25).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;
