//! Rotation over the journal: every step is written down before it is taken, or right after.

use std::sync::Arc;

use chancery_sdk::time::UnixTime;

use super::{
    AuthorityError, AuthorityManager, MAX_STEPS, crash,
    life::Life,
    rotation::{self, OwnKey, Step},
};
use crate::{
    chance,
    keys::{self, KeyError, Signer},
    store::{
        Authority, AuthorityId, AuthorityKind, AuthorityState, Fact, KeyRecord, KeyState, KeyStep, MoveKey, Outcome,
        PlanKey, RemoveAuthority, Store,
    },
    upstream::UpstreamError,
};

/// After a key store made no key, how long until it is asked again: each try is three events.
const AGAIN_SECS: i64 = 30;
/// After an upstream did not answer, how long until it is asked again; doubled each time, up to the second.
const ASK_AGAIN_SECS: i64 = 2;
const MAX_ASK_AGAIN_SECS: i64 = 60;

impl AuthorityManager {
    /// Takes the steps that are due for one kind.
    pub(super) async fn rotate_kind(
        &self,
        store: &Store,
        life: &mut Life,
        kind: AuthorityKind,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        for _ in 0..MAX_STEPS {
            let own = self.own(store, life, kind).await?;
            let by_hand = kind == AuthorityKind::X509 && self.settings.offline.is_some();
            let next = if by_hand { rotation::next_brought } else { rotation::next };
            let Some(step) = next(&own, now, self.settings.publish_delay_secs) else {
                let installed = self.install(kind, &own, life, now).await;
                if by_hand {
                    self.remind(life, &own, now);
                }
                return installed;
            };
            if matches!(step, Step::Generate(_) | Step::Plan) && now < life.generate_at {
                // The failure was told; what signs goes on signing until the key store is asked again.
                return self.install(kind, &own, life, now).await;
            }
            let rests = life.asked.get(kind.as_str()).is_some_and(|(at, _)| now < *at);
            if matches!(step, Step::Prepare(_)) && rests && own.iter().any(signs) {
                return self.install(kind, &own, life, now).await;
            }
            match self.take(store, life, kind, &own, step, now).await {
                // What signs goes on signing until the upstream is asked again.
                Err(AuthorityError::Upstream(problem)) if own.iter().any(signs) => {
                    self.upstream_failed(&problem, kind, life, now);
                    return self.install(kind, &own, life, now).await;
                }
                taken => taken?,
            }
        }
        Ok(())
    }

    /// Notes that the upstream was asked in vain, and when it is asked again.
    fn upstream_failed(&self, problem: &UpstreamError, kind: AuthorityKind, life: &mut Life, now: UnixTime) {
        let before = life.asked.get(kind.as_str()).map_or(0, |(_, rest)| *rest);
        let again = (before * 2).clamp(ASK_AGAIN_SECS, MAX_ASK_AGAIN_SECS);
        life.asked.insert(kind.as_str(), (now.plus(again), again));
        let end = match kind {
            AuthorityKind::Jwt => self.jwt_not_after(),
            AuthorityKind::X509 => self.x509_not_after(),
        };
        let lasts = end.map_or(0, |end| end.since(now));
        tracing::error!(%problem, %kind, lasts_secs = lasts, again_in_secs = again, "no new authority; the present one goes on");
        self.trouble.store(Some(Arc::new((kind, format!("{problem}; the present {kind} authority lasts {lasts} s")))));
    }

    /// This server's keys of one kind that are not destroyed, each with its published authority.
    pub(super) async fn own(
        &self,
        store: &Store,
        life: &Life,
        kind: AuthorityKind,
    ) -> Result<Vec<OwnKey>, AuthorityError> {
        let mut authorities = store.authorities().await?;
        authorities.retain(|a| a.server == self.settings.server);
        let keys = store.keys_of(&self.settings.server).await?.into_iter().filter(|k| k.kind == kind);
        let own = keys.map(|key| {
            let authority = authorities.iter().find(|a| a.label == key.label).cloned();
            let usable = key.state == KeyState::Generated && life.here.contains_key(&key.label);
            OwnKey { key, authority, usable }
        });
        Ok(own.collect())
    }

    /// Takes one step.
    pub(super) async fn take(
        &self,
        store: &Store,
        life: &mut Life,
        kind: AuthorityKind,
        own: &[OwnKey],
        step: Step,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        let told = format!("{step:?} ({kind})");
        let row = |label: &str| own.iter().find(|k| k.key.label == label).map(|k| k.key.clone());
        let gone = |what: String| AuthorityError::Refused { step: what, refusal: crate::store::Refusal::NotFound };
        match step {
            Step::Activate(id) => {
                done(store, Fact::ActivateAuthority(AuthorityId { id }), &told).await?;
                crash::point("active");
            }
            Step::Generate(label) => {
                let row = row(&label).ok_or_else(|| gone(told.clone()))?;
                self.generate(store, life, row, now).await?;
            }
            Step::Plan => self.plan(store, kind, &told).await?,
            Step::Prepare(label) => {
                let row = row(&label).ok_or_else(|| gone(told.clone()))?;
                let key = life.here.get(&label).cloned().ok_or_else(|| gone(told.clone()))?;
                let authority = self.certify(&row, key, now).await?;
                if life.asked.remove(kind.as_str()).is_some() {
                    let of_kind = self.trouble.load().as_ref().is_some_and(|trouble| trouble.0 == kind);
                    if of_kind {
                        self.trouble.store(None);
                    }
                    tracing::info!(%kind, "the upstream signs again");
                }
                done(store, Fact::PrepareAuthority(authority), &told).await?;
                crash::point("prepared");
            }
            Step::Remove(id) => {
                let found = own.iter().filter_map(|k| k.authority.as_ref()).find(|a| a.id == id);
                let keep_until = found.map_or(now, |a| self.keep_until(a, now));
                done(store, Fact::RemoveAuthority(RemoveAuthority { id, keep_until }), &told).await?;
                crash::point("condemned");
                // A key whose time is over already goes at the next look, which is now.
                life.inspect_at = now;
            }
            Step::Retire(id) => done(store, Fact::RetireAuthority(AuthorityId { id }), &told).await?,
        }
        tracing::info!(step = told, "authority");
        Ok(())
    }

    async fn plan(&self, store: &Store, kind: AuthorityKind, told: &str) -> Result<(), AuthorityError> {
        let (purpose, key_type) = match kind {
            AuthorityKind::Jwt => ("jwt", self.settings.jwt_key_type),
            AuthorityKind::X509 => ("x509", self.settings.x509_key_type),
        };
        let uuid = chance::uuid_v4().map_err(|_| KeyError::Randomness)?;
        let label = keys::label::fresh(purpose, uuid);
        let fact = PlanKey { label, kind, server: self.settings.server.clone(), key_type };
        done(store, Fact::PlanKey(fact), told).await?;
        crash::point("planned");
        Ok(())
    }

    /// Makes the planned key. What a failure leaves behind is for the next look into the key store.
    async fn generate(
        &self,
        store: &Store,
        life: &mut Life,
        mut row: KeyRecord,
        now: UnixTime,
    ) -> Result<(), AuthorityError> {
        if now < life.generate_at {
            return Err(AuthorityError::Waiting { secs: life.generate_at.since(now) });
        }
        move_key(store, &mut row, KeyStep::Generate).await?;
        crash::point("generating");
        let (keys, label, kind) = (Arc::clone(&self.keys), row.label.clone(), row.key_type);
        let made = super::on_thread(move || keys.generate(&label, kind)).await;
        let key: Arc<dyn Signer> = match made.and_then(|made| made.map_err(AuthorityError::from)) {
            Ok(key) => key,
            Err(problem) => {
                (life.generate_at, life.inspect_at) = (now.plus(AGAIN_SECS), now);
                return Err(problem);
            }
        };
        crash::point("made");
        move_key(store, &mut row, KeyStep::Record { spki: key.spki().to_vec() }).await?;
        life.here.insert(row.label, key);
        crash::point("generated");
        Ok(())
    }

    /// Until when a key is kept that stops now: nothing it signed outlives its authority, consumers may lag, and
    /// somebody may have condemned it by mistake. What never signed is kept for the last of these only.
    pub(super) fn keep_until(&self, authority: &Authority, now: UnixTime) -> UnixTime {
        let patience = now.plus(self.settings.destroy_after_secs);
        if authority.state == AuthorityState::Prepared {
            return patience;
        }
        patience.max(authority.not_after).max(now.plus(2 * self.settings.longest_ttl_secs))
    }
}

fn signs(own: &OwnKey) -> bool {
    own.usable && own.authority.as_ref().is_some_and(|a| a.state == AuthorityState::Active)
}

/// Commits a fact that nobody else should be in the way of.
pub(super) async fn done(store: &Store, fact: Fact, told: &str) -> Result<(), AuthorityError> {
    match store.commit(fact).await? {
        Outcome::Done { .. } => Ok(()),
        Outcome::Refused(refusal) => Err(AuthorityError::Refused { step: told.into(), refusal }),
    }
}

/// Commits a step of a key's life; the row's version follows.
pub(super) async fn move_key(store: &Store, row: &mut KeyRecord, step: KeyStep) -> Result<(), AuthorityError> {
    let told = format!("{step:?} of key {}", row.label);
    let fact = MoveKey { label: row.label.clone(), version: row.version, step };
    done(store, Fact::MoveKey(fact), &told).await?;
    row.version += 1;
    Ok(())
}
