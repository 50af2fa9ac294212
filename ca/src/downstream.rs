//! What downstream servers get, for entries marked downstream: CAs that this server's X.509 authority signs, and a
//! place for their JWT keys in the bundle.
//!
//! What is returned has its record in the log already. Source: spire-wire 1.4 (NewDownstreamX509CA), 1.2 (PublishJWTAuthority).

use chancery_core::{csr::Csr, entry::Entry};
use chancery_daemon::public_key::PublicKey;
use rustls_pki_types::CertificateDer;

use crate::{
    authority::{CaRequest, SignError},
    bundles,
    issue::{SIGN_TRIES, committed, rotating},
    problem::Problem,
    state::State,
    store::{Authority, Fact, Outcome, PublishKey, RecordCa},
};

pub use crate::upstream::JwtKey;

/// Longest key ID; SPIRE's have 32 characters, ours 40.
const MAX_KEY_ID: usize = 128;

/// Keys from below that are passed on to the server above, which publishes sixteen of ours: the others are for our own.
const MAX_FORWARDED: usize = 8;

/// A downstream server's CA.
#[derive(Clone, Debug)]
pub struct Issued {
    /// DER, the new CA first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The trust domain's X.509 authorities, DER.
    pub authorities: Vec<Vec<u8>>,
}

/// Signs the CA of a downstream server: never longer than our own authority lives, nor than `ttl.ca`.
///
/// `entry` is the one whose SVID asked: that it is unchanged is asked again in the committing transaction. `ttl` is in seconds; 0 and below mean `ttl.ca`. Only the key is taken from the request.
///
/// # Errors
/// [`Problem::Invalid`] for the request, [`Problem::Precondition`] where our authority may sign no CA.
pub async fn x509_ca(state: &State, entry: &Entry, csr_der: &[u8], ttl: i64) -> Result<Issued, Problem> {
    let csr = Csr::parse(csr_der)?;
    if PublicKey::from_spki(csr.spki_der()).is_none() {
        return Err(Problem::Invalid("the CSR's key must be P-256, P-384 or RSA of 2048, 3072 or 4096 bits".into()));
    }
    let most = state.config.ttl.ca.as_secs();
    let life_secs = if ttl > 0 { ttl.min(most) } else { most };
    for _ in 0..SIGN_TRIES {
        let request = CaRequest { spki: csr.spki_der(), life_secs };
        let issued = match state.authority.sign_ca(&request, state.now()) {
            Err(SignError::Profile(why)) => return Err(Problem::Precondition(why.into())),
            signed => signed?,
        };
        let fact = Fact::RecordCa(RecordCa {
            entry_id: entry.id.clone(),
            entry_revision: entry.revision,
            key_sha256: csr.spki_sha256(),
            cert: issued.cert.clone(),
            authority: issued.authority_id.clone(),
        });
        if committed(state, fact).await? {
            return Ok(Issued { chain: issued.chain, authorities: roots(state) });
        }
    }
    Err(rotating())
}

/// Publishes a downstream server's JWT key; the trust domain's JWT authorities then.
///
/// Where this server is below another, that one publishes it first. It is published until `not_after`, or for `ttl.ca`
/// where that is sooner: the answer says until when, and the downstream server must not sign for longer.
///
/// # Errors
/// [`Problem::Invalid`] for the key, [`Problem::AlreadyExists`] for a key ID that is another key's,
/// [`Problem::Exhausted`] where the entry has published too many.
pub async fn publish_jwt(state: &State, entry: &Entry, key: JwtKey) -> Result<Vec<Authority>, Problem> {
    let invalid = |why: String| Err(Problem::Invalid(why));
    if !(1..=MAX_KEY_ID).contains(&key.id.len()) || !key.id.bytes().all(|b| b.is_ascii_graphic()) {
        return invalid(format!("the key ID must have 1 to {MAX_KEY_ID} printable ASCII characters"));
    }
    if PublicKey::from_spki(&key.spki).is_none() {
        return invalid("the key must be P-256, P-384 or RSA of 2048, 3072 or 4096 bits".into());
    }
    let now = state.now();
    if key.not_after <= now {
        return invalid(format!("the key ended at {}", key.not_after));
    }
    let mut key = JwtKey { not_after: key.not_after.min(now.plus(state.config.ttl.ca.as_secs())), ..key };
    forwardable(state, &key)?;
    if let Some(end) = state.authority.publish_above(key.clone()).await? {
        key.not_after = end;
    }
    let fact = PublishKey {
        entry_id: entry.id.clone(),
        entry_revision: entry.revision,
        key_id: key.id,
        spki: key.spki,
        not_after: key.not_after,
    };
    match state.commit(Fact::PublishKey(fact)).await? {
        Outcome::Done { .. } => state.authority.refresh(&state.store).await?,
        Outcome::Refused(refusal) => return Err(refusal.into()),
    }
    Ok(bundles::own(state).jwt)
}

/// Whether the server above has room for one more key from below.
fn forwardable(state: &State, key: &JwtKey) -> Result<(), Problem> {
    if !state.authority.follows() {
        return Ok(());
    }
    let published = state.authority.published().borrow().clone();
    let below = published.guests.iter().filter(|guest| guest.follower().is_none() && guest.public != key.spki);
    if below.count() < MAX_FORWARDED {
        return Ok(());
    }
    let text = format!("{MAX_FORWARDED} keys of servers below are published through this one; wait until one ends");
    Err(Problem::Exhausted(text))
}

fn roots(state: &State) -> Vec<Vec<u8>> {
    bundles::own(state).x509.into_iter().map(|authority| authority.public).collect()
}

#[cfg(test)]
mod tests;
