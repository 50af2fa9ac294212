use std::{sync::Arc, time::Duration};

use chancery_core::{reason::Reason, selector::Selectors};
use chancery_sdk::{id::SpiffeId, origin::Origin, time::UnixTime};
use tokio::time::sleep;
use tonic::Code;

use super::{Instance, Phase, Record, Shared};
use crate::{
    ca::{BeginInstance, CaError, ProcessFacts},
    cache::{FreshKey, Svid, fresh_key},
    crypto::fraction,
    metrics::Issued,
    plan::longest_wait,
    sync::until,
};

/// First wait after the CA was not heard.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The task of one process.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    me: Arc<Instance>,
    stage: Stage,
    /// The key of an attempt whose outcome is not known: repeated with it, for the CA may have committed.
    pending: Option<FreshKey>,
}

enum Stage {
    Begin { selectors: Selectors, facts: ProcessFacts, origin: Origin },
    Renew { id: SpiffeId },
}

/// What ended a wait.
enum Turn {
    /// Something to do: a rotation, or a new agreement with the CA.
    Again,
    /// The process is gone.
    Ended,
    /// The CA holds it for ended.
    Lost,
    Stop,
}

impl Keeper {
    pub(super) fn begin(
        shared: Arc<Shared>,
        me: Arc<Instance>,
        selectors: Selectors,
        facts: ProcessFacts,
        origin: Origin,
    ) -> Self {
        Self { shared, me, stage: Stage::Begin { selectors, facts, origin }, pending: None }
    }

    pub(super) fn adopted(shared: Arc<Shared>, me: Arc<Instance>, id: SpiffeId) -> Self {
        Self { shared, me, stage: Stage::Renew { id }, pending: None }
    }

    /// Keeps the process an instance until it ends.
    pub(super) async fn run(mut self) {
        let mut held = None;
        let mut wait = FIRST_WAIT;
        loop {
            let turn = match self.agreed().await {
                Turn::Again if self.held_until().is_some() => self.sit_out(held.as_ref()).await,
                Turn::Again => match self.obtain().await {
                    Ok(svid) => {
                        wait = FIRST_WAIT;
                        self.me.phase.send_replace(Phase::Good(Arc::clone(&svid)));
                        let rested = self.rest(&svid).await;
                        held = Some(svid);
                        rested
                    }
                    Err(error) if is_final(&error) => return self.over(error.to_string()).await,
                    Err(error) => {
                        self.problem(&error, held.as_ref());
                        let now = self.patience(&mut wait, held.as_ref());
                        self.pause(now).await
                    }
                },
                other => other,
            };
            match turn {
                Turn::Again => {}
                Turn::Ended => return self.ended().await,
                Turn::Lost => return self.over("the CA has ended this instance".into()).await,
                Turn::Stop => return,
            }
        }
    }

    /// Waits until the CA's list and ours agree; what is held meanwhile is withdrawn by the reconciler.
    async fn agreed(&self) -> Turn {
        let mut agreed = self.shared.agreed.subscribe();
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Turn::Stop,
            () = self.me.process.ended() => Turn::Ended,
            () = self.me.lost.cancelled() => Turn::Lost,
            _ = agreed.wait_for(|yes| *yes) => Turn::Again,
        }
    }

    fn held_until(&self) -> Option<UnixTime> {
        match &self.stage {
            Stage::Begin { .. } => None,
            Stage::Renew { id } => self.shared.taints.held(id),
        }
    }

    /// A while of a hold: until something is told, its end, or the end of what is kept meanwhile.
    async fn sit_out(&self, kept: Option<&Arc<Svid>>) -> Turn {
        let mut known = self.shared.taints.watch();
        let (Some(end), now) = (self.held_until(), (self.shared.clock)()) else { return Turn::Again };
        let lasting = kept.filter(|svid| svid.expires_at > now);
        if lasting.is_none() {
            self.me.phase.send_replace(Phase::Asking(held(end)));
        }
        // By the wall clock: the timer's own may stand still while the machine sleeps.
        let wait = until(now, lasting.map_or(end, |svid| svid.expires_at.min(end))).clamp(FIRST_WAIT, LONGEST_WAIT);
        tokio::select! {
            turn = self.pause(wait) => turn,
            // The sender is ours, so the channel does not close.
            _ = known.changed() => Turn::Again,
        }
    }

    /// Until the SVID's successor is due, which a taint brings forward.
    async fn rest(&self, svid: &Svid) -> Turn {
        let mut known = self.shared.taints.watch();
        loop {
            // A CA that goes on signing with a tainted key is not asked faster than this.
            let wait = until((self.shared.clock)(), self.shared.taints.due(svid)).max(FIRST_WAIT);
            tokio::select! {
                turn = self.pause(wait) => return turn,
                // The sender is ours, so the channel does not close.
                _ = known.changed() => {}
            }
        }
    }

    async fn pause(&self, wait: Duration) -> Turn {
        let mut agreed = self.shared.agreed.subscribe();
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Turn::Stop,
            () = self.me.process.ended() => Turn::Ended,
            () = self.me.lost.cancelled() => Turn::Lost,
            _ = agreed.wait_for(|yes| !*yes) => Turn::Again,
            () = sleep(wait) => Turn::Again,
        }
    }

    /// One attempt. Not given up when the process ends meanwhile: the CA may have committed, and then it must be told.
    async fn obtain(&mut self) -> Result<Arc<Svid>, CaError> {
        let key = match self.pending.take() {
            Some(key) => key,
            None => fresh_key(1).await.ok().and_then(|mut k| k.pop()).ok_or_else(|| CaError::Lost("no key".into()))?,
        };
        let asked = {
            let shared = Arc::clone(&self.shared);
            let _gate = shared.gate.read().await;
            self.ask(&key).await
        };
        match asked {
            Ok(issued) => {
                self.shared.metrics.issued(Issued::Instance);
                let svid = Svid::new(&issued, key.pkcs8, &self.shared.rotation, (self.shared.clock)());
                Ok(Arc::new(svid.map_err(|e| CaError::Lost(e.to_string()))?))
            }
            Err(error) => {
                self.pending = Some(key);
                Err(error)
            }
        }
    }

    async fn ask(&mut self, key: &FreshKey) -> Result<crate::ca::IssuedX509, CaError> {
        let start_token = *self.me.process.start_token().as_bytes();
        match &self.stage {
            Stage::Renew { id } => self.shared.upstream.renew(id, start_token, key.csr.clone()).await,
            Stage::Begin { selectors, facts, origin } => {
                let begin = BeginInstance {
                    class: self.me.class.clone(),
                    start_token,
                    csr: key.csr.clone(),
                    selectors: selectors.clone(),
                    process: facts.clone(),
                    origin: origin.clone(),
                };
                let begun = self.shared.upstream.begin(&begin).await?;
                tracing::info!(instance = %begun.instance_id, pid = facts.pid, "instance began");
                self.stage = Stage::Renew { id: begun.instance_id };
                // Before the first release: after a crash the process must find its ID again.
                self.shared.remember(&self.me, self.id()).await;
                Ok(begun.svid)
            }
        }
    }

    fn id(&self) -> Option<SpiffeId> {
        match &self.stage {
            Stage::Begin { .. } => None,
            Stage::Renew { id } => Some(id.clone()),
        }
    }

    /// The wait before the next try. It grows with each, but not while the end of what is held is near.
    fn patience(&self, wait: &mut Duration, held: Option<&Arc<Svid>>) -> Duration {
        let longest = held.map_or(Duration::MAX, |svid| longest_wait((self.shared.clock)(), svid.expires_at));
        if *wait > longest {
            return longest.mul_f64(0.5 + fraction() / 2.0);
        }
        let now = wait.mul_f64(0.5 + fraction());
        *wait = (*wait * 2).min(LONGEST_WAIT);
        now
    }

    /// Keeps what is held until its end; then there is nothing to hand out.
    fn problem(&self, error: &CaError, held: Option<&Arc<Svid>>) {
        tracing::warn!(pid = self.me.process.pid(), class = %self.me.class, %error, "no SVID for this instance yet");
        if held.is_none_or(|svid| svid.expires_at <= (self.shared.clock)()) {
            self.me.phase.send_replace(Phase::Asking(error.to_string()));
        }
    }

    async fn over(&self, why: String) {
        tracing::warn!(pid = self.me.process.pid(), class = %self.me.class, why, "instance is over");
        self.shared.forget(&self.me).await;
        self.me.phase.send_replace(Phase::Over(why));
    }

    /// Tells the CA of the end, again and again until it has it; what a stop cuts short, the next start's Reconcile tells.
    async fn ended(self) {
        self.me.phase.send_replace(Phase::Over("the process has ended".into()));
        let token = *self.me.process.start_token().as_bytes();
        match self.id() {
            // The CA may have begun it and the answer was lost: only Reconcile can end what has no name here.
            None if self.pending.is_some() => self.shared.again.notify_one(),
            None => {}
            Some(id) => {
                let mut wait = FIRST_WAIT;
                while let Err(error) = self.shared.upstream.end(&id, token).await {
                    if is_final(&error) {
                        tracing::warn!(instance = %id, %error, "the CA does not take the end of this instance");
                        break;
                    }
                    tokio::select! {
                        () = self.shared.stop.cancelled() => return,
                        () = sleep(wait.mul_f64(0.5 + fraction())) => wait = (wait * 2).min(LONGEST_WAIT),
                    }
                }
                tracing::info!(instance = %id, "instance ended");
            }
        }
        self.shared.forget(&self.me).await;
    }
}

/// What a process is told that is held.
fn held(until: UnixTime) -> String {
    format!("{}: the instance is held until {until}: nothing new is issued for it", Reason::InstanceHeld)
}

/// Whether asking again the same way cannot help. A denial of the node itself is not final: it may stand again.
fn is_final(error: &CaError) -> bool {
    match error {
        CaError::Denied(node) => node.is_none(),
        CaError::Busy(_) | CaError::Lost(_) => false,
        CaError::Refused { code, .. } => matches!(
            code,
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Unimplemented
        ),
    }
}

impl Shared {
    /// Writes the live instances, `me` under its new ID, to the state file.
    async fn remember(self: &Arc<Self>, me: &Arc<Instance>, id: Option<SpiffeId>) {
        if let Some(id) = id {
            self.named().insert(me.process.start_token(), id);
        }
        self.save().await;
    }

    /// Takes `me` off the list; its process may begin again if it lives, as the CA decides.
    async fn forget(self: &Arc<Self>, me: &Arc<Instance>) {
        let token = me.process.start_token();
        if self.list().remove(&token).is_some() {
            self.metrics.instances.dec();
        }
        if self.named().remove(&token).is_some() {
            self.save().await;
        }
    }

    pub(super) async fn save(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let write = move || shared.file.write(|| shared.records());
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "live instances cannot be written; a crash now gives them new IDs")
            }
            Err(error) => tracing::error!(%error, "live instances were not written"),
        }
    }

    fn records(&self) -> Vec<Record> {
        let list = self.list().clone();
        let named = self.named().clone();
        let record = |(token, id): (&crate::peer::StartToken, &SpiffeId)| {
            let instance = list.get(token)?;
            Some(Record {
                pid: instance.process.pid(),
                start_token: token.to_hex(),
                instance_id: id.clone(),
                class: instance.class.to_string(),
            })
        };
        named.iter().filter_map(record).collect()
    }
}
