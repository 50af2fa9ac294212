use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chancery_core::{reason::Reason, selector::Selectors};
use chancery_daemon::clock::Clock;
use chancery_sdk::{id::TrustDomain, tls::LiveRevocations};
use tokio_util::sync::CancellationToken;

use super::{Refusal, hints, tokens::Tokens};
use crate::{
    ca::{AuthorizedClass, AuthorizedEntry},
    cache::{Cache, Svid, View},
    identity::IdentityWatch,
    instance::Instances,
    metrics::WorkloadMetrics,
    peer::Caller,
    sync::Ask,
    upstream::Upstream,
    workload::{AttestError, Attestors},
};

/// Longest wait for SVIDs that are just being issued.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who gets bundles.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verifiers {
    /// Every local process gets our own domain's, as the operator configured.
    Anyone,
    /// Only processes with an identity.
    Entitled,
}

/// Everything a call at the workload socket needs.
pub struct Door {
    pub(crate) attestors: Attestors,
    pub(crate) cache: Arc<Cache>,
    pub(crate) instances: Instances,
    pub(crate) ask: Arc<Ask>,
    pub(crate) identity: IdentityWatch,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
    pub(crate) verifiers: Verifiers,
    pub(crate) metrics: WorkloadMetrics,
    /// What the CA told to be revoked, and who is held.
    pub(crate) revoked: LiveRevocations,
    pub(super) tokens: Tokens,
    /// Whether the node had standing in this run: then its absence is a loss, not a start.
    pub(super) stood: AtomicBool,
}

/// What a caller's selectors give it.
pub(super) struct Entitlement {
    pub selectors: Selectors,
    pub view: Arc<View>,
    pub class: Option<Arc<AuthorizedClass>>,
    /// By ID, hints unique.
    pub entries: Vec<Arc<AuthorizedEntry>>,
    /// Foreign domains of all matching entries.
    pub federated: BTreeSet<TrustDomain>,
}

/// The SVIDs of an entitlement, each with its hint; the default identity first.
pub(super) struct Grant {
    pub entitlement: Entitlement,
    pub svids: Vec<(Arc<Svid>, String)>,
}

impl Door {
    /// Forgets every JWT-SVID whenever the node loses its standing. Runs until the stop.
    pub(crate) async fn forget_tokens(self: Arc<Self>) {
        tokio::join!(self.forget_without_standing(), self.forget_tainted());
    }

    /// A token of an authority that is tainted from now on is not handed out again; the others are asked for anew.
    async fn forget_tainted(&self) {
        let mut identity = self.identity.clone();
        let mut known = BTreeSet::new();
        let work = async {
            while identity.changed().await.is_ok() {
                let tainted = identity.borrow_and_update().as_ref().map(|i| i.bundle.tainted.clone());
                let Some(tainted) = tainted else { continue };
                if !tainted.is_subset(&known) {
                    self.tokens.clear();
                }
                known = tainted;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn forget_without_standing(&self) {
        let mut identity = self.identity.clone();
        let work = async {
            while identity.wait_for(Option::is_some).await.is_ok() && identity.wait_for(Option::is_none).await.is_ok() {
                self.tokens.clear();
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    /// The caller's selectors, while this node may hand out anything at all.
    pub(super) async fn observe(&self, caller: &Arc<Caller>) -> Result<Selectors, Refusal> {
        self.standing()?;
        let attested = self.attestors.attest(caller).await;
        self.metrics.attested(match &attested {
            Ok(_) => "known",
            Err(AttestError::Changed { .. }) => "changed",
            Err(AttestError::Ended { .. }) => "ended",
            Err(AttestError::Identity { .. }) => "other_user",
            Err(AttestError::Unavailable { .. }) => "unavailable",
        });
        Ok(attested?)
    }

    /// Attests the caller and matches it; before it is refused the CA is asked once more.
    pub(super) async fn entitle(&self, caller: &Arc<Caller>) -> Result<Entitlement, Refusal> {
        let selectors = self.observe(caller).await?;
        let known = matched(self.cache.view(), selectors)?;
        if !known.is_empty() {
            return Ok(known);
        }
        self.ask.fresh().await?;
        self.standing()?;
        let known = matched(self.cache.view(), known.selectors)?;
        if known.is_empty() { Err(Refusal::no_identity()) } else { Ok(known) }
    }

    /// The caller's SVIDs: its instance's first, then its entries' by entry ID.
    ///
    /// Source: ARCHITECTURE, Identities; WA-70.
    pub(super) async fn grant(&self, caller: &Arc<Caller>) -> Result<Grant, Refusal> {
        let entitlement = self.entitle(caller).await?;
        self.not_held(caller)?;
        let waits = !self.at_hand(caller, &entitlement);
        let instance = match &entitlement.class {
            Some(class) => Some(self.instances.svid(caller, &class.name, &entitlement.selectors).await?),
            None => None,
        };
        let view = self.issued(&entitlement).await;
        if waits {
            self.unchanged(caller, &entitlement.selectors).await?;
        }
        let entitlement = matched(view, entitlement.selectors)?;
        let now = (self.clock)();
        let of_entry = |e: &Arc<AuthorizedEntry>| Some((Arc::clone(entitlement.view.svid(&e.id)?), e.hint.clone()));
        // The class may have gone while its instance was asked for.
        let instance = instance.filter(|_| entitlement.class.is_some()).map(|svid| (svid, String::new()));
        let svids = instance.into_iter().chain(entitlement.entries.iter().filter_map(of_entry));
        let svids: Vec<_> = svids.filter(|(svid, _)| svid.expires_at > now).collect();
        match (svids.is_empty(), entitlement.is_empty()) {
            (false, _) => Ok(Grant { svids, entitlement }),
            (true, true) => Err(Refusal::no_identity()),
            (true, false) => Err(Refusal::Unavailable("the CA has not issued the SVID yet".into())),
        }
    }

    /// While the caller's instance is held, it is given nothing, of its entries neither: clients keep what they have.
    pub(super) fn not_held(&self, caller: &Caller) -> Result<(), Refusal> {
        let Some((id, until)) = self.instances.held(caller.process.start_token()) else { return Ok(()) };
        let code = Reason::InstanceHeld;
        Err(Refusal::Unavailable(format!("{code}: {id} is held until {until}: it is given nothing new before")))
    }

    /// Attests once more, where an answer took its time: the caller may be another program by now.
    pub(super) async fn unchanged(&self, caller: &Arc<Caller>, selectors: &Selectors) -> Result<(), Refusal> {
        match self.observe(caller).await? == *selectors {
            true => Ok(()),
            false => Err(Refusal::Unavailable("the process changed while it was waiting".into())),
        }
    }

    /// Whether everything granted is there already.
    fn at_hand(&self, caller: &Caller, entitlement: &Entitlement) -> bool {
        let instance = || self.instances.known(caller.process.start_token()).is_some();
        let entries = || entitlement.entries.iter().all(|e| entitlement.view.svid(&e.id).is_some());
        (entitlement.class.is_none() || instance()) && entries()
    }

    /// Waits until every matching entry that is still there has its SVID, or for 5 s.
    async fn issued(&self, entitlement: &Entitlement) -> Arc<View> {
        let ids = || entitlement.entries.iter().map(|e| e.id.as_str());
        let mut views = self.cache.watch();
        self.cache.touch(&views.borrow(), ids(), (self.clock)());
        let there = |view: &Arc<View>| ids().all(|id| view.svid(id).is_some() || !view.entries.contains_key(id));
        let _ = tokio::time::timeout(PATIENCE, views.wait_for(there)).await;
        self.cache.view()
    }

    /// Whether the node may hand out anything.
    ///
    /// Source: WE-25: before the first sync `Unavailable`.
    pub(super) fn standing(&self) -> Result<(), Refusal> {
        if self.identity.borrow().is_none() {
            return Err(match self.stood.load(Ordering::Relaxed) {
                true => Refusal::Denied("the node has no standing".into()),
                false => Refusal::Unavailable("the node is not attested yet".into()),
            });
        }
        self.stood.store(true, Ordering::Relaxed);
        if !self.cache.view().ready() {
            return Err(Refusal::Unavailable("the CA has not been heard yet".into()));
        }
        Ok(())
    }
}

impl Entitlement {
    /// Whether the caller has no identity.
    pub(super) fn is_empty(&self) -> bool {
        self.class.is_none() && self.entries.is_empty()
    }

    /// Our own domain, first, and those federated to the caller.
    pub(super) fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.view.domain.iter().chain(&self.federated)
    }
}

/// Matches selectors against a snapshot. More than one class is no instance of either.
pub(super) fn matched(view: Arc<View>, selectors: Selectors) -> Result<Entitlement, Refusal> {
    let mut classes = view.classes_of(&selectors);
    if classes.len() > 1 {
        let names: Vec<_> = classes.iter().map(|c| c.name.as_str()).collect();
        let names = names.join(", ");
        tracing::warn!(classes = names, "process matches more than one class and is refused");
        return Err(Refusal::Denied(format!("the process matches more than one class: {names}")));
    }
    let entries = view.entries_of(&selectors);
    let federated = entries.iter().flat_map(|e| e.federates_with.iter().cloned()).collect();
    Ok(Entitlement { selectors, class: classes.pop(), entries: hints::unique(entries), federated, view })
}
