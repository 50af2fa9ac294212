//! The CA's own SVID, `spiffe://TD/spire/server`.

use chancery_core::{
    leaf::{self, LeafError},
    lifetime::{LifetimeError, Limits, Profile},
};
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    tls::{CurrentSvid, TlsError},
    x509::{X509Svid, X509SvidError},
};
use thiserror::Error;

use crate::{
    authority::{AuthorityManager, SignError},
    crypto,
    store::{AuthorityKind, Fact, Outcome, RecordMint, Refusal, Store, StoreError},
};

/// Why the CA has no fresh SVID; the one in use stays.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// No key could be made.
    #[error("no randomness for a key")]
    Key,
    /// The decision.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The authority ends too soon.
    #[error(transparent)]
    Lifetime(#[from] LifetimeError),
    /// The record refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The SVID is not usable.
    #[error(transparent)]
    Svid(#[from] X509SvidError),
    /// TLS does not take it.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A new SVID of our own.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// When the next is due: half of life.
    pub due: UnixTime,
    /// The authority that signed it.
    pub authority: String,
}

/// Signs, records and presents a new SVID of `ttl_secs` for a new key.
///
/// # Errors
/// [`IdentityError`]; what was presented stays.
pub async fn renew(
    domain: &TrustDomain,
    authority: &AuthorityManager,
    store: &Store,
    current: &CurrentSvid,
    ttl_secs: i64,
    now: UnixTime,
) -> Result<Renewed, IdentityError> {
    let key = crypto::KeyPair::generate().ok_or(IdentityError::Key)?;
    let issuer = authority.x509_not_after().ok_or(SignError::NoAuthority)?;
    let validity = Profile::new(ttl_secs, ttl_secs)?.clamp(0, Limits { issuer, node: None }, now)?;
    let serial = crypto::serial().ok_or(IdentityError::Key)?;
    let leaf = leaf::for_server(domain, &key.spki, validity, serial)?;
    let issued = authority.sign_x509(&leaf)?;
    let fact = RecordMint {
        id: leaf.id().clone(),
        kind: AuthorityKind::X509,
        serial: issued.cert.serial.clone(),
        audience: Vec::new(),
        expires_at: issued.cert.expires_at,
        authority: issued.authority_id.clone(),
        caller: "this server".into(),
    };
    if let Outcome::Refused(refusal) = store.commit(Fact::RecordMint(fact)).await? {
        return Err(refusal.into());
    }
    let chain: Vec<u8> = issued.chain.iter().flat_map(|der| der.to_vec()).collect();
    current.set(&X509Svid::parse(&chain, &key.pkcs8)?)?;
    let due = now.plus(issued.cert.expires_at.since(now) / 2);
    Ok(Renewed { due, authority: issued.authority_id })
}
