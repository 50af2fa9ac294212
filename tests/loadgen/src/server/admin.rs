//! The operators' socket: tokens, entries, authorities. Everything that is made here is removed here.

use std::path::{Path, PathBuf};

use chancery_proto::spire::api::{
    server::{
        agent::v1::{CreateJoinTokenRequest, DeleteAgentRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        entry::v1::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, ListEntriesRequest, entry_client::EntryClient,
            list_entries_request::Filter,
        },
        localauthority::v1::{
            ActivateX509AuthorityRequest, GetX509AuthorityStateRequest, PrepareX509AuthorityRequest,
            TaintX509AuthorityRequest, local_authority_client::LocalAuthorityClient,
        },
    },
    types::{Bundle, Entry, EntryMask, Selector, Spiffeid},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::MAX_ANSWER_BYTES;

/// Life of a token in seconds: from its making to its use a few pass, ten thousand nodes take minutes.
const TOKEN_SECS: i32 = 3600;
/// Entries made or deleted in one call.
const BATCH: usize = 200;

/// Speaks to the admin socket. Clones share a connection.
#[derive(Clone)]
pub struct Admin {
    channel: Channel,
}

/// An entry to be made.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Path of the parent's ID.
    pub parent: String,
    /// Path of its ID.
    pub path: String,
    /// The one selector.
    pub selector: (String, String),
}

impl Admin {
    /// Connects.
    ///
    /// # Errors
    /// The socket, and what to look at.
    pub async fn connect(socket: &Path) -> Result<Self, String> {
        let say = |e: &dyn std::fmt::Display| {
            let socket = socket.display();
            format!("--admin-socket {socket}: {e}; is the server up, and may you open its socket (root, or its user)?")
        };
        // Tried by hand first: the transport's error hides why.
        UnixStream::connect(socket).await.map_err(|e| say(&e))?;
        let path = PathBuf::from(socket);
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // What gRPC's other clients send over a UNIX socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        Ok(Self { channel: channel.map_err(|e| say(&e))? })
    }

    /// The trust domain's bundle.
    ///
    /// # Errors
    /// What the server says.
    pub async fn bundle(&self) -> Result<Bundle, String> {
        let answer = BundleClient::new(self.channel.clone()).get_bundle(GetBundleRequest::default()).await;
        answer.map(tonic::Response::into_inner).map_err(|e| said("GetBundle", &e))
    }

    /// A token for one node; with `alias` the node also goes by that ID, which many nodes may share.
    ///
    /// # Errors
    /// What the server says.
    pub async fn token(&self, alias: Option<Spiffeid>) -> Result<String, String> {
        let request = CreateJoinTokenRequest { ttl: TOKEN_SECS, token: String::new(), agent_id: alias };
        match AgentClient::new(self.channel.clone()).create_join_token(request).await {
            Ok(answer) => Ok(answer.into_inner().value),
            Err(e) => Err(format!(
                "{}; does the server take join tokens (chancery-ca: node_attestors = [\"join_token\"])?",
                said("CreateJoinToken", &e)
            )),
        }
    }

    /// Makes entries; answers their IDs, in order.
    ///
    /// # Errors
    /// What the server says of the first that it did not make.
    pub async fn create(&self, domain: &str, entries: &[NewEntry]) -> Result<Vec<String>, String> {
        let mut ids = Vec::with_capacity(entries.len());
        for some in entries.chunks(BATCH) {
            let entries = some.iter().map(|entry| entry.message(domain)).collect();
            let request = BatchCreateEntryRequest { entries, output_mask: Some(EntryMask::default()) };
            let answer = self.entries().batch_create_entry(request).await.map_err(|e| said("BatchCreateEntry", &e))?;
            for result in answer.into_inner().results {
                let status = result.status.unwrap_or_default();
                match result.entry.filter(|_| status.code == Code::Ok as i32) {
                    Some(entry) => ids.push(entry.id),
                    None => return Err(format!("BatchCreateEntry: {} ({})", status.message, status.code)),
                }
            }
        }
        Ok(ids)
    }

    /// Deletes entries; those that are gone already are no error.
    ///
    /// # Errors
    /// What the server says.
    pub async fn delete(&self, ids: &[String]) -> Result<(), String> {
        for some in ids.chunks(BATCH) {
            let request = BatchDeleteEntryRequest { ids: some.to_vec() };
            self.entries().batch_delete_entry(request).await.map_err(|e| said("BatchDeleteEntry", &e))?;
        }
        Ok(())
    }

    /// IDs of the entries whose SPIFFE ID this is.
    ///
    /// # Errors
    /// What the server says.
    pub async fn entries_of(&self, id: Spiffeid) -> Result<Vec<String>, String> {
        let filter = Filter { by_spiffe_id: Some(id), ..Filter::default() };
        let request =
            ListEntriesRequest { filter: Some(filter), output_mask: Some(EntryMask::default()), ..Default::default() };
        let answer = self.entries().list_entries(request).await.map_err(|e| said("ListEntries", &e))?;
        Ok(answer.into_inner().entries.into_iter().map(|entry| entry.id).collect())
    }

    /// Forgets a node; one that is gone already is no error.
    ///
    /// # Errors
    /// What the server says.
    pub async fn evict(&self, id: Spiffeid) -> Result<(), String> {
        let request = DeleteAgentRequest { id: Some(id) };
        match AgentClient::new(self.channel.clone()).delete_agent(request).await {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Code::NotFound => Ok(()),
            Err(e) => Err(said("DeleteAgent", &e)),
        }
    }

    /// Prepares a new X.509 authority; answers the active one's ID and the prepared one's.
    ///
    /// # Errors
    /// What the server says.
    pub async fn prepare_authority(&self) -> Result<(String, String), String> {
        let mut client = LocalAuthorityClient::new(self.channel.clone());
        let state = client.get_x509_authority_state(GetX509AuthorityStateRequest {}).await;
        let active = state.map_err(|e| said("GetX509AuthorityState", &e))?.into_inner().active;
        let made = client.prepare_x509_authority(PrepareX509AuthorityRequest {}).await;
        let made = made.map_err(|e| said("PrepareX509Authority", &e))?.into_inner().prepared_authority;
        match (active, made) {
            (Some(active), Some(made)) => Ok((active.authority_id, made.authority_id)),
            _ => Err("PrepareX509Authority: the server names no authority".into()),
        }
    }

    /// The prepared authority signs from now on, and what the one before signed is to be replaced.
    ///
    /// # Errors
    /// What the server says.
    pub async fn activate_and_taint(&self, prepared: &str, before: &str) -> Result<(), String> {
        let mut client = LocalAuthorityClient::new(self.channel.clone());
        let activate = ActivateX509AuthorityRequest { authority_id: prepared.into() };
        client.activate_x509_authority(activate).await.map_err(|e| said("ActivateX509Authority", &e))?;
        let taint = TaintX509AuthorityRequest { authority_id: before.into() };
        client.taint_x509_authority(taint).await.map_err(|e| said("TaintX509Authority", &e))?;
        Ok(())
    }

    fn entries(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

impl NewEntry {
    fn message(&self, domain: &str) -> Entry {
        let id = |path: &str| Some(Spiffeid { trust_domain: domain.into(), path: path.into() });
        let (kind, value) = self.selector.clone();
        Entry {
            spiffe_id: id(&self.path),
            parent_id: id(&self.parent),
            selectors: vec![Selector { r#type: kind, value }],
            ..Entry::default()
        }
    }
}

fn said(method: &str, status: &Status) -> String {
    format!("{method}: {} ({:?})", status.message(), status.code())
}
