//! What SPIRE's agent asks every few seconds: its entries.

use std::collections::HashMap;

use chancery_proto::spire::api::{
    server::entry::v1::{
        EntryRevision, GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
        entry_client::EntryClient,
    },
    types::{Entry, EntryMask},
};
use clap::ValueEnum;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Link, MAX_ANSWER_BYTES};

/// Which call a synchronisation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum, serde::Deserialize, serde::Serialize)]
pub enum SyncBy {
    /// GetAuthorizedEntries: all entries, each time.
    Get,
    /// SyncAuthorizedEntries: above 500 entries revisions first, then what changed; SPIRE's agent by default.
    Sync,
}

/// Entries a node knows, ID -> (revision, created at); kept where the server answers by revisions.
#[derive(Debug, Default)]
pub struct Known(HashMap<String, (i64, i64)>);

/// Asks for the entries of the node; answers how many there are. `seen` is shown each that came whole.
///
/// # Errors
/// The server's status, or `Internal` for an exchange that is not as SPIRE's.
pub async fn synchronise(
    link: &Link,
    by: SyncBy,
    known: &mut Known,
    mut seen: impl FnMut(&Entry),
) -> Result<u64, Status> {
    match by {
        SyncBy::Get => {
            let answer = link.call(|channel| async {
                let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.get_authorized_entries(GetAuthorizedEntriesRequest { output_mask: Some(mask()) }).await
            });
            let entries = answer.await?.entries;
            entries.iter().for_each(&mut seen);
            Ok(entries.len() as u64)
        }
        SyncBy::Sync => exchange(link, known, seen).await,
    }
}

/// The exchange of spire-wire 1.3: entries at once, or pages of revisions and then what is new by ID.
async fn exchange(link: &Link, known: &mut Known, mut seen: impl FnMut(&Entry)) -> Result<u64, Status> {
    let first = SyncAuthorizedEntriesRequest { output_mask: Some(mask()), ids: Vec::new() };
    let (asks, mut answers) = opened(link, first).await?;
    let mut page = next(&mut answers).await?;
    if page.entry_revisions.is_empty() {
        page.entries.iter().for_each(&mut seen);
        known.0.clear();
        end(asks, answers).await?;
        return Ok(page.entries.len() as u64);
    }
    // As many IDs in a request as the first page had revisions: so does SPIRE's agent.
    let size = page.entry_revisions.len();
    let mut revisions = std::mem::take(&mut page.entry_revisions);
    while page.more {
        page = next(&mut answers).await?;
        revisions.append(&mut page.entry_revisions);
    }
    for ids in known.wanted(&revisions).chunks(size) {
        let ask = SyncAuthorizedEntriesRequest { output_mask: None, ids: ids.to_vec() };
        asks.send(ask).await.map_err(|_| Status::internal("the exchange ended before its last request"))?;
        loop {
            let page = next(&mut answers).await?;
            page.entries.iter().for_each(&mut seen);
            if !page.more {
                break;
            }
        }
    }
    end(asks, answers).await?;
    known.0 = revisions.into_iter().map(|r| (r.id, (r.revision_number, r.created_at))).collect();
    Ok(known.0.len() as u64)
}

type Exchange = (mpsc::Sender<SyncAuthorizedEntriesRequest>, Streaming<SyncAuthorizedEntriesResponse>);

async fn opened(link: &Link, first: SyncAuthorizedEntriesRequest) -> Result<Exchange, Status> {
    // Tried again over a new connection, the request has to be there again: so the queue is made in here.
    let sender = std::sync::Mutex::new(None);
    let answers = link
        .call(|channel| {
            let (asks, queue) = mpsc::channel(1);
            let begun = asks.try_send(first.clone());
            *sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(asks);
            async move {
                begun.map_err(|_| Status::internal("a new queue is full"))?;
                let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.sync_authorized_entries(ReceiverStream::new(queue)).await
            }
        })
        .await?;
    let asks = sender.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok((asks.ok_or_else(|| Status::internal("no request was sent"))?, answers))
}

async fn next(answers: &mut Streaming<SyncAuthorizedEntriesResponse>) -> Result<SyncAuthorizedEntriesResponse, Status> {
    answers.message().await?.ok_or_else(|| Status::internal("the server ended the exchange before its last page"))
}

/// Closes our half and waits for the server's, so that it ends the exchange itself and does not see it reset.
async fn end(
    asks: mpsc::Sender<SyncAuthorizedEntriesRequest>,
    mut answers: Streaming<SyncAuthorizedEntriesResponse>,
) -> Result<(), Status> {
    drop(asks);
    while answers.message().await?.is_some() {}
    Ok(())
}

impl Known {
    /// IDs whose entry is not the one that is known.
    fn wanted(&self, revisions: &[EntryRevision]) -> Vec<String> {
        let is_new = |r: &&EntryRevision| self.0.get(&r.id) != Some(&(r.revision_number, r.created_at));
        revisions.iter().filter(is_new).map(|r| r.id.clone()).collect()
    }
}

/// The fields SPIRE's agent asks for.
fn mask() -> EntryMask {
    EntryMask {
        spiffe_id: true,
        selectors: true,
        federates_with: true,
        admin: true,
        downstream: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        additional_attributes: true,
        created_at: true,
        ..EntryMask::default()
    }
}
