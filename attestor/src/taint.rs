//! Tainted authorities: what they signed is replaced at once, spread over the fleet.
//!
//! An operator who taints a key wants everything under it gone within seconds, and a CA that lives through it. So each
//! SVID waits for its own share of a short window, chosen by a keyed hash. Written by `sync`, read by `sync` and `instance`.

use std::collections::{BTreeMap, BTreeSet};

use chancery_daemon::clock::Clock;
use chancery_sdk::time::UnixTime;
use tokio::sync::watch;

use crate::{cache::Svid, plan::taint_due};

/// Authorities remembered; a trust domain has a few.
const MAX_KNOWN: usize = 64;

/// The tainted X.509 authorities of our own domain, and since when this run knows of each.
pub struct Taints {
    /// Hex key ID -> first seen. One that leaves the bundle stays: what it signed is refused everywhere then.
    seen: watch::Sender<BTreeMap<String, UnixTime>>,
    clock: Clock,
}

impl Taints {
    /// None is known.
    pub fn new(clock: Clock) -> Self {
        Self { seen: watch::Sender::default(), clock }
    }

    /// Takes note of the authorities that the newest bundle calls tainted.
    pub fn note(&self, tainted: &BTreeSet<String>) {
        let now = (self.clock)();
        self.seen.send_if_modified(|seen| {
            let before = seen.len();
            for id in tainted {
                if seen.len() < MAX_KNOWN && !seen.contains_key(id) {
                    tracing::warn!(authority = id, "authority tainted; what it signed is replaced");
                    seen.insert(id.clone(), now);
                }
            }
            seen.len() > before
        });
    }

    /// When the successor of an SVID is due: as its life says, or sooner where its authority is tainted.
    pub fn due(&self, svid: &Svid) -> UnixTime {
        let Some(authority) = &svid.authority else { return svid.rotate_at };
        match self.seen.borrow().get(authority) {
            Some(since) => svid.rotate_at.min(taint_due(*since, svid.expires_at, svid.spread)),
            None => svid.rotate_at,
        }
    }

    /// Follows what is known.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, UnixTime>> {
        self.seen.subscribe()
    }
}
