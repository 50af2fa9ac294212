use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use chancery_core::selector::Selectors;
use chancery_sdk::time::UnixTime;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{sync::watch, time::sleep};
use tonic::Status;

use super::{Door, Refusal};
use crate::{cache::View, instance::Phase, peer::Caller, sync::until};

/// Between two looks at a hold.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a message held, to tell whether another one says anything new.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Said {
    /// Numbers of the SVIDs with their hints, in order.
    pub svids: Vec<(u64, String)>,
    /// SPIFFE ID of the domain -> its bundle.
    pub bundles: BTreeMap<String, Vec<u8>>,
    /// Certificate revocation lists, DER.
    pub crls: Arc<Vec<Vec<u8>>>,
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

    /// Until when the caller is given nothing new and keeps what it has.
    fn withheld(_: &Door, _: &Caller) -> Option<UnixTime> {
        None
    }

    /// What a message would hold if the caller still has these selectors; `None` where it would be refused.
    fn glimpse(door: &Door, caller: &Caller, selectors: &Selectors) -> Option<Said>;
}

/// The stream a handler answers with. It does its work when it is polled: a reader that takes nothing costs nothing.
pub(super) type Stream<M> = BoxStream<'static, Result<M, Status>>;

/// Makes the first message at once (WA-11) and the next ones as they come (WA-09, WA-10).
pub(super) async fn open<F: Feed>(door: &Arc<Door>, caller: Arc<Caller>) -> Result<Stream<F::Message>, Status> {
    if door.stop.is_cancelled() {
        return Err(shutting_down());
    }
    // Before the message is made: no change falls between.
    let views = door.cache.watch();
    let first = F::make(door, &caller).await?;
    if !caller.process.alive() {
        return Err(gone());
    }
    let follower = Follower {
        instance: door.instances.watch(&caller),
        views,
        said: first.said,
        selectors: first.selectors,
        fresh: true,
        _open: Open::counted(&door.metrics.streams),
        door: Arc::clone(door),
        caller,
    };
    let rest = stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        Some(match follower.next::<F>().await {
            Ok(message) => (Ok(message), Some(follower)),
            Err(end) => (Err(end), None),
        })
    });
    Ok(stream::iter([Ok(first.message)]).chain(rest).boxed())
}

struct Follower {
    door: Arc<Door>,
    caller: Arc<Caller>,
    views: watch::Receiver<Arc<View>>,
    instance: Option<watch::Receiver<Phase>>,
    said: Said,
    selectors: Selectors,
    /// Whether something may have changed before it was followed: then one look comes before the first wait.
    fresh: bool,
    _open: Open,
}

/// A stream, counted until it is dropped.
struct Open(Gauge);

impl Open {
    fn counted(streams: &Gauge) -> Self {
        streams.inc();
        Self(streams.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Follower {
    /// The next message that says something new, or why the stream ends.
    async fn next<F: Feed>(&mut self) -> Result<F::Message, Status> {
        let (door, caller) = (Arc::clone(&self.door), Arc::clone(&self.caller));
        let mut identity = door.identity.clone();
        tokio::select! {
            biased;
            () = door.stop.cancelled() => Err(shutting_down()),
            () = caller.process.ended() => Err(gone()),
            _ = identity.wait_for(Option::is_none) => Err(Refusal::Denied("the node has no standing".into()).into()),
            made = self.follow::<F>() => made.map_err(Status::from),
        }
    }

    /// Waits for what is new, until the caller is refused.
    async fn follow<F: Feed>(&mut self) -> Result<F::Message, Refusal> {
        let door = Arc::clone(&self.door);
        loop {
            // An instance may have changed before it was followed; the rest was followed before the message was made.
            let look = std::mem::take(&mut self.fresh) && self.instance.is_some();
            if !look && !self.changed().await {
                return Err(Refusal::Unavailable("shutting down".into()));
            }
            // An instance that is over takes its SVID with it; whether its process may begin anew is another call.
            if let Some(Phase::Over(why)) = self.instance.as_ref().map(|phase| phase.borrow().clone())
                && !self.said.svids.is_empty()
            {
                return Err(Refusal::Denied(why));
            }
            let mut list = door.revoked.changed();
            if let Some(end) = F::withheld(&door, &self.caller) {
                self.wait_until(end, &mut list).await;
                // What changed meanwhile comes then.
                self.fresh = true;
                continue;
            }
            self.views.mark_unchanged();
            let began = self.instance.is_none();
            self.instance = door.instances.watch(&self.caller);
            self.fresh = began && self.instance.is_some();
            // Most changes concern others: only one that would change the message is worth an attestation.
            if F::glimpse(&door, &self.caller, &self.selectors).as_ref() != Some(&self.said)
                && let Some(message) = self.renewed::<F>().await?
            {
                return Ok(message);
            }
        }
    }

    /// Waits for the end of a hold, a word on it, or one on the instance.
    async fn wait_until(&mut self, end: UnixTime, list: &mut watch::Receiver<u64>) {
        if self.instance.is_none() {
            self.instance = self.door.instances.watch(&self.caller);
        }
        // By the wall clock: the timer's own may stand still while the machine sleeps.
        let wait = until((self.door.clock)(), end).clamp(LEAST_WAIT, LONGEST_WAIT);
        tokio::select! {
            () = sleep(wait) => {}
            // The door holds the list, and the list the sender.
            _ = list.changed() => {}
            _ = instance_changed(&mut self.instance) => {}
        }
    }

    /// Waits for a change of the snapshot or of the caller's instance; false when there will be none.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.views.changed() => changed.is_ok(),
            // A keeper that is gone has left its last word, or the process may begin anew: look again either way.
            _ = instance_changed(&mut self.instance) => true,
        }
    }

    /// The message of now, if it says anything new.
    async fn renewed<F: Feed>(&mut self) -> Result<Option<F::Message>, Refusal> {
        let made = F::make(&self.door, &self.caller).await?;
        self.selectors = made.selectors;
        if made.said == self.said {
            return Ok(None);
        }
        self.said = made.said;
        match self.caller.process.alive() {
            true => Ok(Some(made.message)),
            false => Err(Refusal::Denied("the process has ended".into())),
        }
    }
}

/// Waits for the instance's next word; for ever where there is none.
async fn instance_changed(instance: &mut Option<watch::Receiver<Phase>>) {
    match instance {
        // A keeper that is gone has left its last word.
        Some(phase) => drop(phase.changed().await),
        None => std::future::pending().await,
    }
}

fn shutting_down() -> Status {
    Status::unavailable("shutting down")
}

fn gone() -> Status {
    Status::permission_denied("the process has ended")
}
