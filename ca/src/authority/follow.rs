//! Following the bundle of the server above: its roots and keys are published here, and its mistrust is ours.

use std::collections::BTreeSet;

use chancery_sdk::{time::UnixTime, x509};
use rustls_pki_types::CertificateDer;

use super::{AuthorityError, AuthorityManager, chain::Chain, steps::done};
use crate::store::{Authority, AuthorityKind, AuthorityState, Fact, FollowUpstream, Followed, Store, TaintAuthority};

/// Why an authority is tainted that nobody here tainted.
const TAINTED_ABOVE: &str = "the upstream tainted what signed it";

impl AuthorityManager {
    /// Forgets what this server followed, where it follows nobody any more.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub async fn unfollow(&self, store: &Store) -> Result<(), AuthorityError> {
        match self.follows() {
            true => Ok(()),
            false => self.followed(store, Vec::new()).await,
        }
    }

    /// Whether this server follows the bundle of one above.
    pub fn follows(&self) -> bool {
        self.settings.upstream.as_ref().is_some_and(|upstream| upstream.follows())
    }

    /// Reads the bundle above and publishes it here. What is tainted above taints what it signed here, so that all of
    /// that is replaced.
    ///
    /// # Errors
    /// [`AuthorityError`]; what was known stays.
    pub async fn follow(&self, store: &Store, now: UnixTime) -> Result<(), AuthorityError> {
        let Some(upstream) = self.settings.upstream.clone().filter(|upstream| upstream.follows()) else {
            return Ok(());
        };
        let Some(mut above) = super::on_thread(move || upstream.bundle()).await?? else { return Ok(()) };
        // Our own keys come back from above: of these only our record counts, which knows those that were revoked.
        let own = store.every_authority().await?;
        above.retain(|f| f.kind != AuthorityKind::Jwt || own.iter().all(|a| a.public != f.public));
        let tainted: BTreeSet<String> = above.iter().filter(|f| f.tainted).filter_map(key_id).collect();
        self.followed(store, above).await?;
        for authority in own.iter().filter(|a| self.is_below(a, &tainted)) {
            let (id, kind, caller) = (authority.id.clone(), authority.kind, String::new());
            let told = format!("taint {id}");
            tracing::warn!(authority = id, "tainted: {TAINTED_ABOVE}");
            done(store, Fact::TaintAuthority(TaintAuthority { id, kind, why: TAINTED_ABOVE, caller }), &told).await?;
            self.rotate(store, now).await?;
        }
        self.refresh(store).await
    }

    async fn followed(&self, store: &Store, authorities: Vec<Followed>) -> Result<(), AuthorityError> {
        let server = self.settings.server.clone();
        done(store, Fact::FollowUpstream(FollowUpstream { server, authorities }), "follow the upstream").await
    }

    /// Whether a standing authority of this server was signed, in the end, by one of these keys.
    fn is_below(&self, authority: &Authority, tainted: &BTreeSet<String>) -> bool {
        let stands = authority.state != AuthorityState::Revoked && authority.tainted_at.is_none();
        let sent = Chain::parse(&authority.chain).unwrap_or_default().sent;
        let signers = sent.iter().filter_map(|der| x509::authority_key_id(der)).map(hex::encode);
        stands && authority.server == self.settings.server && signers.into_iter().any(|id| tainted.contains(&id))
    }
}

/// Key identifier of an X.509 authority.
fn key_id(followed: &Followed) -> Option<String> {
    let der = (followed.kind == AuthorityKind::X509).then(|| CertificateDer::from(followed.public.as_slice()))?;
    x509::subject_key_id(&der).map(hex::encode)
}
