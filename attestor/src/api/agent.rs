//! `chancery.agent.v1`: what is revoked and who is held, for processes that verify peers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chancery_proto::chancery::agent::v1::{WatchRevocationsRequest, WatchRevocationsResponse, agent_server::Agent};
use chancery_sdk::{
    revocation::Hold,
    time::UnixTime,
    workload::{write_hold, write_revocation},
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{Door, bundles::verifier, feed::Stream, service::caller};
use crate::peer::Caller;

/// Rows in one message.
const PAGE: usize = 500;

/// The service. The header was checked before any of this runs.
#[derive(Clone)]
pub(super) struct AgentApi(pub Arc<Door>);

#[tonic::async_trait]
impl Agent for AgentApi {
    type WatchRevocationsStream = Stream<WatchRevocationsResponse>;

    /// Whoever gets bundles may know what they are not to be believed for.
    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let caller = caller(&request)?;
        verifier(&self.0, &caller).await?;
        let mut changed = self.0.revoked.changed();
        changed.mark_changed();
        let follower = Follower {
            door: Arc::clone(&self.0),
            caller,
            changed,
            sent: 0,
            tidied: 0,
            held: None,
            holds: VecDeque::new(),
            more: false,
        };
        Ok(Response::new(stream::unfold(Some(follower), step).boxed()))
    }
}

/// One stream: how much of the list it has sent. It holds no message: a reader that takes nothing costs nothing.
struct Follower {
    door: Arc<Door>,
    caller: Arc<Caller>,
    changed: watch::Receiver<u64>,
    sent: usize,
    /// What [`chancery_sdk::revocation::Revocations::tidied`] was then.
    tidied: u64,
    /// Who was held when that was looked at last; `None` before the first look.
    held: Option<BTreeMap<String, UnixTime>>,
    /// What has changed of it since, and was not sent yet.
    holds: VecDeque<Hold>,
    /// The last message was not the end of the list.
    more: bool,
}

type Next = Option<(Result<WatchRevocationsResponse, Status>, Option<Follower>)>;

async fn step(follower: Option<Follower>) -> Next {
    let mut follower = follower?;
    if !follower.more {
        let door = Arc::clone(&follower.door);
        tokio::select! {
            biased;
            () = door.stop.cancelled() => return Some((Err(Status::unavailable("shutting down")), None)),
            () = follower.caller.process.ended() => return None,
            // The list holds the sender, and the door the list.
            _ = follower.changed.changed() => {}
        }
    }
    let message = follower.page();
    Some((Ok(message), Some(follower)))
}

impl Follower {
    /// The next page of what was not sent yet; the first is told also where it is empty: then that is the list.
    fn page(&mut self) -> WatchRevocationsResponse {
        let list = self.door.revoked.list();
        if list.tidied() != self.tidied {
            // Places mean something else now: all of it again, which changes nothing for whoever has it.
            (self.sent, self.tidied) = (0, list.tidied());
        }
        let rows = list.rows().get(self.sent..).unwrap_or_default();
        let page = rows.get(..PAGE).unwrap_or(rows);
        let revocations = page.iter().map(|row| write_revocation(row)).collect();
        self.sent += page.len();
        let holds_begin = self.held.is_none();
        let before = self.held.replace(list.every_hold().clone()).unwrap_or_default();
        self.holds.extend(differences(&before, list.every_hold()));
        let some = PAGE.min(self.holds.len());
        let holds = self.holds.drain(..some).map(write_hold).collect();
        self.more = page.len() < rows.len() || !self.holds.is_empty();
        WatchRevocationsResponse { revocations, more: self.more, holds, holds_begin }
    }
}

/// What makes `now` of `before`: those that are gone first.
fn differences(before: &BTreeMap<String, UnixTime>, now: &BTreeMap<String, UnixTime>) -> Vec<Hold> {
    let gone = before.keys().filter(|id| !now.contains_key(*id)).map(|id| Hold { id: id.clone(), until: None });
    let new = now.iter().filter(|(id, until)| before.get(*id) != Some(until));
    gone.chain(new.map(|(id, until)| Hold { id: id.clone(), until: Some(*until) })).collect()
}
