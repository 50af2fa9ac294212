use std::{collections::HashMap, sync::Arc, time::Duration};

use chancery_sdk::id::SpiffeId;
use tokio::time::sleep;
use tonic::Code;

use super::{Instance, Instances, Phase, Record, Shared, keeper::Keeper};
use crate::{
    ca::{CaError, Reconciled},
    identity::IdentityWatch,
    peer::{Process, StartToken, boot_hash},
};

/// First wait after a Reconcile that was not heard.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

impl Instances {
    /// Takes up the processes of an earlier run that still live, and keeps the CA's list and ours the same.
    pub async fn start(&self, identity: IdentityWatch) {
        let shared = Arc::clone(&self.shared);
        let records = tokio::task::spawn_blocking(move || shared.file.read()).await;
        let records = match records {
            Ok(Ok(records)) => records,
            Ok(Err(error)) => {
                tracing::warn!(%error, "state file of live instances cannot be read; their processes begin anew");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        for record in records {
            self.shared.adopt(&record);
        }
        tokio::spawn(reconciler(Arc::clone(&self.shared), identity));
    }
}

impl Shared {
    pub(super) fn named(&self) -> std::sync::MutexGuard<'_, HashMap<StartToken, SpiffeId>> {
        self.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes up one process, if it is still the one that was recorded. Its SVID comes with a new key.
    fn adopt(self: &Arc<Self>, record: &Record) {
        let (Some(token), Some(class), Ok(process)) = (record.token(), record.class(), Process::by_number(record.pid))
        else {
            return;
        };
        if process.start_token() != token {
            return;
        }
        let instance = Arc::new(Instance::new(Arc::new(process), class));
        if self.list().insert(token, Arc::clone(&instance)).is_none() {
            self.metrics.instances.inc();
        }
        self.named().insert(token, record.instance_id.clone());
        tracing::info!(instance = %record.instance_id, pid = record.pid, "process still lives");
        tokio::spawn(Keeper::adopted(Arc::clone(self), instance, record.instance_id.clone()).run());
    }

    /// Tells the CA who lives; drops what it does not hold for alive.
    async fn reconcile(self: &Arc<Self>) -> Result<(), CaError> {
        let _gate = self.gate.write().await;
        let boot = boot_hash().map_err(|e| CaError::Lost(e.to_string()))?;
        let live: Vec<_> =
            self.list().values().filter(|i| i.process.alive()).map(|i| *i.process.start_token().as_bytes()).collect();
        match self.upstream.reconcile(boot, &live).await {
            Ok(answer) => {
                self.drop_lost(&answer);
                Ok(())
            }
            // A SPIRE server has no instances, so nothing to agree on.
            Err(CaError::Refused { code: Code::Unimplemented, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn drop_lost(&self, answer: &Reconciled) {
        let held: HashMap<_, _> = answer.live.iter().map(|l| (l.start_token, &l.instance_id)).collect();
        let named = self.named().clone();
        let list = self.list().clone();
        for (token, instance) in &list {
            // One without a name has begun nothing that the CA could have ended.
            let Some(name) = named.get(token) else { continue };
            if held.get(token.as_bytes()) != Some(&name) {
                instance.lost.cancel();
            }
        }
        tracing::info!(live = answer.live.len(), ended = answer.ended, "instances agreed with the CA");
    }

    /// Takes back every SVID: the node has no standing.
    fn withdraw(&self) {
        self.agreed.send_replace(false);
        for instance in self.list().values() {
            instance.phase.send_if_modified(|phase| {
                let good = matches!(phase, Phase::Good(_));
                if good {
                    *phase = Phase::Asking("the node has no standing".into());
                }
                good
            });
        }
    }
}

/// Reconciles whenever the node gains standing, and when a keeper asks for it.
async fn reconciler(shared: Arc<Shared>, mut identity: IdentityWatch) {
    let stop = shared.stop.clone();
    let work = async {
        loop {
            if identity.wait_for(Option::is_some).await.is_err() {
                return;
            }
            let mut wait = FIRST_WAIT;
            while let Err(error) = shared.reconcile().await {
                tracing::warn!(%error, "instances not agreed with the CA yet");
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            shared.agreed.send_replace(true);
            tokio::select! {
                gone = identity.wait_for(Option::is_none) => {
                    drop(gone);
                    shared.withdraw();
                }
                () = shared.again.notified() => {}
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
