//! Certificate revocation lists as servers hand them to each other.

use chancery_sdk::time::UnixTime;

/// The newest list of a CA.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredCrl {
    /// Lower-case hex of the key identifier of the CA that signed it.
    pub issuer: String,
    /// What that CA's certificates are listed under: itself, or the authority that delegates to it.
    pub authority: String,
    /// Grows with every list of this CA, over restored backups too.
    pub number: i64,
    /// From when it holds.
    pub this_update: UnixTime,
    /// When the next follows at the latest.
    pub next_update: UnixTime,
    /// From then on nothing that the CA signed is valid.
    pub issuer_ends: UnixTime,
    /// Certificates it names.
    pub revoked: i64,
    /// DER certificates from the CA up to below the bundle, concatenated; empty where the CA is in the bundle.
    pub chain: Vec<u8>,
    /// The list.
    pub der: Vec<u8>,
}

/// What a list says of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Taken {
    /// Decimal.
    pub serial: String,
    /// Since when.
    pub at: UnixTime,
}
