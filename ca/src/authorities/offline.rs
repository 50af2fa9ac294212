//! Requests for the ceremony, and the certificates that come back.

use super::Listed;
pub use crate::authority::offline::{Delivered, Need, Waiting, Which};
use crate::{authority::offline::OfflineError, problem::Problem, state::State};

/// The request that waits for a certificate, made where there is none.
///
/// # Errors
/// [`Problem::Precondition`] where X.509 authorities are not signed offline, [`Problem::Exhausted`] where too many keys
/// wait.
pub async fn request(state: &State, which: Which) -> Result<Waiting, Problem> {
    let waiting = state.authority.request(&state.store, which, state.now()).await?;
    tracing::info!(key = waiting.label, spki_sha256 = waiting.key_sha256, "authority requested");
    Ok(waiting)
}

/// Takes the certificate that came back: a published authority, which signs at once where none does.
///
/// # Errors
/// [`Problem`], saying what is wrong with the certificate; nothing was published then.
pub async fn import(state: &State, delivered: Delivered) -> Result<Listed, Problem> {
    let authority = state.authority.import(&state.store, delivered, state.now()).await?;
    tracing::warn!(authority = authority.id, "authority imported");
    let key = state.store.keys().await?.into_iter().find(|key| key.label == authority.label);
    let key = key.ok_or_else(|| Problem::Internal(format!("key {} is gone", authority.label)))?;
    Ok(Listed { key, authority: Some(authority) })
}

/// What people have to do for this server, in a line: fetch something from the ceremony, or mend the upstream; empty:
/// nothing.
pub fn needs(state: &State) -> String {
    match *state.authority.need().borrow() {
        Need::Nothing => state.authority.upstream_trouble().unwrap_or_default(),
        need => need.to_string(),
    }
}

impl From<OfflineError> for Problem {
    fn from(error: OfflineError) -> Self {
        let text = error.to_string();
        match error {
            OfflineError::ByHand | OfflineError::Elsewhere(_) | OfflineError::NotOffline => Self::Precondition(text),
            OfflineError::File(_) | OfflineError::Unusable(_) => Self::Unavailable(text),
            OfflineError::Imported(_) => Self::AlreadyExists(text),
            OfflineError::GivenUp { .. }
            | OfflineError::Judged(_)
            | OfflineError::NoRoot
            | OfflineError::OtherRoot
            | OfflineError::Short { .. }
            | OfflineError::Stranger(_) => Self::Invalid(text),
        }
    }
}
