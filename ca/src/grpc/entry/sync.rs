//! SyncAuthorizedEntries: the exact exchange stock agents expect.
//!
//! Up to a page of entries comes whole and ends the stream; more come as revisions, and then as asked for.
//! Source: spire-wire 1.3.

use chancery_core::entry::{Entry, Mask};
use chancery_proto::spire::api::server::entry::v1::{
    EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::convert;

/// Most entries or revisions in one message, as in SPIRE.
pub const PAGE: usize = 500;

/// Where answers go; closed when the client hung up.
pub type Answers = mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>;

/// Answers one stream from its first request on; returns when either side is done.
pub async fn run(
    entries: Vec<Entry>,
    mut asked: impl Stream<Item = Result<SyncAuthorizedEntriesRequest, Status>> + Unpin,
    answers: Answers,
) {
    if let Err(status) = exchange(entries, &mut asked, &answers).await {
        // The client may be gone; then nobody is left to tell.
        let _ = answers.send(Err(status)).await;
    }
}

async fn exchange(
    entries: Vec<Entry>,
    asked: &mut (impl Stream<Item = Result<SyncAuthorizedEntriesRequest, Status>> + Unpin),
    answers: &Answers,
) -> Result<(), Status> {
    let Some(first) = asked.next().await.transpose()? else { return Ok(()) };
    if !first.ids.is_empty() {
        return Err(Status::invalid_argument("the first request may not name entries"));
    }
    if first.output_mask.as_ref().is_some_and(|mask| !mask.revision_number) {
        return Err(Status::invalid_argument("the mask must select revision_number"));
    }
    let mask = convert::mask(first.output_mask.as_ref());
    if entries.len() <= PAGE {
        return send_entries(entries.iter(), mask, answers).await;
    }
    send_revisions(&entries, answers).await?;
    while let Some(request) = asked.next().await.transpose()? {
        // Sorted by ID: the list came from the graph.
        let find = |id: &String| entries.binary_search_by(|e| e.id.as_str().cmp(id)).ok();
        let found: Vec<&Entry> = request.ids.iter().filter_map(find).filter_map(|at| entries.get(at)).collect();
        send_entries(found.into_iter(), mask, answers).await?;
    }
    Ok(())
}

/// At least one message, the last with `more = false`.
async fn send_entries(
    entries: impl ExactSizeIterator<Item = &Entry>,
    mask: Mask,
    answers: &Answers,
) -> Result<(), Status> {
    let all: Vec<_> = entries.map(|entry| convert::entry(entry, mask)).collect();
    for (page, more) in pages(all) {
        let answer = SyncAuthorizedEntriesResponse { entry_revisions: Vec::new(), entries: page, more };
        send(answers, answer).await?;
    }
    Ok(())
}

async fn send_revisions(entries: &[Entry], answers: &Answers) -> Result<(), Status> {
    let revision =
        |e: &Entry| EntryRevision { id: e.id.clone(), revision_number: e.revision, created_at: e.created_at.0 };
    for (page, more) in pages(entries.iter().map(revision).collect()) {
        let answer = SyncAuthorizedEntriesResponse { entry_revisions: page, entries: Vec::new(), more };
        send(answers, answer).await?;
    }
    Ok(())
}

/// Pages of at most [`PAGE`], each with whether more follow; one empty page for nothing.
fn pages<T>(mut rows: Vec<T>) -> Vec<(Vec<T>, bool)> {
    let mut pages = Vec::new();
    while rows.len() > PAGE {
        let rest = rows.split_off(PAGE);
        pages.push((std::mem::replace(&mut rows, rest), true));
    }
    pages.push((rows, false));
    pages
}

async fn send(answers: &Answers, answer: SyncAuthorizedEntriesResponse) -> Result<(), Status> {
    answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the client hung up"))
}

#[cfg(test)]
mod tests;
