//! What operators do to authorities by hand. Whether they may is decided by the use case; the store's guards hold.

use chancery_sdk::time::UnixTime;

use super::{
    AuthorityError, AuthorityManager,
    offline::OfflineError,
    rotation::{self, OwnKey, Step},
    steps::done,
};
use crate::store::{Authority, AuthorityKind, AuthorityState, Fact, Refusal, RevokeAuthority, Store, TaintAuthority};

/// Steps from nothing to a prepared authority, with one key that was left half-made.
pub(super) const PREPARE_STEPS: usize = 6;

impl AuthorityManager {
    /// A new prepared authority, published; one that was prepared before is given up.
    ///
    /// # Errors
    /// [`AuthorityError`]; what was published stays.
    pub async fn prepare(
        &self,
        store: &Store,
        kind: AuthorityKind,
        now: UnixTime,
    ) -> Result<Authority, AuthorityError> {
        if kind == AuthorityKind::X509 && self.settings.offline.is_some() {
            return Err(OfflineError::ByHand.into());
        }
        let mut life = self.life.lock().await;
        let before: Vec<_> = prepared(&self.own(store, &life, kind).await?).map(|a| a.id.clone()).collect();
        for id in before {
            let own = self.own(store, &life, kind).await?;
            self.take(store, &mut life, kind, &own, Step::Remove(id), now).await?;
        }
        for _ in 0..PREPARE_STEPS {
            let own = self.own(store, &life, kind).await?;
            if let Some(made) = prepared(&own).next() {
                self.refresh(store).await?;
                return Ok(made.clone());
            }
            self.take(store, &mut life, kind, &own, rotation::successor(&own), now).await?;
        }
        Err(AuthorityError::Refused { step: format!("prepare {kind}"), refusal: Refusal::KeyNotGenerated })
    }

    /// This server's prepared authority signs from now on; the active one becomes old.
    ///
    /// # Errors
    /// [`AuthorityError`]; whoever signed goes on signing.
    pub async fn activate(
        &self,
        store: &Store,
        kind: AuthorityKind,
        id: &str,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let mut life = self.life.lock().await;
        let own = self.own(store, &life, kind).await?;
        if !own.iter().any(|k| k.usable && k.authority.as_ref().is_some_and(|a| a.id == id)) {
            return Err(AuthorityError::Refused { step: format!("activate {id}"), refusal: Refusal::NotFound });
        }
        self.take(store, &mut life, kind, &own, Step::Activate(id.into()), now).await?;
        let own = self.own(store, &life, kind).await?;
        self.install(kind, &own, &life, now).await?;
        self.refresh(store).await
    }

    /// Any server's authority: everything under it is to be replaced at once.
    ///
    /// # Errors
    /// [`AuthorityError::Refused`] where it is tainted already.
    pub async fn taint(
        &self,
        store: &Store,
        kind: AuthorityKind,
        id: &str,
        caller: String,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let fact = TaintAuthority { id: id.into(), kind, why: "operator", caller };
        done(store, Fact::TaintAuthority(fact), &format!("taint {id}")).await?;
        super::crash::point("tainted");
        self.rotate(store, now).await
    }

    /// Any server's tainted authority leaves the bundle at once; its key is condemned.
    ///
    /// # Errors
    /// [`AuthorityError::Refused`] where it is not tainted.
    pub async fn revoke(
        &self,
        store: &Store,
        authority: &Authority,
        caller: String,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let (id, kind, keep_until) = (authority.id.clone(), authority.kind, self.keep_until(authority, now));
        let told = format!("revoke {id}");
        done(store, Fact::RevokeAuthority(RevokeAuthority { id, kind, keep_until, caller }), &told).await?;
        super::crash::point("revoked");
        self.rotate(store, now).await
    }
}

pub(super) fn prepared(own: &[OwnKey]) -> impl Iterator<Item = &Authority> {
    own.iter().filter_map(|k| k.authority.as_ref()).filter(|a| a.state == AuthorityState::Prepared)
}
