//! The admin socket: gRPC without TLS over a UNIX socket whose mode keeps everybody else out.

use std::path::Path;

use chancery_proto::{
    chancery::admin::v1::admin_client::AdminClient,
    spire::api::server::{
        agent::v1::agent_client::AgentClient, bundle::v1::bundle_client::BundleClient,
        entry::v1::entry_client::EntryClient, localauthority::v1::local_authority_client::LocalAuthorityClient,
        svid::v1::svid_client::SvidClient,
    },
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use super::failure::Failure;

/// Largest answer: a list of every entry of a large CA.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// A connection to the CA.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`Failure::Refused`] with what to do.
    pub async fn connect(socket: &Path) -> Result<Self, Failure> {
        // Tried by hand first: the transport's error hides why.
        if let Err(e) = UnixStream::connect(socket).await {
            let text = format!(
                "cannot reach the CA at {}: {e}; is `chancery-ca run` up, and is this its --socket?",
                socket.display()
            );
            return Err(Failure::refused(text));
        }
        let path = socket.to_owned();
        let connector = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://admin.sock");
        let channel = endpoint.connect_with_connector(connector).await;
        let told = |e| Failure::refused(format!("cannot talk to the CA at {}: {e}", socket.display()));
        Ok(Self { channel: channel.map_err(told)? })
    }

    pub fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn agent(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn bundle(&self) -> BundleClient<Channel> {
        BundleClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn entry(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    pub fn local_authority(&self) -> LocalAuthorityClient<Channel> {
        LocalAuthorityClient::new(self.channel.clone())
    }

    pub fn svid(&self) -> SvidClient<Channel> {
        SvidClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}
