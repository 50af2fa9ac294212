//! Connections between peers: who is at the other end, and for how long.
//!
//! [`Acceptor`] and [`Connector`] do the handshake and hand out a [`GuardedStream`], which knows its
//! peer and ends itself when the peer's certificate does. Helpers carry that into tonic
//! ([`Incoming`], [`Connector`] as a tower service) and into hyper and axum ([`serve`]). A handler
//! finds the [`PeerIdentity`] in the request's extensions.

mod accept;
mod connect;
mod guarded;
mod identity;
mod lost;
mod serve;

use std::time::Duration;

pub use accept::{Acceptor, Incoming};
pub use connect::{Connector, PeerIo};
pub use guarded::{GuardedStream, RECHECK};
pub use identity::PeerIdentity;
pub use lost::connection_lost;
pub use serve::{SHUTDOWN_GRACE, serve};

/// How long a handshake may take in either role.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
