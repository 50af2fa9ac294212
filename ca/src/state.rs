//! What every use case is given: the parts of a running CA, each with one job.

use std::sync::Arc;

use arc_swap::ArcSwap;
use chancery_daemon::{clock::Clock, shutdown::Shutdown};
use chancery_sdk::{id::TrustDomain, time::UnixTime};

use crate::{
    authorities::offline::Need,
    authority::AuthorityManager,
    claim::Claim,
    config::Config,
    detect::Detectors,
    enroll::{Loaded, Trust, TrustError},
    failures::FailureCounter,
    keys::KeyStore,
    limits::Slots,
    live::LivePeers,
    log::LogStatus,
    mark::Keeper,
    metrics::Metrics,
    rates::Rates,
    signing::Signing,
    store::{Fact, Health, Outcome, Store, StoreError},
    throttle::Throttle,
    view::View,
};

/// A running CA. Cheap to share; use cases take `&State`.
pub struct State {
    /// As loaded at start.
    pub config: Config,
    /// The realm.
    pub trust_domain: TrustDomain,
    /// This server's name in the record.
    pub server_id: String,
    /// The database.
    pub store: Store,
    /// This run's right to the server id.
    pub claim: Claim,
    /// How far the database has come, in a file.
    pub mark: Keeper,
    /// The only part that signs.
    pub authority: Arc<AuthorityManager>,
    /// How the log of the record does.
    pub log: LogStatus,
    /// Where its keys are.
    pub keys: Arc<dyn KeyStore>,
    /// Every open connection.
    pub live: Arc<LivePeers>,
    /// What is registered, in memory; it may refuse, only a commit grants.
    pub view: Arc<View>,
    /// Anchors and policies; swapped whole by `reload`.
    pub trust: ArcSwap<Trust>,
    /// What looks wrong about running instances.
    pub detectors: Detectors,
    /// Strangers' failures, summarised into the record.
    pub failures: Arc<FailureCounter>,
    /// Attestations going on, in all and by source.
    pub attestations: Arc<Slots>,
    /// How fast instances of a class may begin.
    pub begins: Rates,
    /// How fast one source may call.
    pub throttle: Throttle,
    /// Who signs next.
    pub signing: Signing,
    /// Series of all that happens.
    pub metrics: Arc<Metrics>,
    /// Now, as an argument.
    pub clock: Clock,
    /// Every stream ends on its soft token.
    pub shutdown: Shutdown,
}

impl State {
    /// Now, in whole seconds.
    pub fn now(&self) -> UnixTime {
        (self.clock)()
    }

    /// Commits a fact, and sees to it that whoever asks next sees what it changed.
    ///
    /// # Errors
    /// [`StoreError`]; a guard's no is [`Outcome::Refused`].
    pub async fn commit(&self, fact: Fact) -> Result<Outcome, StoreError> {
        self.commit_all(vec![fact]).await?.pop().ok_or(StoreError::Closed)
    }

    /// Commits facts together; one outcome for each, in order.
    ///
    /// # Errors
    /// As [`State::commit`], of all of them.
    pub async fn commit_all(&self, facts: Vec<Fact>) -> Result<Vec<Outcome>, StoreError> {
        // What these change was told to the view with the commit; nobody who asks for an SVID waits for a read.
        let told = facts.iter().all(|fact| fact.is_issuance() || matches!(fact, Fact::EndInstance(_)));
        let issues: Vec<bool> = facts.iter().map(Fact::is_issuance).collect();
        let outcomes = self.store.commit_all(facts).await?;
        let is_discarded = |(issues, outcome): &(bool, &Outcome)| *issues && matches!(outcome, Outcome::Refused(_));
        let discarded = issues.into_iter().zip(&outcomes).filter(is_discarded).count();
        if discarded > 0 {
            self.metrics.signatures_discarded.inc_by(u64::try_from(discarded).unwrap_or(u64::MAX));
        }
        let refused = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(_)));
        let seen = match (refused, told) {
            // Whatever the guard saw may be newer than our view.
            (true, _) => self.view.follow().await,
            (false, false) => self.view.caught_up().await,
            (false, true) => Ok(()),
        };
        if let Err(problem) = seen {
            tracing::warn!(%problem, "committed, and not seen yet");
        }
        Ok(outcomes)
    }

    /// Reads anchors and policies again; what is wrong is told, and what was in force stays.
    ///
    /// # Errors
    /// [`TrustError`].
    pub async fn reload(&self) -> Result<Loaded, TrustError> {
        let trust = Trust::load(&self.config, &self.store).await?;
        let loaded = trust.loaded();
        self.trust.store(Arc::new(trust));
        Ok(loaded)
    }

    /// Looks whether another server imported anchors; whether there are new ones, which are in force then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_new_anchors(&self) -> Result<bool, StoreError> {
        let before = self.trust.load_full();
        let Some(trust) = before.with_new_anchors(&self.store).await? else { return Ok(false) };
        let anchors = trust.loaded().anchors;
        // A reload that came between has newer policies and read the anchors too: it stays.
        let found = self.trust.compare_and_swap(&before, Arc::new(trust));
        if Arc::ptr_eq(&found, &before) {
            tracing::info!(anchors, "anchors that another server imported are in force");
        }
        Ok(true)
    }

    /// Whether the CA can sign now.
    pub fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    /// Whether the CA can sign now.
    ///
    /// # Errors
    /// One line for each thing that is in the way; what to do is in docs/RUNBOOK.md.
    pub fn readiness(&self) -> Result<(), String> {
        let (x509, jwt, now) = (self.authority.x509_not_after(), self.authority.jwt_not_after(), self.now());
        let database = self.store.health().and_then(|health| match &*health.borrow() {
            Health::Fit(_) => None,
            Health::Behind(why) | Health::Unfit(why) => Some(format!("database: {why}")),
        });
        let faults = [
            self.shutdown.soft.is_cancelled().then(|| "stopping".to_owned()),
            database,
            self.log.fault(),
            (!self.view.is_fresh())
                .then(|| format!("view: the log could not be read for {} s", self.view.age().as_secs())),
            (!self.keys.token().is_none_or(|token| token.signs())).then(|| "keys: the token does not sign".to_owned()),
            (*self.authority.need().borrow() == Need::Now)
                .then(|| "authority: none of the ceremony's signs; import one".to_owned()),
            x509.is_none_or(|end| now >= end).then(|| "authority: no X.509 authority in force".to_owned()),
            jwt.is_none_or(|end| now >= end).then(|| "authority: no JWT authority in force".to_owned()),
        ];
        let faults: Vec<String> = faults.into_iter().flatten().collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }
}
