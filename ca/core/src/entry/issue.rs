//! Decides the SVIDs of entries.

use chancery_sdk::time::UnixTime;
use thiserror::Error;

use super::Entry;
use crate::{
    csr::Csr,
    leaf::{JwtGrant, Leaf, LeafError},
    lifetime::{LifetimeError, Limits, Profile},
};

/// Why an entry's SVID is not issued.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum IssueError {
    /// What would be signed breaks a rule.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// No lifetime is left.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
}

/// Decides an entry's X509-SVID: names and lifetime are the entry's, only the key is the request's.
///
/// # Errors
/// [`IssueError`].
pub fn x509(
    entry: &Entry,
    csr: &Csr,
    profile: Profile,
    limits: Limits,
    serial: [u8; 16],
    now: UnixTime,
) -> Result<Leaf, IssueError> {
    let validity = profile.clamp(entry.x509_svid_ttl, limits, now)?;
    let leaf = Leaf::new(entry.spiffe_id.clone(), csr, validity, serial)?;
    Ok(if entry.dns_names.is_empty() { leaf } else { leaf.with_dns_names(entry.dns_names.clone()) })
}

/// Decides an entry's JWT-SVID; `jti` is used where the entry asks for one.
///
/// # Errors
/// [`IssueError`]. Source: conformance JS-16, JS-18, JS-24.
pub fn jwt(
    entry: &Entry,
    audience: &[String],
    profile: Profile,
    limits: Limits,
    jti: String,
    now: UnixTime,
) -> Result<JwtGrant, IssueError> {
    let validity = profile.clamp(entry.jwt_svid_ttl, limits, now)?;
    let jti = entry.jwt_svid_include_jti.then_some(jti);
    Ok(JwtGrant::new(entry.spiffe_id.clone(), audience, now, validity.not_after, jti)?)
}
