use std::{collections::BTreeMap, future::Future, sync::Arc};

use chancery_core::selector::Selectors;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Door, Refusal};
use crate::{cache::View, instance::Phase, peer::Caller};

/// What a message held, to tell whether another one says anything new.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Said {
    /// Numbers of the SVIDs with their hints, in order.
    pub svids: Vec<(u64, String)>,
    /// SPIFFE ID of the domain -> its bundle.
    pub bundles: BTreeMap<String, Vec<u8>>,
}

/// A message, what it holds, and the selectors it was made for.
pub(super) struct Made<M> {
    pub message: M,
    pub said: Said,
    pub selectors: Selectors,
}

/// One kind of stream.
pub(super) trait Feed: Send + Sync + 'static {
    /// What it sends.
    type Message: Send + 'static;

    /// The complete state for the caller, which is attested anew.
    fn make(door: &Door, caller: &Arc<Caller>) -> impl Future<Output = Result<Made<Self::Message>, Refusal>> + Send;

    /// What a message would hold if the caller still has these selectors; `None` where it would be refused.
    fn glimpse(door: &Door, caller: &Caller, selectors: &Selectors) -> Option<Said>;
}

/// The stream a handler answers with.
pub(super) type Stream<M> = ReceiverStream<Result<M, Status>>;

/// Makes the first message at once (WA-11) and the next ones as they come (WA-09, WA-10).
pub(super) async fn open<F: Feed>(door: &Arc<Door>, caller: Arc<Caller>) -> Result<Stream<F::Message>, Status> {
    if door.stop.is_cancelled() {
        return Err(shutting_down());
    }
    // Before the message is made: no change falls between.
    let views = door.cache.watch();
    let first = F::make(door, &caller).await?;
    // One slot: a message waits until its reader has taken the one before.
    let (tx, rx) = mpsc::channel(1);
    if !caller.process.alive() {
        return Err(gone());
    }
    let _ = tx.try_send(Ok(first.message));
    let seat = Open(door.metrics.streams.clone());
    seat.0.inc();
    let follower =
        Follower { door: Arc::clone(door), caller, views, said: first.said, selectors: first.selectors, _open: seat };
    tokio::spawn(follower.run::<F>(tx));
    Ok(ReceiverStream::new(rx))
}

struct Follower {
    door: Arc<Door>,
    caller: Arc<Caller>,
    views: watch::Receiver<Arc<View>>,
    said: Said,
    selectors: Selectors,
    _open: Open,
}

/// A stream, counted until it is dropped.
struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Follower {
    async fn run<F: Feed>(mut self, tx: mpsc::Sender<Result<F::Message, Status>>) {
        let (door, caller) = (Arc::clone(&self.door), Arc::clone(&self.caller));
        let mut identity = door.identity.clone();
        let end = tokio::select! {
            biased;
            () = door.stop.cancelled() => shutting_down(),
            () = caller.process.ended() => gone(),
            _ = identity.wait_for(Option::is_none) => Refusal::Denied("the node has no standing".into()).into(),
            () = tx.closed() => return,
            refusal = self.follow::<F>(&tx) => refusal.into(),
        };
        // The reader may be slow, and may be gone; neither may keep this task.
        let _ = tokio::time::timeout(chancery_daemon::shutdown::GRACE, tx.send(Err(end))).await;
    }

    /// Sends what is new until the caller is refused.
    async fn follow<F: Feed>(&mut self, tx: &mpsc::Sender<Result<F::Message, Status>>) -> Refusal {
        let door = Arc::clone(&self.door);
        let mut instance = door.instances.watch(&self.caller);
        // An instance may have changed before it was followed; the rest was followed before the message was made.
        let mut waits = instance.is_none();
        loop {
            if waits && !self.changed(&mut instance).await {
                return Refusal::Unavailable("shutting down".into());
            }
            // An instance that is over takes its SVID with it; whether its process may begin anew is another call.
            if let Some(Phase::Over(why)) = instance.as_ref().map(|phase| phase.borrow().clone())
                && !self.said.svids.is_empty()
            {
                return Refusal::Denied(why);
            }
            self.views.mark_unchanged();
            let began = instance.is_none();
            instance = door.instances.watch(&self.caller);
            waits = !(began && instance.is_some());
            // Most changes concern others: only one that would change the message is worth an attestation.
            if F::glimpse(&door, &self.caller, &self.selectors).as_ref() != Some(&self.said)
                && let Err(refusal) = self.push::<F>(tx).await
            {
                return refusal;
            }
        }
    }

    /// Waits for a change of the snapshot or of the caller's instance; false when there will be none.
    async fn changed(&mut self, instance: &mut Option<watch::Receiver<Phase>>) -> bool {
        let instance_changed = async {
            match instance {
                Some(phase) => phase.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.views.changed() => changed.is_ok(),
            // A keeper that is gone has left its last word, or the process may begin anew: look again either way.
            _ = instance_changed => true,
        }
    }

    async fn push<F: Feed>(&mut self, tx: &mpsc::Sender<Result<F::Message, Status>>) -> Result<(), Refusal> {
        // Room first, then the message: nothing that was true a while ago is sent now.
        let Ok(room) = tx.reserve().await else { return Err(Refusal::Unavailable("the reader is gone".into())) };
        let made = F::make(&self.door, &self.caller).await?;
        self.selectors = made.selectors;
        if made.said == self.said {
            return Ok(());
        }
        self.said = made.said;
        if !self.caller.process.alive() {
            return Err(Refusal::Denied("the process has ended".into()));
        }
        room.send(Ok(made.message));
        Ok(())
    }
}

fn shutting_down() -> Status {
    Status::unavailable("shutting down")
}

fn gone() -> Status {
    Status::permission_denied("the process has ended")
}
