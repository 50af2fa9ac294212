//! `chancery.node.v1.Watch`: what a node may have, and every change of it.
//!
//! A stream is a cursor and a flag; it has no task and no queue but the messages of the answer being sent.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use chancery_core::{digest, entry::Mask};
use chancery_daemon::jitter::jittered;
use chancery_proto::{
    chancery::{
        agent::v1::{Hold, Revocation, Scope},
        node::v1::{self as pb, WatchResponse},
    },
    spire::api::types,
};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tonic::Status;

use super::{bundle, entry::convert, node, status};
use crate::{
    authority::{Published, chain},
    bundles,
    log::witness::{ForNode, Witnessing},
    metrics::Metrics,
    state::State,
    view::{Cursor, Delta, Held, Revoked, StoredCrl, Watching, What},
};

/// Entries, classes or IDs in one message; as SPIRE's page.
const PAGE: usize = 500;
/// Least time between two messages with revocations or holds to one node; the first goes at once.
const QUIET: Duration = Duration::from_millis(250);

/// Messages to one node.
pub type Watch = BoxStream<'static, Result<WatchResponse, Status>>;

struct Feed {
    state: Arc<State>,
    watching: Watching,
    published: watch::Receiver<Arc<Published>>,
    /// The record's newest checkpoint, as this node is told of it.
    witnessing: Witnessing,
    /// Messages of the answer being sent.
    pending: VecDeque<WatchResponse>,
    /// Changes wait until then: a revocation was sent a moment ago, and those that follow it go together.
    quiet: Option<Instant>,
    /// Nothing more comes.
    ended: bool,
    /// The end: a connection that is asked to close waits for its streams.
    age: Pin<Box<Sleep>>,
}

/// Opens the stream of a node that has applied what the request says.
///
/// # Errors
/// UNAVAILABLE while the view is too old; RESOURCE_EXHAUSTED while earlier streams of the node are not closed yet; the
/// standing's own code where the node has none.
pub fn open(state: &Arc<State>, node: &chancery_core::node::Node, request: pb::WatchRequest) -> Result<Watch, Status> {
    let cursor = request.cursor.map(|c| Cursor { epoch: c.epoch, number: c.number, hash: c.hash });
    let begun = state.view.watch(node).and_then(|watching| Ok((watching.begin(cursor.as_ref())?, watching)));
    let began = match (&begun, &cursor) {
        (Err(_), _) => "refused",
        (Ok((first, _)), _) if !first.full => "resumed",
        (Ok(_), Some(_)) => "reset",
        (Ok(_), None) => "new",
    };
    Metrics::count(&state.metrics.watches, "began", began);
    let (first, watching) = begun.map_err(status::of)?;
    let mut published = state.authority.published();
    published.mark_unchanged();
    let pending = messages(state, Some(first), true);
    let age = Box::pin(sleep(jittered(state.config.limits.connection_age.0)));
    let witnessing = Witnessing::new(state, &request.witnessed);
    let feed =
        Feed { state: Arc::clone(state), watching, published, witnessing, pending, quiet: None, ended: false, age };
    Ok(stream::unfold(feed, step).boxed())
}

async fn step(mut feed: Feed) -> Option<(Result<WatchResponse, Status>, Feed)> {
    loop {
        if let Some(message) = feed.pending.pop_front() {
            return Some((Ok(message), feed));
        }
        if feed.ended {
            return None;
        }
        if feed.watching.is_over() {
            feed.ended = true;
            return Some((Err(Status::unavailable("the node opened another stream")), feed));
        }
        let own = tokio::select! {
            () = feed.state.shutdown.soft.cancelled() => {
                feed.ended = true;
                return Some((Err(Status::unavailable("the server stops; ask another one")), feed));
            }
            () = &mut feed.age => return None,
            () = sleep_until(feed.quiet.unwrap_or_else(Instant::now)), if feed.quiet.is_some() => {
                feed.quiet = None;
                continue;
            }
            () = feed.watching.concerned(), if feed.quiet.is_none() => false,
            // The sender is part of the state that we hold.
            _ = feed.published.changed() => true,
            told = feed.witnessing.next() => {
                feed.pending.push_back(checkpoint(&feed.state, told));
                continue;
            }
        };
        match feed.watching.next() {
            Ok(delta) => {
                let revokes = delta.as_ref().is_some_and(|delta| !(delta.revoked.is_empty() && delta.held.is_empty()));
                feed.quiet = revokes.then(|| Instant::now() + QUIET);
                feed.pending = messages(&feed.state, delta, own);
            }
            Err(problem) => {
                feed.ended = true;
                return Some((Err(status::of(problem)), feed));
            }
        }
    }
}

/// The message that says this, and nothing else.
fn checkpoint(state: &State, told: ForNode) -> WatchResponse {
    let checkpoint = pb::Checkpoint {
        note: told.note,
        from: told.from,
        consistency: told.consistency.into_iter().map(Vec::from).collect(),
        keys: state.log.keys(&state.config).into_iter().map(Vec::from).collect(),
    };
    WatchResponse { checkpoint: Some(checkpoint), ..WatchResponse::default() }
}

/// The messages that say this; none for nothing. `own`: the trust domain's own bundle goes along.
fn messages(state: &State, delta: Option<Delta>, own: bool) -> VecDeque<WatchResponse> {
    let mut bundles: Vec<types::Bundle> = if own { vec![bundle::own(state)] } else { Vec::new() };
    let Some(delta) = delta else {
        let told = WatchResponse { bundles, ..WatchResponse::default() };
        return if own { [told].into() } else { VecDeque::new() };
    };
    let foreign = delta.bundles.iter().filter_map(|stored| bundles::parse(stored).ok());
    bundles.extend(foreign.map(|parsed| bundle::write(&parsed, None)));
    let digest = delta.full.then(|| digest(&delta));
    let revocations: Vec<_> = delta.revoked.iter().map(|row| revocation(row)).collect();
    let revocations_digest = delta.full.then(|| digest::of_revocations(revocations.iter().map(row)));
    let holds: Vec<_> = delta.held.iter().map(hold).collect();
    let holds_digest =
        delta.full.then(|| digest::of_holds(holds.iter().map(|one| (one.spiffe_id.as_str(), one.until))));
    let mut holds = holds.into_iter().peekable();
    let mut revocations = revocations.into_iter().peekable();
    let mut messages: VecDeque<WatchResponse> = VecDeque::new();
    let mut entries = delta.entries.iter().map(|entry| convert::entry(entry, Mask::ALL)).peekable();
    let mut removed = delta.gone_entries.into_iter().peekable();
    while entries.peek().is_some() || removed.peek().is_some() || revocations.peek().is_some() || holds.peek().is_some()
    {
        messages.push_back(WatchResponse {
            entries: entries.by_ref().take(PAGE).collect(),
            removed_entries: removed.by_ref().take(PAGE).collect(),
            revocations: revocations.by_ref().take(PAGE).collect(),
            holds: holds.by_ref().take(PAGE).collect(),
            more: true,
            ..WatchResponse::default()
        });
    }
    // One is as large as a page of anything else.
    let lists = delta.crls.iter().map(|crl| list(crl));
    messages.extend(lists.map(|crl| WatchResponse { crls: vec![crl], more: true, ..WatchResponse::default() }));
    let last = messages.pop_back().unwrap_or_default();
    messages.push_back(WatchResponse {
        more: false,
        cursor: Some(pb::Cursor { epoch: delta.cursor.epoch, number: delta.cursor.number, hash: delta.cursor.hash }),
        classes: delta.classes.into_iter().map(node::class).collect(),
        removed_classes: delta.gone_classes,
        bundles,
        removed_bundles: delta.gone_bundles.iter().map(|domain| domain.name().to_owned()).collect(),
        ended_instances: delta.ended.iter().map(ToString::to_string).collect(),
        digest: digest.map(Vec::from).unwrap_or_default(),
        revocations_digest: revocations_digest.map(Vec::from).unwrap_or_default(),
        revoked_at: delta.revoked_at.map_or(0, |at| at.0),
        holds_digest: holds_digest.map(Vec::from).unwrap_or_default(),
        ..last
    });
    if let Some(first) = messages.front_mut() {
        first.full = delta.full;
    }
    messages
}

fn digest(delta: &Delta) -> [u8; 32] {
    digest::of_registered(
        delta.entries.iter().map(|entry| (entry.id.as_str(), entry.revision)),
        delta.classes.iter().map(|offered| (offered.class.name.as_str(), offered.class.revision)),
    )
}

/// Writes a CA's list.
fn list(crl: &StoredCrl) -> pb::Crl {
    let chain = chain::concatenated(&crl.chain);
    pb::Crl { der: crl.der.clone(), issuer_chain: chain.into_iter().map(|der| der.to_vec()).collect() }
}

/// Writes a hold; one that is over, or was released, ends at 0.
fn hold(held: &Held) -> Hold {
    Hold { spiffe_id: held.subject.clone(), until: held.until.map_or(0, |until| until.0) }
}

/// Writes a revocation.
fn revocation(row: &Revoked) -> Revocation {
    let (spiffe_id, expires_at) = (row.subject.clone(), row.expires_at.0);
    let of = |scope: Scope| Revocation { scope: scope.into(), spiffe_id, expires_at, ..Revocation::default() };
    match &row.what {
        What::All => of(Scope::All),
        What::Certificate(certificate) => Revocation {
            authority_id: certificate.authority.clone(),
            serial_number: certificate.serial.clone(),
            ..of(Scope::Certificate)
        },
        What::Tokens { issued_until } => Revocation { issued_until: issued_until.0, ..of(Scope::Tokens) },
    }
}

fn row(r: &Revocation) -> digest::RevocationRow<'_> {
    (r.scope, &r.spiffe_id, &r.authority_id, &r.serial_number, r.issued_until, r.expires_at)
}

#[cfg(test)]
mod tests;
