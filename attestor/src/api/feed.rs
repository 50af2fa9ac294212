use std::{collections::BTreeMap, future::Future, sync::Arc};

use chancery_core::selector::Selectors;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Door, Refusal};
use crate::peer::Caller;

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
    let first = F::make(door, &caller).await?;
    // One slot: a message waits until its reader has taken the one before.
    let (tx, rx) = mpsc::channel(1);
    if !caller.process.alive() {
        return Err(gone());
    }
    let _ = tx.try_send(Ok(first.message));
    let follower = Follower { door: Arc::clone(door), caller, said: first.said, selectors: first.selectors };
    tokio::spawn(follower.run::<F>(tx));
    Ok(ReceiverStream::new(rx))
}

struct Follower {
    door: Arc<Door>,
    caller: Arc<Caller>,
    said: Said,
    selectors: Selectors,
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
        let mut views = door.cache.watch();
        loop {
            views.mark_unchanged();
            let mut instance = door.instances.watch(&self.caller);
            // Most changes concern others: only one that would change the message is worth an attestation.
            if F::glimpse(&door, &self.caller, &self.selectors).as_ref() != Some(&self.said)
                && let Err(refusal) = self.push::<F>(tx).await
            {
                return refusal;
            }
            let instance_changed = async {
                match &mut instance {
                    Some(phase) => phase.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return Refusal::Unavailable("shutting down".into()) },
                _ = instance_changed => {}
            }
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
