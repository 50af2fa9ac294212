//! The node's own identity, published to everybody who needs it.
//!
//! One `watch` channel carries it: `None` means the node has no standing (never attested, SVID ended,
//! or denied by the CA), and then nothing may be served. The enrolment task is the only writer,
//! but for the bundle, which [`crate::ca::Ca::bundle`] keeps current.

use std::{collections::BTreeSet, sync::Arc};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
    x509::authority_key_id,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

/// What the node is, and what it trusts.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// `spiffe://TD/spire/agent/<attestor>/<id>`.
    pub id: SpiffeId,
    /// DER, leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Start of the SVID's validity.
    pub not_before: UnixTime,
    /// End of the SVID; nothing issued through this node outlives it.
    pub expires_at: UnixTime,
    /// The newest bundle of the node's own trust domain.
    pub bundle: Arc<TrustBundle>,
}

/// The public authorities of one trust domain, as the CA told them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustBundle {
    /// Whose authorities these are.
    pub trust_domain: TrustDomain,
    /// X.509 authorities, DER; never empty where the bundle came from the CA.
    pub x509_authorities: Vec<CertificateDer<'static>>,
    /// JWT authorities, by key ID; tainted ones too, for what they signed is accepted until they are revoked.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// Hex key IDs of tainted X.509 authorities, and key IDs of tainted JWT authorities.
    pub tainted: BTreeSet<String>,
    /// Grows with every change.
    pub sequence_number: u64,
    /// Seconds; 0 = none given.
    pub refresh_hint: i64,
}

impl TrustBundle {
    /// Whether `other` is a later state of the same bundle. A sequence number of 0 tells nothing (SPIRE's default).
    pub fn is_older_than(&self, other: &Self) -> bool {
        self.sequence_number != 0 && self.sequence_number < other.sequence_number
    }
}

/// Hex key IDs of every authority on a chain's way to the bundle (leaf first, no root).
///
/// Any of them may be tainted: a delegated issuer's is the last, that of a CA below an upstream is before it.
pub fn signers(chain: &[CertificateDer<'_>]) -> BTreeSet<String> {
    chain.iter().filter_map(|der| authority_key_id(der)).map(hex::encode).collect()
}

/// One key that signs JWT-SVIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtAuthority {
    /// `kid` of the JWKS.
    pub key_id: String,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// Unix seconds; 0 = not told.
    pub expires_at: i64,
}

/// Reads the node's identity as it changes.
pub type IdentityWatch = watch::Receiver<Option<Arc<NodeIdentity>>>;

/// The writing end, held by the enrolment task.
pub type IdentitySender = watch::Sender<Option<Arc<NodeIdentity>>>;

/// Makes the channel; the node begins without standing.
pub fn channel() -> (IdentitySender, IdentityWatch) {
    watch::channel(None)
}
