use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{moment::Moment, server::SyncBy, stats::Tally};

/// What a crew has to know before its first order.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Setting {
    pub server: SocketAddr,
    /// Name of the trust domain.
    pub domain: String,
    /// What is trusted at first.
    pub bundle_pem: String,
    /// Number of this crew's first node in the whole fleet.
    pub base: usize,
    /// Addresses connections come from, in turn.
    pub sources: Vec<IpAddr>,
}

/// How nodes learn of changes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Polling {
    /// Follow a stream of ours instead of asking every so often.
    pub native: bool,
    pub interval_ms: u64,
    pub by: SyncBy,
    /// Entries whose path begins like this are clocked when a node first sees them.
    pub clocked: Option<String>,
    /// Rotate when the authority is tainted, at a moment of the node's own within so many milliseconds.
    pub rotate_within_ms: Option<u64>,
    /// Rotations are counted by seconds since this moment.
    pub zero: Moment,
}

/// What a crew is to do. It answers when it is done, or when the run is stopped.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Order {
    /// Attest a node with each token; answers their paths.
    Attest { tokens: Vec<String>, parallel: usize },
    /// Wait until every node has seen the clocked entry `path`, or node `only` of the fleet has.
    Await { path: String, only: Option<usize>, within_ms: u64 },
    /// Connect every node, and make its first call.
    Connect { parallel: usize },
    /// Wait until every node that follows has had its first state.
    Followed { within_ms: u64 },
    /// Stop polling; answers what it came to.
    Halt,
    /// Have the SVID of every entry of every node issued: each at a moment of its own within the time after `at`.
    Issue { at: Moment, within_ms: u64 },
    /// Begin to poll, or to follow.
    Poll(Polling),
    /// Answer what polling came to so far, and forget it.
    Read,
    /// Drop every connection, and be back: each node begins at a moment of its own within the time after `at`.
    Reconnect { at: Moment, within_ms: u64, patience_ms: u64 },
    /// Renew every node's SVID: each begins at a moment of its own within the time after `at`.
    Renew { at: Moment, within_ms: u64 },
    /// Come to an end with what is under way.
    Stop,
}

/// What an order came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Answer {
    pub tally: Tally,
    /// Path of each node that was attested, by its number in the fleet.
    pub nodes: BTreeMap<usize, String>,
    /// When which node saw the entry that was awaited.
    pub arrivals: BTreeMap<usize, Moment>,
    /// The first failure, for people.
    pub problem: Option<String>,
}

impl Answer {
    /// Adds another crew's answer.
    pub fn merge(&mut self, other: Self) {
        self.tally.merge(&other.tally);
        self.nodes.extend(other.nodes);
        self.arrivals.extend(other.arrivals);
        self.problem = self.problem.take().or(other.problem);
    }
}
