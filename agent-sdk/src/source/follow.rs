//! The task that keeps the state current. Each event replaces the state as a whole.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use tokio::sync::watch;
use tonic::Status;

use crate::{
    jwt::JwtBundleSet,
    revocation::Hold,
    time::UnixTime,
    tls::{Clock, CurrentSvid, LiveRevocations},
    workload::{Event, JwtBundles, RevocationsUpdate, UpdateError, Watch, X509Context},
    x509::X509BundleSet,
};

/// What is known now; read by everything made from the source, written by the tasks below alone.
pub(super) struct Live {
    pub(super) known: ArcSwap<Known>,
    pub(super) current: Arc<CurrentSvid>,
    pub(super) bundles: Arc<ArcSwap<X509BundleSet>>,
    pub(super) jwt_bundles: Option<ArcSwap<JwtBundleSet>>,
    /// What is refused though it has not ended.
    pub(super) revoked: LiveRevocations,
    /// Whether the endpoint tells revocations; false before its first word, too.
    pub(super) hears_revocations: AtomicBool,
    /// Counts changes.
    pub(super) revision: watch::Sender<u64>,
    /// Whether JWT bundles, when they are followed, have had their first answer.
    jwt_answered: AtomicBool,
    /// Whether the Workload API gave a final answer, so that nothing will change any more.
    ended: AtomicBool,
}

pub(super) enum Known {
    Held(Arc<X509Context>),
    Nothing { why: String },
}

impl Live {
    pub(super) fn empty(
        provider: Arc<CryptoProvider>,
        clock: Clock,
        jwt_bundles: Option<ArcSwap<JwtBundleSet>>,
    ) -> Self {
        Self {
            known: ArcSwap::from_pointee(Known::Nothing { why: "the Workload API has not answered yet".into() }),
            current: Arc::new(CurrentSvid::empty(provider, clock)),
            bundles: Arc::default(),
            jwt_bundles,
            revoked: LiveRevocations::new(),
            hears_revocations: AtomicBool::new(false),
            revision: watch::Sender::new(0),
            jwt_answered: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether nothing is missing that was asked for.
    pub(super) fn is_complete(&self) -> bool {
        let jwt = self.jwt_bundles.is_none() || self.jwt_answered.load(Ordering::Acquire);
        jwt && matches!(**self.known.load(), Known::Held(_))
    }

    pub(super) fn why_nothing(&self) -> String {
        match &**self.known.load() {
            Known::Held(_) => "JWT bundles have not come yet".into(),
            Known::Nothing { why } => why.clone(),
        }
    }

    /// Takes a new state. Bundles go first: who sees the new certificate can verify its peers.
    fn replace(&self, context: X509Context) -> Result<(), UpdateError> {
        let svid = context.default_svid();
        let certified = self.current.certify(svid)?;
        self.bundles.store(Arc::new(context.bundles.clone()));
        self.current.set_certified(certified, svid.not_after());
        tracing::debug!(id = %svid.id(), not_after = %svid.not_after(), "identity is current");
        self.know(Known::Held(Arc::new(context)));
        Ok(())
    }

    /// Forgets identity and bundles (WA-36): from here on handshakes fail in both roles.
    fn redact(&self, why: String) {
        self.current.clear();
        self.bundles.store(Arc::default());
        self.know(Known::Nothing { why });
    }

    /// Notes why there is nothing; a state that is held stays (WA-17, WA-37).
    fn explain(&self, why: String) {
        if matches!(**self.known.load(), Known::Nothing { .. }) {
            self.know(Known::Nothing { why });
        }
    }

    fn know(&self, known: Known) {
        self.known.store(Arc::new(known));
        self.bump();
    }

    fn bump(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }
}

/// Follows identities and X.509 bundles until a final answer.
pub(super) async fn follow_x509(mut watch: Watch<X509Context>, live: Arc<Live>) {
    while let Some(event) = watch.next().await {
        match event {
            Event::Denied(status) => {
                tracing::warn!(why = status.message(), "the Workload API grants no identity");
                live.redact(status.message().to_owned());
            }
            Event::Discarded(fault) => discard(&live, &fault),
            Event::Ended(status) => {
                tracing::error!(code = ?status.code(), why = status.message(), "the Workload API refuses for good");
                live.ended.store(true, Ordering::Release);
                live.explain(whole(&status));
                live.bump();
            }
            Event::Lost(status) => {
                let why = whole(&status);
                tracing::warn!(why, "the Workload API is away; what is known stays");
                live.explain(why);
            }
            Event::Update(context) => {
                if let Err(fault) = live.replace(context) {
                    discard(&live, &fault);
                }
            }
        }
    }
}

/// A status with its causes: "transport error" alone tells nobody that the socket is missing.
fn whole(status: &Status) -> String {
    let causes = status.source().map(|cause| format!(": {}", with_causes(cause))).unwrap_or_default();
    format!("{:?}: {}{causes}", status.code(), status.message())
}

fn with_causes(fault: &dyn Error) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(fault) = cause {
        text.push_str(&format!(": {fault}"));
        cause = fault.source();
    }
    text
}

fn discard(live: &Live, fault: &UpdateError) {
    let why = with_causes(fault);
    tracing::error!(why, "discarded a message of the Workload API");
    live.explain(why);
}

/// Follows JWT bundles until a final answer; a redacted bundle ceases to be used (WA-51).
pub(super) async fn follow_jwt_bundles(mut watch: Watch<JwtBundles>, live: Arc<Live>) {
    let Some(held) = &live.jwt_bundles else { return };
    while let Some(event) = watch.next().await {
        match event {
            Event::Denied(_) => held.store(Arc::default()),
            Event::Discarded(fault) => tracing::error!(%fault, "discarded a message of the Workload API"),
            Event::Ended(status) => tracing::warn!(code = ?status.code(), "the Workload API serves no JWT bundles"),
            Event::Lost(_) => continue,
            Event::Update(update) => held.store(Arc::new(update.bundles)),
        }
        live.jwt_answered.store(true, Ordering::Release);
        live.bump();
    }
}

/// Follows revocations for as long as the endpoint tells them. What was told stays when it is away, or says no.
pub(super) async fn follow_revocations(mut watch: Watch<RevocationsUpdate>, live: Arc<Live>, clock: Clock) {
    let hears = |yes| live.hears_revocations.store(yes, Ordering::Release);
    // Holds of a stream that has begun and not told all of them yet.
    let mut begun = None;
    while let Some(event) = watch.next().await {
        match event {
            Event::Denied(status) | Event::Lost(status) => {
                hears(false);
                tracing::debug!(why = status.message(), "revocations do not come; what was told stays");
            }
            Event::Discarded(fault) => tracing::error!(%fault, "discarded a message about revocations"),
            Event::Ended(status) => {
                hears(false);
                tracing::info!(
                    code = ?status.code(),
                    "the endpoint tells no revocations: peers are accepted until their SVIDs end"
                );
            }
            Event::Update(update) => {
                let held = hold(&live.revoked, &mut begun, &update, clock());
                let new = live.revoked.add(update.rows, clock());
                for row in &new {
                    tracing::info!(id = row.id, scope = ?row.scope, "revoked");
                }
                if !update.more {
                    hears(true);
                }
                if held || !new.is_empty() {
                    live.bump();
                }
            }
        }
    }
}

/// Takes what a message says of holds; whether anything is different. What was told before a stream began is let go of once
/// that stream has told all: until then both count.
fn hold(list: &LiveRevocations, begun: &mut Option<Vec<Hold>>, update: &RevocationsUpdate, now: UnixTime) -> bool {
    if update.holds_begin {
        *begun = Some(Vec::new());
    }
    for one in &update.holds {
        tracing::info!(id = one.id, until = ?one.until, "held, or released");
    }
    let different = list.hold(update.holds.clone(), now);
    let Some(told) = begun else { return different };
    told.extend(update.holds.iter().cloned());
    match (update.more, begun.take()) {
        (false, Some(told)) => list.hold_only(told, now) || different,
        (_, unfinished) => {
            *begun = unfinished;
            different
        }
    }
}
