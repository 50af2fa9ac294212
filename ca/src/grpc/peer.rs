//! How handlers learn who is calling: facts of the connection, and the gate's word on it.

use std::sync::Arc;

use tonic::{Extensions, Status};

use crate::gate::Caller;
pub use crate::peer::{LocalPeer, Peer};

/// The connection's facts, put there by the accept loop.
///
/// # Errors
/// INTERNAL on a transport that has none; then nothing is served.
pub fn peer(extensions: &Extensions) -> Result<Arc<Peer>, Status> {
    extensions.get::<Arc<Peer>>().cloned().ok_or_else(|| Status::internal("connection without facts"))
}

/// Who the gate let in; every handler asks this first.
///
/// # Errors
/// INTERNAL when the gate was not passed: a handler cannot run without it.
pub fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    extensions.get::<Caller>().cloned().ok_or_else(|| Status::internal("call did not pass the gate"))
}
