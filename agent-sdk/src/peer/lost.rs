use std::error::Error;

use tonic::{Code, Status};

/// Whether a call failed because its connection was lost, and not by an answer of the server.
///
/// A lost connection shows as `Unknown`, `Cancelled` or `Unavailable`, by accident of timing. Whoever
/// made an idempotent call may then make it once more: the channel dials anew. After a handshake as a
/// client the first call may fail like this because the server refused us (see
/// [`Connector::connect`](super::Connector::connect)).
pub fn connection_lost(status: &Status) -> bool {
    // What a server sent has no source; what happened here has the transport's.
    let mut source = status.source();
    while let Some(fault) = source {
        if fault.is::<tonic::transport::Error>() || fault.is::<hyper::Error>() || fault.is::<std::io::Error>() {
            return matches!(status.code(), Code::Cancelled | Code::Internal | Code::Unavailable | Code::Unknown);
        }
        source = fault.source();
    }
    false
}
