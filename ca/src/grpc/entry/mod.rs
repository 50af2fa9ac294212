//! SPIRE's Entry service.

pub(super) mod convert;
mod sync;

use std::sync::Arc;

use chancery_core::entry::Mask;
use chancery_proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
        BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
        GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
        ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse, batch_create_entry_response,
        batch_delete_entry_response, batch_update_entry_response, entry_server, list_entries_request,
    },
    types,
};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

pub use self::convert::{seconds, selectors};
use super::{peer::caller, status};
use crate::{
    entries::{self, Created, Page},
    gate::Caller,
    state::State,
};

/// Most items in one batch.
pub const MAX_BATCH: usize = 500;

/// The service.
pub struct Service {
    state: Arc<State>,
}

impl Service {
    /// The service over a running CA.
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    async fn create_one(&self, entry: types::Entry, shown: Mask) -> batch_create_entry_response::Result {
        let created = match convert::draft(entry, Mask::ALL) {
            Ok(draft) => entries::create(&self.state, draft).await.map_err(status::of),
            Err(status) => Err(status),
        };
        let (status, entry) = match created {
            Ok(Created::New(entry)) => (status::ok(), Some(entry)),
            Ok(Created::Similar(entry)) => {
                let text = format!("similar entry already exists: '{}'", entry.id);
                (types::Status { code: Code::AlreadyExists.into(), message: text }, Some(entry))
            }
            Err(status) => (status::item(&status), None),
        };
        let entry = entry.map(|entry| convert::entry(&entry, shown));
        batch_create_entry_response::Result { status: Some(status), entry }
    }

    async fn update_one(&self, entry: types::Entry, chosen: Mask, shown: Mask) -> batch_update_entry_response::Result {
        let updated = match convert::draft(entry, chosen) {
            Ok(draft) => entries::update(&self.state, draft, chosen).await.map_err(status::of),
            Err(status) => Err(status),
        };
        match updated {
            Ok(entry) => batch_update_entry_response::Result {
                status: Some(status::ok()),
                entry: Some(convert::entry(&entry, shown)),
            },
            Err(status) => batch_update_entry_response::Result { status: Some(status::item(&status)), entry: None },
        }
    }
}

/// Refuses batches beyond [`MAX_BATCH`].
///
/// # Errors
/// RESOURCE_EXHAUSTED.
pub fn check_batch(len: usize) -> Result<(), Status> {
    if len > MAX_BATCH {
        return Err(Status::resource_exhausted(format!("{len} items exceed {MAX_BATCH} in one batch")));
    }
    Ok(())
}

/// The calling node, as the gate let it in.
///
/// # Errors
/// PERMISSION_DENIED for anybody else.
pub fn calling_node<T>(request: &Request<T>) -> Result<Arc<chancery_core::node::Node>, Status> {
    match caller(request.extensions())? {
        Caller::Node(node) => Ok(node),
        Caller::Admin(_) | Caller::Anyone | Caller::Downstream(_) | Caller::Local(_) => {
            Err(Status::permission_denied("only attested nodes may call this method"))
        }
    }
}

#[tonic::async_trait]
impl entry_server::Entry for Service {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        caller(request.extensions())?;
        let filter = request.into_inner().filter.map(|f| list_entries_request::Filter {
            by_spiffe_id: f.by_spiffe_id,
            by_parent_id: f.by_parent_id,
            by_selectors: f.by_selectors,
            by_federates_with: f.by_federates_with,
            by_hint: f.by_hint,
            by_downstream: f.by_downstream,
        });
        let filter = convert::filter(filter, &self.state.trust_domain)?;
        let (found, _) = entries::list(&self.state, &filter, &Page::default()).await.map_err(status::of)?;
        Ok(Response::new(CountEntriesResponse { count: i32::try_from(found.len()).unwrap_or(i32::MAX) }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let filter = convert::filter(request.filter, &self.state.trust_domain)?;
        let page = Page { size: request.page_size, token: request.page_token };
        let (found, next_page_token) = entries::list(&self.state, &filter, &page).await.map_err(status::of)?;
        let mask = convert::mask(request.output_mask.as_ref());
        let entries = found.iter().map(|entry| convert::entry(entry, mask)).collect();
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        let entry = entries::get(&self.state, &request.id).await.map_err(status::of)?;
        Ok(Response::new(convert::entry(&entry, convert::mask(request.output_mask.as_ref()))))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        check_batch(request.entries.len())?;
        let shown = convert::mask(request.output_mask.as_ref());
        // Handed over in order, and committed together.
        let results = join_all(request.entries.into_iter().map(|entry| self.create_one(entry, shown))).await;
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        caller(request.extensions())?;
        let request = request.into_inner();
        check_batch(request.entries.len())?;
        let chosen = convert::mask(request.input_mask.as_ref());
        let shown = convert::mask(request.output_mask.as_ref());
        let mut results = Vec::with_capacity(request.entries.len());
        for entry in request.entries {
            results.push(self.update_one(entry, chosen, shown).await);
        }
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        caller(request.extensions())?;
        let ids = request.into_inner().ids;
        check_batch(ids.len())?;
        let one = async |id: String| {
            let status = match entries::delete(&self.state, &id).await {
                Ok(()) => status::ok(),
                Err(problem) => status::item(&status::of(problem)),
            };
            batch_delete_entry_response::Result { status: Some(status), id }
        };
        let results = join_all(ids.into_iter().map(one)).await;
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let node = calling_node(&request)?;
        let mask = convert::mask(request.into_inner().output_mask.as_ref());
        let found = entries::authorized(&self.state, &node).await.map_err(status::of)?;
        let entries = found.iter().map(|entry| convert::entry(entry, mask)).collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream = ReceiverStream<Result<SyncAuthorizedEntriesResponse, Status>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let node = calling_node(&request)?;
        let found = entries::authorized(&self.state, &node).await.map_err(status::of)?;
        let (answers, stream) = mpsc::channel(2);
        let stopped = self.state.shutdown.soft.clone();
        let asked = request.into_inner();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = sync::run(found, asked, answers) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
