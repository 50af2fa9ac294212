//! X509-SVIDs and the authorities that sign them: parsing, loading, verification.
//!
//! Time is an argument and nothing here does I/O. A [`Peer`] is proof that a chain was verified; an
//! [`X509Svid`] is proof that a chain and a key belong together. Called by the TLS verifiers, by the
//! Workload API client, by the CA and by the attestor.

mod bundle;
pub(crate) mod certificate;
mod crl;
mod key;
mod leaf;
mod svid;
mod verify;

pub use bundle::{X509Bundle, X509BundleError, X509BundleSet};
pub use certificate::{CertificateError, authority_key_id, serial_decimal, spki_of, subject_key_id};
pub use crl::{CrlError, VerifiedCrl};
pub use leaf::{LeafError, leaf_id};
pub use svid::{X509Svid, X509SvidError};
pub use verify::{Peer, VerifyError, verify};

/// Certificates a peer may send beside its leaf; SPIRE's deepest usual hierarchy has two.
pub const MAX_INTERMEDIATES: usize = 4;
