//! The one registry of live connections: what is revoked is also cut.
//!
//! Accept registers first and asks for the standing second, so that a revocation in between hits one of the two.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chancery_sdk::id::SpiffeId;
use tokio_util::sync::CancellationToken;

use crate::peer::Peer;

/// Every open connection and the means to close it.
#[derive(Debug, Default)]
pub struct LivePeers {
    // Guards the list; held for one insert, removal or walk, never over an await.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    peers: HashMap<u64, (Arc<Peer>, CancellationToken)>,
}

/// A connection's place in the registry; given up when dropped.
#[derive(Debug)]
pub struct Lease {
    /// The facts.
    pub peer: Arc<Peer>,
    /// Cancelled when the connection must go.
    pub cut: CancellationToken,
    number: u64,
    live: Arc<LivePeers>,
}

impl LivePeers {
    /// Lists a connection.
    pub fn register(self: &Arc<Self>, peer: Arc<Peer>) -> Lease {
        let cut = CancellationToken::new();
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        open.peers.insert(number, (Arc::clone(&peer), cut.clone()));
        drop(open);
        Lease { peer, cut, number, live: Arc::clone(self) }
    }

    /// Cuts every connection that `hit` names; says how many.
    pub fn close_where(&self, hit: impl Fn(&Peer) -> bool) -> usize {
        let tokens: Vec<_> =
            self.lock().peers.values().filter(|(peer, _)| hit(peer)).map(|(_, token)| token.clone()).collect();
        tokens.iter().for_each(CancellationToken::cancel);
        tokens.len()
    }

    /// Whose connections are open; callers without an ID are left out.
    pub fn ids(&self) -> Vec<SpiffeId> {
        self.lock().peers.values().filter_map(|(peer, _)| peer.id.clone()).collect()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.lock().peers.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.live.lock().peers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::LocalPeer;

    fn peer(uid: u32) -> Arc<Peer> {
        Arc::new(Peer::local(LocalPeer { uid, pid: 1 }))
    }

    #[test]
    fn close_where_cuts_those_it_names_and_no_other() {
        let live = Arc::new(LivePeers::default());
        let (one, two) = (live.register(peer(1)), live.register(peer(2)));
        assert_eq!(live.close_where(|p| p.local.is_some_and(|l| l.uid == 1)), 1);
        assert!(one.cut.is_cancelled() && !two.cut.is_cancelled());
    }

    #[test]
    fn a_dropped_lease_leaves_the_registry() {
        let live = Arc::new(LivePeers::default());
        let lease = live.register(peer(1));
        assert_eq!(live.len(), 1);
        drop(lease);
        assert!(live.is_empty());
    }
}
