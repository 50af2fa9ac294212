//! What the demo and its agents say to each other: JSON lines over standard input and output.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Said by an agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub enum Said {
    /// The first identity, and every rotation of it.
    Identity {
        /// SPIFFE ID of the instance.
        id: String,
        /// Where the agent answers calls.
        address: SocketAddr,
        /// Serial number of the SVID, decimal.
        serial: String,
        /// SHA-256 of the SVID's public key, hex.
        key: String,
        /// notAfter, Unix seconds.
        not_after: i64,
    },
    /// The attestor gives this process no identity any more.
    Lost,
    /// Counters since the start, by peer ID; about once a second.
    Stats {
        /// One row a peer.
        peers: BTreeMap<String, Counts>,
    },
    /// Key and SVID were written where `Told::Export` asked.
    Exported,
}

/// Calls of one agent to one peer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Counts {
    /// Answered calls.
    pub calls: u64,
    /// New TLS connections.
    pub handshakes: u64,
    /// Calls or connections that failed.
    pub failures: u64,
    /// The newest failure.
    pub last_failure: String,
}

/// Told to an agent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "tell")]
pub enum Told {
    /// Whom to call, and whose calls to accept: exactly these.
    Peers {
        /// All other instances.
        peers: Vec<PeerAddress>,
        /// Milliseconds from one call to the next, to each of them.
        call_every_ms: u64,
    },
    /// Write key and SVID to a folder, as a thief with this process' uid could.
    Export {
        /// An existing folder.
        folder: PathBuf,
    },
    /// Call this peer no more: it was stopped on purpose.
    Forget {
        /// SPIFFE ID.
        id: String,
    },
}

/// An instance and where it answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerAddress {
    /// SPIFFE ID.
    pub id: String,
    /// Where it answers calls.
    pub address: SocketAddr,
}
