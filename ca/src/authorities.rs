//! What operators ask of authorities: SPIRE's LocalAuthority rules, and what its two slots cannot say.
//!
//! This server's authorities are prepared, activated, tainted and revoked in SPIRE's order. Another server's, which
//! may be dead, are tainted and revoked from here in any state. Source: spire-wire 1.6; docs/decisions/0021.

pub mod offline;

use std::sync::Arc;

use chancery_sdk::x509;

pub use crate::store::{Authority, AuthorityKind, AuthorityState, KeyRecord};
use crate::{authority::AuthorityError, gate::Caller, issue::named, problem::Problem, state::State};

/// This server's authorities of one kind.
#[derive(Clone, Debug)]
pub struct Slots {
    /// Signs.
    pub active: Authority,
    /// Signs next.
    pub prepared: Option<Authority>,
    /// Signed before; the newest of them.
    pub old: Option<Authority>,
}

/// A key of any server, and the authority it is of.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its row in the journal.
    pub key: KeyRecord,
    /// Its authority, revoked ones included.
    pub authority: Option<Authority>,
}

/// This server's authorities of one kind.
///
/// # Errors
/// [`Problem::Unavailable`] before the first one is active.
pub async fn slots(state: &State, kind: AuthorityKind) -> Result<Slots, Problem> {
    let mut own = state.store.authorities().await?;
    own.retain(|a| a.kind == kind && a.server == state.server_id);
    let newest = |wanted: AuthorityState| {
        own.iter().filter(|a| a.state == wanted).max_by_key(|a| (a.not_before, a.published_at, a.id.clone())).cloned()
    };
    let active = newest(AuthorityState::Active)
        .ok_or_else(|| Problem::Unavailable(format!("no {kind} authority is active yet")))?;
    Ok(Slots { active, prepared: newest(AuthorityState::Prepared), old: newest(AuthorityState::Old) })
}

/// Every key of every server that is not destroyed, with its authority; and the labels of orphans in our key store.
///
/// # Errors
/// [`Problem::Unavailable`].
pub async fn list(state: &State) -> Result<(Vec<Listed>, Arc<Vec<String>>), Problem> {
    let authorities = state.store.every_authority().await?;
    let mut listed = Vec::new();
    for key in state.store.keys().await? {
        let authority = authorities.iter().find(|a| a.label == key.label).cloned();
        if authority.is_some() || key.state != crate::store::KeyState::Destroyed {
            listed.push(Listed { key, authority });
        }
    }
    Ok((listed, state.authority.orphans()))
}

/// A new prepared authority of this server; one prepared before is given up.
///
/// # Errors
/// [`Problem::Unavailable`] before the first one is active, [`Problem::Internal`] where none could be made.
pub async fn prepare(state: &State, kind: AuthorityKind) -> Result<Authority, Problem> {
    slots(state, kind).await?;
    Ok(state.authority.prepare(&state.store, kind, state.now()).await?)
}

/// The prepared authority signs from now on.
///
/// # Errors
/// [`Problem::Invalid`] for another ID than the prepared one's, [`Problem::Internal`] for an old one's.
pub async fn activate(state: &State, kind: AuthorityKind, id: &str) -> Result<Authority, Problem> {
    let slots = slots(state, kind).await?;
    if slots.prepared.as_ref().is_none_or(|a| a.id != id) {
        let known = slots.old.as_ref().is_some_and(|a| a.id == id);
        return Err(match known {
            true => Problem::Internal(format!("authority {id} is old: only a prepared one is activated")),
            false => Problem::Invalid(format!("'{id}' is not the ID of the prepared {kind} authority")),
        });
    }
    state.authority.activate(&state.store, kind, id, state.now()).await?;
    stored(state, kind, id).await
}

/// Everything under the authority is to be replaced at once.
///
/// # Errors
/// [`Problem::Invalid`] for an ID that may not be tainted, [`Problem::Internal`] where it is tainted already.
pub async fn taint(state: &State, caller: &Caller, kind: AuthorityKind, id: &str) -> Result<Authority, Problem> {
    let authority = mistrusted(state, kind, id).await?;
    state.authority.taint(&state.store, kind, &authority.id, named(caller), state.now()).await?;
    tracing::warn!(authority = id, %kind, of = authority.server, "authority tainted");
    stored(state, kind, id).await
}

/// A tainted authority leaves the bundle at once.
///
/// # Errors
/// As [`taint`]; [`Problem::Internal`] where it is not tainted.
pub async fn revoke(state: &State, caller: &Caller, kind: AuthorityKind, id: &str) -> Result<Authority, Problem> {
    let authority = mistrusted(state, kind, id).await?;
    state.authority.revoke(&state.store, &authority, named(caller), state.now()).await?;
    tracing::warn!(authority = id, %kind, of = authority.server, "authority revoked");
    stored(state, kind, id).await
}

/// Whether an upstream authority signs this server's: then its root is not ours to taint or to revoke alone.
///
/// # Errors
/// [`Problem::Precondition`] without an upstream authority, [`Problem::Invalid`] for an ID that is not the one that
/// signed the old authority, or still signs the active one's.
pub async fn upstream(state: &State, subject_key_id: &str) -> Result<String, Problem> {
    let slots = slots(state, AuthorityKind::X509).await?;
    if slots.active.upstream_id.is_empty() {
        return Err(Problem::Precondition("no upstream authority is configured".into()));
    }
    let wanted = subject_key_id.to_ascii_lowercase();
    let is_old = slots.old.is_some_and(|a| a.upstream_id == wanted) && slots.active.upstream_id != wanted;
    if !is_old {
        return Err(Problem::Invalid(format!(
            "'{subject_key_id}' did not sign the old X.509 authority, or signs the active one"
        )));
    }
    Err(Problem::Precondition(format!("{wanted} is published by the upstream, which taints and revokes it")))
}

/// The authority that may be mistrusted under this ID: an old one of ours, or any of another server.
async fn mistrusted(state: &State, kind: AuthorityKind, id: &str) -> Result<Authority, Problem> {
    let invalid = |why: &str| Problem::Invalid(format!("'{id}' {why}"));
    if id.is_empty() {
        return Err(Problem::Invalid("authority ID is missing".into()));
    }
    let found = state.store.authority(id).await?.filter(|a| a.kind == kind);
    let authority = found.ok_or_else(|| invalid(&format!("is not the ID of a published {kind} authority")))?;
    if authority.state == AuthorityState::Revoked {
        return Err(invalid("is revoked already"));
    }
    match (authority.server == state.server_id, authority.state) {
        (true, AuthorityState::Active) => Err(invalid("signs now: prepare and activate another one first")),
        (true, AuthorityState::Prepared) => Err(invalid("is prepared: only an old one is tainted or revoked")),
        (true, AuthorityState::Old | AuthorityState::Revoked) | (false, _) => Ok(authority),
    }
}

async fn stored(state: &State, kind: AuthorityKind, id: &str) -> Result<Authority, Problem> {
    let found = state.store.authority(id).await?.filter(|a| a.kind == kind);
    found.ok_or_else(|| Problem::Internal(format!("authority {id} is gone")))
}

/// Lower-case hex SHA-256 of an authority's public key.
pub fn spki_sha256(listed: &Listed) -> String {
    use ring::digest::{SHA256, digest};
    let of_authority = listed.authority.as_ref().and_then(|a| match a.kind {
        AuthorityKind::Jwt => Some(a.public.clone()),
        AuthorityKind::X509 => x509::spki_of(&a.public).ok(),
    });
    let spki = listed.key.spki.clone().or(of_authority);
    spki.map(|spki| hex::encode(digest(&SHA256, &spki))).unwrap_or_default()
}

impl From<AuthorityError> for Problem {
    fn from(error: AuthorityError) -> Self {
        tracing::error!(%error, "authority");
        match error {
            AuthorityError::Store(problem) => problem.into(),
            AuthorityError::Upstream(_) | AuthorityError::Waiting { .. } => Self::Unavailable(error.to_string()),
            AuthorityError::Offline(why) => why.into(),
            AuthorityError::Died(_)
            | AuthorityError::Key(_)
            | AuthorityError::Refused { .. }
            | AuthorityError::Sign(_) => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
