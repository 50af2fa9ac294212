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
    /// A call was answered over the connection that `Told::Hold` asked for.
    Held {
        /// SPIFFE ID of the peer.
        id: String,
    },
    /// This agent's SDK closed a live connection.
    HungUp(HungUp),
    /// What a process that was made of this agent got of the Workload API; it ended after that.
    Asked(Asked),
}

/// A live connection that the SDK closed because its peer is no longer trusted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HungUp {
    /// SPIFFE ID of the peer.
    pub id: String,
    /// Which end of the connection the agent was.
    pub end: End,
    /// Microseconds since 1970.
    pub at_us: u64,
    /// What became of the next handshake with that peer; of the calling end only.
    pub again: Option<String>,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was called.
    Called,
    /// It made the calls.
    Calling,
}

/// Answers of the Workload API: the SPIFFE ID that was given, or the refusal.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Asked {
    /// How the process came to be.
    pub by: Birth,
    /// Its process id.
    pub pid: u32,
    /// Asked for an X509-SVID.
    pub x509: Result<String, String>,
    /// Asked for a JWT-SVID.
    pub jwt: Result<String, String>,
}

/// How a process comes from another; both run the agent's program anew, for the same user.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Birth {
    /// The agent replaced itself.
    Exec,
    /// A child.
    Fork,
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
    /// Call these peers over a connection that is kept for seconds, in place of a new one each second.
    Hold {
        /// SPIFFE IDs.
        ids: Vec<String>,
    },
    /// Make another process of yourself, which asks for an identity and a token.
    Bear {
        /// Which.
        by: Birth,
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
