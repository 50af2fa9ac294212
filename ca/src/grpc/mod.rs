//! The protocol front: converts, calls one use case, converts. gRPC statuses are made here only.

pub mod accept;
pub mod admin;
pub mod agent;
pub mod authority;
pub mod bundle;
pub mod entry;
mod evidence;
pub mod health;
pub mod layer;
pub mod node;
mod page;
pub mod peer;
pub mod selftest;
pub mod status;
pub mod svid;
pub mod watch;
mod wire;

use std::sync::Arc;

use chancery_proto::{
    chancery::{admin::v1::admin_server::AdminServer, node::v1::node_server::NodeServer},
    spire::api::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        entry::v1::entry_server::EntryServer, localauthority::v1::local_authority_server::LocalAuthorityServer,
        svid::v1::svid_server::SvidServer,
    },
};
use tonic::{
    service::Routes,
    transport::{Server, server::Router},
};
use tower::layer::util::{Identity, Stack};

use self::layer::GateLayer;
use crate::State;

/// Largest message of an attestation: a 1 MiB event log and everything around it.
const ATTEST_BYTES: usize = (1 << 20) + (128 << 10);
/// Calls at once on one connection.
const STREAMS: u32 = 1024;
/// Largest header list of a call.
const HEADER_BYTES: u32 = 16 << 10;
/// A door's services behind the gate.
pub type Door = Router<Stack<GateLayer, Identity>>;

/// What both doors serve.
pub fn services(state: &Arc<State>) -> Routes {
    Routes::default()
        .add_service(AgentServer::new(agent::AgentService::new(state)).max_decoding_message_size(ATTEST_BYTES))
        .add_service(BundleServer::new(bundle::BundleService::new(state)))
        .add_service(EntryServer::new(entry::Service::new(Arc::clone(state))))
        .add_service(LocalAuthorityServer::new(authority::Service::new(Arc::clone(state))))
        .add_service(SvidServer::new(svid::Service::new(Arc::clone(state))))
        .add_service(NodeServer::new(node::Service::new(Arc::clone(state))))
        .add_service(AdminServer::new(admin::Service::new(Arc::clone(state))))
}

/// The TCP door.
pub fn tcp(state: &Arc<State>) -> Door {
    // Without a grace: with one, tonic asks nobody to close and cuts the connection when both are over.
    let server = builder().max_connection_age(state.config.limits.connection_age.0);
    server.layer(GateLayer::new(state)).add_routes(services(state))
}

/// The admin socket.
pub fn local(state: &Arc<State>) -> Door {
    let routes = services(state).add_service(health::service(state));
    builder().layer(GateLayer::new(state)).add_routes(routes)
}

fn builder() -> Server {
    Server::builder().max_concurrent_streams(STREAMS).http2_max_header_list_size(HEADER_BYTES)
}
