//! Instances: each process that matches one class, from its first call to its end.
//!
//! One keeper task for each process begins it, renews it with a new key at every rotation and ends it when its pidfd says
//! so; one reconciler tells the CA after a start or an outage which processes still live. Handlers only wait, so a
//! handler that is cancelled loses nothing. Called by `api`.

mod file;
mod keeper;
mod reconcile;

pub use file::{Record, StateFile};

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chancery_core::{class::ClassName, selector::Selectors};
use chancery_daemon::clock::Clock;
use chancery_sdk::{id::SpiffeId, time::UnixTime};
use thiserror::Error;
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    ca::{CaError, IssuedJwt, ProcessFacts},
    cache::Svid,
    metrics::WorkloadMetrics,
    peer::{Caller, Process, StartToken},
    plan::Rotation,
    taint::Taints,
    upstream::Upstream,
};
use keeper::Keeper;

/// Longest wait of a caller for its instance's SVID.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a process has no instance.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum InstanceError {
    /// It is an instance of another class already, for as long as it lives.
    #[error("process {pid} is an instance of class '{is}' and cannot become one of '{wanted}'")]
    OtherClass {
        /// Its number.
        pid: i32,
        /// What it is.
        is: ClassName,
        /// What it matches now.
        wanted: ClassName,
    },
    /// The CA says no, or has ended it.
    #[error("{0}")]
    Over(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

/// How far a process has come.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Without an SVID so far, or again; the newest problem, empty where there was none.
    Asking(String),
    /// With one.
    Good(Arc<Svid>),
    /// Never again; why.
    Over(String),
}

/// One process that is, or wants to be, an instance.
struct Instance {
    process: Arc<Process>,
    class: ClassName,
    phase: watch::Sender<Phase>,
    /// Set where the CA holds it for ended.
    lost: CancellationToken,
}

/// All instances of this node; clones share them.
#[derive(Clone)]
pub struct Instances {
    shared: Arc<Shared>,
}

struct Shared {
    upstream: Arc<dyn Upstream>,
    rotation: Arc<Rotation>,
    taints: Arc<Taints>,
    clock: Clock,
    file: StateFile,
    metrics: WorkloadMetrics,
    /// Guards the list of keepers' processes; held for a look-up, an insertion or a copy.
    live: Mutex<HashMap<StartToken, Arc<Instance>>>,
    /// Guards the SPIFFE IDs of those that have begun; held for a look-up, an insertion or a copy, never with `live`.
    named: Mutex<HashMap<StartToken, SpiffeId>>,
    /// Guards the processes whose instances were revoked; held for a look-up or an insertion. They get nothing any more,
    /// whether or not the CA can be asked; one that ended is let go of.
    revoked: Mutex<HashMap<StartToken, Arc<Process>>>,
    /// Begin and Renew read, Reconcile writes: a process that begins during a Reconcile is not ended by it.
    gate: RwLock<()>,
    /// Whether the CA's list and ours agree; false while the node has no standing.
    agreed: watch::Sender<bool>,
    /// Asks for another Reconcile, where the outcome of a Begin is not known and its process is gone.
    again: Notify,
    stop: CancellationToken,
}

impl Instances {
    /// No instance yet; [`start`](Self::start) takes up those of an earlier run.
    pub fn new(
        upstream: Arc<dyn Upstream>,
        rotation: Arc<Rotation>,
        taints: Arc<Taints>,
        clock: Clock,
        file: StateFile,
        metrics: WorkloadMetrics,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared {
            upstream,
            rotation,
            taints,
            clock,
            file,
            metrics,
            live: Mutex::default(),
            named: Mutex::default(),
            revoked: Mutex::default(),
            gate: RwLock::default(),
            agreed: watch::Sender::new(false),
            again: Notify::new(),
            stop,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The SVID of the caller's instance of `class`, which its first call begins. Waits for at most 10 s.
    ///
    /// # Errors
    /// [`InstanceError`].
    pub async fn svid(
        &self,
        caller: &Arc<Caller>,
        class: &ClassName,
        selectors: &Selectors,
    ) -> Result<Arc<Svid>, InstanceError> {
        let mut phase = self.shared.instance(caller, class, selectors)?.phase.subscribe();
        // What it says after the wait counts, however the wait ended.
        let _ = tokio::time::timeout(PATIENCE, phase.wait_for(|p| !matches!(p, Phase::Asking(_)))).await;
        let settled = phase.borrow().clone();
        match settled {
            Phase::Good(svid) => Ok(svid),
            Phase::Over(why) => Err(InstanceError::Over(why)),
            Phase::Asking(why) if why.is_empty() => {
                Err(InstanceError::Unavailable("the CA did not answer in time".into()))
            }
            Phase::Asking(why) => Err(InstanceError::Unavailable(why)),
        }
    }

    /// Follows the caller's instance, if it has one.
    pub fn watch(&self, caller: &Caller) -> Option<watch::Receiver<Phase>> {
        self.shared.list().get(&caller.process.start_token()).map(|i| i.phase.subscribe())
    }

    /// The SPIFFE ID and the class of a process, if it is an instance with an SVID.
    pub fn known(&self, token: StartToken) -> Option<(SpiffeId, ClassName)> {
        let instance = Arc::clone(self.shared.list().get(&token)?);
        let phase = instance.phase.borrow().clone();
        match phase {
            Phase::Good(svid) => Some((svid.id.clone(), instance.class.clone())),
            Phase::Asking(_) | Phase::Over(_) => None,
        }
    }

    /// The CA has ended these; those that are not ours are somebody's error, and nothing happens.
    pub fn ended(&self, ids: &[SpiffeId]) {
        if ids.is_empty() {
            return;
        }
        let named = self.shared.named().clone();
        let list = self.shared.list();
        let ended = named.iter().filter(|(_, id)| ids.contains(id)).filter_map(|(token, _)| list.get(token));
        ended.for_each(|instance| instance.lost.cancel());
    }

    /// The CA has revoked these: their processes get nothing any more, and no restart helps.
    pub fn revoked(&self, ids: &HashSet<&str>) {
        if ids.is_empty() {
            return;
        }
        let named = self.shared.named().clone();
        let list = self.shared.list().clone();
        let hit = named.iter().filter(|(_, id)| ids.contains(id.as_str()));
        for (token, instance) in hit.filter_map(|(token, _)| Some((token, list.get(token)?))) {
            let mut revoked = self.shared.revoked.lock().unwrap_or_else(PoisonError::into_inner);
            revoked.retain(|_, process| process.alive());
            revoked.insert(*token, Arc::clone(&instance.process));
            drop(revoked);
            instance.lost.cancel();
        }
    }

    /// Which instance the process is, and until when that is held, if it is.
    pub fn held(&self, token: StartToken) -> Option<(SpiffeId, UnixTime)> {
        let id = self.shared.named().get(&token).cloned()?;
        let until = self.shared.taints.held(&id)?;
        Some((id, until))
    }

    /// Asks for another agreement with the CA about who lives.
    pub fn agree_again(&self) {
        self.shared.again.notify_one();
    }

    /// What each instance is called, and when its SVID ends; `absent` for those that want one and have none.
    pub(crate) fn ends(&self, absent: Option<UnixTime>) -> Vec<(String, UnixTime)> {
        let end = |instance: &Arc<Instance>| match &*instance.phase.borrow() {
            Phase::Good(svid) => Some((svid.id.to_string(), svid.expires_at)),
            Phase::Asking(_) => absent.map(|at| (instance.class.to_string(), at)),
            Phase::Over(_) => None,
        };
        self.shared.list().values().filter_map(end).collect()
    }

    /// How many processes are, or want to be, instances.
    pub fn count(&self) -> usize {
        self.shared.list().len()
    }

    /// A JWT-SVID of the caller's instance, whose SPIFFE ID is `id`.
    ///
    /// # Errors
    /// [`CaError`].
    pub async fn jwt(&self, caller: &Caller, id: &SpiffeId, audience: &[String]) -> Result<IssuedJwt, CaError> {
        let token = *caller.process.start_token().as_bytes();
        self.shared.upstream.new_instance_jwt(id, token, audience, &caller.origin).await
    }
}

impl Shared {
    fn list(&self) -> std::sync::MutexGuard<'_, HashMap<StartToken, Arc<Instance>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller's instance; a new one gets a keeper, so that one process has one flight.
    fn instance(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        class: &ClassName,
        selectors: &Selectors,
    ) -> Result<Arc<Instance>, InstanceError> {
        let token = caller.process.start_token();
        if self.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&token) {
            return Err(InstanceError::Over("this process was revoked".into()));
        }
        let mut list = self.list();
        if let Some(known) = list.get(&caller.process.start_token()) {
            if known.class == *class {
                return Ok(Arc::clone(known));
            }
            let (is, wanted) = (known.class.clone(), class.clone());
            return Err(InstanceError::OtherClass { pid: caller.process.pid(), is, wanted });
        }
        let instance = Arc::new(Instance::new(Arc::clone(&caller.process), class.clone()));
        list.insert(caller.process.start_token(), Arc::clone(&instance));
        self.metrics.instances.inc();
        drop(list);
        let facts = facts(caller, selectors);
        let begun =
            Keeper::begin(Arc::clone(self), Arc::clone(&instance), selectors.clone(), facts, caller.origin.clone());
        tokio::spawn(begun.run());
        Ok(instance)
    }
}

impl Instance {
    fn new(process: Arc<Process>, class: ClassName) -> Self {
        let phase = watch::Sender::new(Phase::Asking(String::new()));
        Self { process, class, phase, lost: CancellationToken::new() }
    }
}

/// What the record says of the process.
fn facts(caller: &Caller, selectors: &Selectors) -> ProcessFacts {
    let unix = |prefix: &str| {
        let mut values = selectors.iter().filter(|s| s.kind() == "unix").filter_map(|s| s.value().strip_prefix(prefix));
        values.next().unwrap_or_default().to_owned()
    };
    ProcessFacts {
        pid: caller.process.pid(),
        uid: caller.uid,
        gid: caller.gid,
        path: unix("path:"),
        sha256: unix("sha256:"),
        pid_proof: caller.proof.as_str().into(),
    }
}
