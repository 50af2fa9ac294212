//! A node that follows its stream (`chancery.node.v1.Watch`), as our attestor does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chancery_proto::chancery::node::v1::{Cursor, WatchRequest, WatchResponse, node_client::NodeClient};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{member::Member, poll::Shared, rotation::Rotation};
use crate::{
    dice::Dice,
    moment::Moment,
    server::{MAX_ANSWER_BYTES, word},
};

/// Without a stream a node asks again within this time, at a moment of its own.
const REST: Duration = Duration::from_secs(2);

/// What a node's first state is noted under: no entry has such a path.
pub(super) const FIRST_STATE: &str = "first state";

/// Follows until `stop`, from stream to stream.
pub(super) async fn watch(member: Arc<Member>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut dice = Dice::new(member.index as u64);
    let mut rotation = Rotation::new(&member, &mut dice);
    let mut cursor = None;
    loop {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            ended = follow(&member, &shared, &mut rotation, &mut cursor) => ended,
        };
        if let Err(status) = ended {
            shared.ledger.open().call("watch", Duration::ZERO, Err(word(&status)));
            let rest = REST.mul_f64(dice.share());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            let _ = member.connect(&shared.ledger).await;
        }
    }
}

/// One stream, until the server ends it or the node renews: that closes the connection.
async fn follow(
    member: &Member,
    shared: &Shared,
    rotation: &mut Rotation,
    cursor: &mut Option<Cursor>,
) -> Result<(), Status> {
    let link = member.link()?;
    let asked = Instant::now();
    let request = WatchRequest { cursor: cursor.clone(), ..WatchRequest::default() };
    let opened = link.call(|channel| {
        let mut client = NodeClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let request = request.clone();
        async move { client.watch(request).await }
    });
    let mut messages = opened.await?;
    let mut first = true;
    loop {
        let renew = rotation.due(&shared.polling);
        let told = tokio::select! {
            told = told(&mut messages) => told?,
            () = sleep_until(renew.into()) => {
                if rotation.look(member, shared).await {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(told) = told else { return Ok(()) };
        apply(member, shared, &told);
        *cursor = told.last().and_then(|last| last.cursor.clone()).or(cursor.take());
        if std::mem::take(&mut first) {
            shared.arrivals.note(FIRST_STATE, member.index, Moment::now());
            shared.ledger.open().call("watch", asked.elapsed(), Ok(1));
        }
        // A taint came with the bundle.
        if rotation.look(member, shared).await {
            return Ok(());
        }
    }
}

/// The messages that belong together; `None` when the stream has ended.
async fn told(messages: &mut Streaming<WatchResponse>) -> Result<Option<Vec<WatchResponse>>, Status> {
    let mut told = Vec::new();
    while let Some(message) = messages.message().await? {
        let more = message.more;
        told.push(message);
        if !more {
            return Ok(Some(told));
        }
    }
    Ok(None)
}

/// Notes what is clocked, and learns bundles.
fn apply(member: &Member, shared: &Shared, told: &[WatchResponse]) {
    let at = Moment::now();
    let paths = told.iter().flat_map(|message| &message.entries).filter_map(|entry| entry.spiffe_id.as_ref());
    let clocked = shared.polling.clocked.as_deref();
    for id in paths.filter(|id| clocked.is_some_and(|prefix| id.path.starts_with(prefix))) {
        shared.arrivals.note(&id.path, member.index, at);
    }
    let entries: usize = told.iter().map(|message| message.entries.len()).sum();
    let mut ledger = shared.ledger.open();
    ledger.count("deltas", 1);
    ledger.count("entries_told", entries as u64);
    drop(ledger);
    told.iter().flat_map(|message| &message.bundles).for_each(|bundle| shared.trust.learn(bundle));
}
