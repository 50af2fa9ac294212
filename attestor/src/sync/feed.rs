//! What the CA pushes: the stream, and the state that it is applied to.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use chancery_core::class::ClassName;
use chancery_daemon::{clock, jitter::jittered};
use chancery_sdk::{
    id::TrustDomain,
    revocation::{Hold, Revocation, Scope},
    time::UnixTime,
};
use futures_util::StreamExt;
use tokio::time::Instant;
use tonic::Code;

use super::Syncer;
use crate::{
    ca::{AuthorizedClass, AuthorizedEntry, CaError, Cursor, Telling, Told},
    cache::{Bundles, Crls, View},
    identity::TrustBundle,
    witness::Offered,
};

/// Between two tries to open a stream at a server that had none, with jitter: a rolling upgrade brings it.
const NO_STREAM_YET: Duration = Duration::from_secs(300);

/// How the CA is followed.
#[derive(Default)]
pub(super) enum Feed {
    /// Not at all: the stream is to be opened.
    #[default]
    Closed,
    /// By a stream; whether its first item came.
    Open(Telling, bool),
    /// The server has no stream: it is polled.
    Polled {
        /// The connection it was asked over: another one may be to a server that has.
        connection: u64,
        /// When it is asked again.
        again: Instant,
    },
}

/// Everything the CA has told, as the newest poll or push left it.
#[derive(Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<String, AuthorizedEntry>,
    pub(super) classes: BTreeMap<ClassName, AuthorizedClass>,
    pub(super) own: Option<Arc<TrustBundle>>,
    pub(super) foreign: BTreeMap<TrustDomain, TrustBundle>,
    pub(super) crls: Crls,
    /// Where the stream is; `None` where everything must come again.
    pub(super) cursor: Option<Cursor>,
}

impl Feed {
    /// The next item; never, where there is no stream. `None`: the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Result<Told, CaError>> {
        match self {
            Self::Open(telling, _) => telling.next().await,
            Self::Closed | Self::Polled { .. } => std::future::pending().await,
        }
    }

    /// Whether a server that is polled may have a stream by now, or another is asked that may.
    pub(super) fn may_stream(&self, connections: u64) -> bool {
        match self {
            Self::Polled { connection, again } => *connection != connections || *again <= Instant::now(),
            Self::Closed | Self::Open(..) => false,
        }
    }

    /// Whether the stream told where we are.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Open(_, true))
    }
}

impl State {
    /// Takes what was told.
    fn take(&mut self, told: Told, now: UnixTime) {
        if told.full {
            // The bundle and the lists have an age of their own.
            let (own, crls) = (self.own.take(), std::mem::take(&mut self.crls));
            *self = Self { own, crls, ..Self::default() };
        }
        for id in &told.gone_entries {
            self.entries.remove(id);
        }
        for name in &told.gone_classes {
            self.classes.retain(|class, _| class.as_str() != name);
        }
        for domain in &told.gone_foreign {
            self.foreign.remove(domain);
        }
        for entry in told.entries {
            // A poll may have been faster than the stream.
            let newer = |held: &AuthorizedEntry| held.created_at == entry.created_at && held.revision > entry.revision;
            if !self.entries.get(&entry.id).is_some_and(newer) {
                self.entries.insert(entry.id.clone(), entry);
            }
        }
        self.classes.extend(told.classes.into_iter().map(|class| (class.name.clone(), class)));
        self.foreign.extend(told.foreign.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)));
        self.own = told.own.or_else(|| self.own.take());
        if let Some(own) = &self.own {
            self.crls.take(told.crls, &own.x509_authorities, now);
        }
        self.cursor = told.cursor.or_else(|| self.cursor.take());
        // A bundle that no entry names any more is nobody's.
        let named: BTreeSet<_> = self.entries.values().flat_map(|entry| &entry.federates_with).collect();
        self.foreign.retain(|domain, _| named.contains(domain));
    }

    /// The view that says this; `None` before our own bundle is known.
    pub(super) fn view(&self, before: &View) -> Option<View> {
        let own = self.own.as_ref()?;
        let bundles = Bundles::new(self.foreign.values().chain([&**own]));
        let (entries, classes) = (self.entries.values().cloned().collect(), self.classes.values().cloned().collect());
        Some(before.with_told(own.trust_domain.clone(), entries, classes, bundles, self.crls.served()))
    }
}

impl Syncer {
    /// Opens the stream where the CA has one; whether the CA answered.
    pub(super) async fn open_feed(&mut self, feed: &mut Feed) -> bool {
        let witnessed = self.witness.begin();
        match self.upstream.watch(self.state.cursor.clone(), witnessed).await {
            Ok(telling) => *feed = Feed::Open(telling, false),
            Err(CaError::Refused { code: Code::Unimplemented, .. }) => {
                tracing::info!("the server has no stream of changes: it is polled");
                let connection = self.upstream.servers().connections();
                *feed = Feed::Polled { connection, again: Instant::now() + jittered(NO_STREAM_YET) };
            }
            Err(error) => {
                tracing::warn!(%error, "the CA's changes do not come; what is held stays until it ends");
                return false;
            }
        }
        true
    }

    /// Applies what came over the stream; false where the stream is over.
    pub(super) fn pushed(&mut self, feed: &mut Feed, item: Option<Result<Told, CaError>>) -> bool {
        let mut told = match item {
            Some(Ok(told)) => told,
            Some(Err(error)) => {
                tracing::warn!(%error, "the stream of the CA's changes broke; it is opened again");
                if matches!(error, CaError::Refused { .. }) {
                    self.state.cursor = None;
                }
                *feed = Feed::Closed;
                return false;
            }
            None => {
                *feed = Feed::Closed;
                return false;
            }
        };
        if self.revoke(&told.revoked)
            && let Some(at) = told.revoked_at
        {
            self.metrics.revoked(at, clock::now_millis());
        }
        self.hold(std::mem::take(&mut told.holds), told.every_hold);
        if let Some(offered) = told.checkpoint.take() {
            self.witness(offered);
        }
        // The standing may have gone meanwhile; then what was told is worth nothing.
        if self.identity.borrow().is_none() {
            return true;
        }
        if let Feed::Open(_, live) = feed {
            *live = true;
        }
        if let Some(own) = &told.own {
            self.taints.note(&own.tainted);
        }
        // Ends that came while we were away are not in full state.
        if told.full && self.state.own.is_some() {
            self.instances.agree_again();
        }
        self.instances.ended(&told.ended);
        self.metrics.told(told.full);
        self.state.take(told, (self.clock)());
        self.publish();
        true
    }

    /// Takes a checkpoint; one that is refused is told to the CA, which is not waited for.
    fn witness(&mut self, offered: Offered) {
        let Some(report) = self.witness.take(offered) else { return };
        let upstream = Arc::clone(&self.upstream);
        tokio::spawn(async move {
            if let Err(problem) = upstream.report_checkpoint(&report).await {
                tracing::warn!(%problem, "the CA does not take the report of the checkpoint that was refused");
            }
        });
    }

    /// Takes what is revoked, whoever's it is; our own instances among it are over at once. Whether any of it is new.
    fn revoke(&self, rows: &[Revocation]) -> bool {
        let new = self.revoked.add(rows.to_vec(), (self.clock)());
        if !new.is_empty() {
            tracing::info!(rows = new.len(), "the CA revoked");
            self.taints.revoked();
        }
        let ids: HashSet<&str> = rows.iter().filter(|row| row.scope == Scope::All).map(|row| row.id.as_str()).collect();
        self.instances.revoked(&ids);
        !new.is_empty()
    }

    /// Takes who is held, whoever's it is; `every`: that is everybody.
    fn hold(&self, holds: Vec<Hold>, every: bool) {
        let now = (self.clock)();
        let different = match every {
            true => self.revoked.hold_only(holds, now),
            false => self.revoked.hold(holds, now),
        };
        if different {
            tracing::info!(held = self.revoked.list().every_hold().len(), "the CA holds, or released, instances");
            self.taints.revoked();
        }
    }

    /// Publishes the state, where it says something new.
    pub(super) fn publish(&self) {
        let before = self.cache.view();
        if let Some(view) = self.state.view(&before)
            && !view.told_same(&before)
        {
            self.cache.publish(view);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_polled_server_is_asked_for_a_stream_over_another_connection_and_from_time_to_time() {
        let polled = Feed::Polled { connection: 3, again: Instant::now() + NO_STREAM_YET };
        assert!(!polled.may_stream(3));
        assert!(polled.may_stream(4));
        advance(NO_STREAM_YET).await;
        assert!(polled.may_stream(3));
        assert!(!Feed::Closed.may_stream(3));
    }
}
