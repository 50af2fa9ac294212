//! What is spoken with a server: SPIRE's gRPC over its admin socket and over mTLS, and nothing else.

mod admin;
mod dial;
mod issued;
mod key;
mod node;
mod sync;

pub use admin::{Admin, NewEntry};
pub use dial::Dialer;
pub use issued::issued;
pub use key::{certified, csr};
pub use node::{Link, Node};
pub use sync::{Known, SyncBy, synchronise};

/// Largest answer taken: 10,000 entries of 400 bytes fit.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A word for a failed call, as it is counted in `errors`: the gRPC code, or `Lost` where nobody answered.
pub fn word(status: &tonic::Status) -> String {
    match chancery_sdk::peer::connection_lost(status) {
        true => "Lost".into(),
        false => format!("{:?}", status.code()),
    }
}
