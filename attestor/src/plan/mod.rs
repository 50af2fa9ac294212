//! What to issue, renew and drop: pure decisions over entries, SVIDs held and the clock.
//!
//! No I/O, no clock, no randomness. Called by `sync` after every poll and at every due rotation.

mod rotation;

pub use rotation::{Rotation, due_at, longest_wait, taint_due};

use std::collections::{BTreeMap, BTreeSet};

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::ca::AuthorizedEntry;

/// Entries whose SVIDs are made before anybody asks; the rest waits for its first caller (SPIRE's soft limit).
pub const PREFETCH: usize = 1000;
/// How long after its last use an SVID beyond the prefetched ones is kept fresh, seconds.
pub const LATELY_SECS: i64 = 600;

/// What decides of an SVID that is held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Whose it is.
    pub id: SpiffeId,
    /// Of the entry it was issued for.
    pub revision: i64,
    /// Of the entry it was issued for.
    pub created_at: i64,
    /// When a successor is due.
    pub rotate_at: UnixTime,
    /// End of the leaf.
    pub expires_at: UnixTime,
}

/// What to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Entries to ask an SVID for, those in use first.
    pub issue: Vec<String>,
    /// Entries whose SVID may not be used any more.
    pub drop: BTreeSet<String>,
}

/// Compares what is wanted with what is held.
///
/// `used`: entry ID -> last use. An SVID outlives a change of its entry until the successor is there, unless the
/// change took its meaning away: another SPIFFE ID, or another entry under the same ID. Nothing is dropped for
/// being due: identities are kept while the CA is away, until they end.
///
/// Source: spire-wire 3.5, 4.5.
pub fn plan<'a>(
    entries: impl IntoIterator<Item = &'a AuthorizedEntry>,
    held: &BTreeMap<String, Held>,
    used: &BTreeMap<String, UnixTime>,
    now: UnixTime,
) -> Plan {
    let (mut plan, mut known, mut rest) = (Plan::default(), BTreeSet::new(), Vec::new());
    let mut prefetched = 0;
    for entry in entries {
        known.insert(entry.id.as_str());
        let in_use = used.get(&entry.id).is_some_and(|at| now.since(*at) < LATELY_SECS);
        let kept = held.get(&entry.id).filter(|h| is_of(h, entry) && h.expires_at > now);
        if kept.is_none() && held.contains_key(&entry.id) {
            plan.drop.insert(entry.id.clone());
        }
        let prefetch = !entry.disable_x509_svid_prefetch && prefetched < PREFETCH;
        prefetched += usize::from(prefetch);
        let fresh = kept.is_some_and(|h| h.rotate_at > now && h.revision == entry.revision);
        match (fresh, in_use) {
            (true, _) => {}
            (false, true) => plan.issue.push(entry.id.clone()),
            (false, false) if prefetch => rest.push(entry.id.clone()),
            (false, false) => {}
        }
    }
    plan.issue.append(&mut rest);
    plan.drop.extend(held.keys().filter(|id| !known.contains(id.as_str())).cloned());
    plan
}

fn is_of(held: &Held, entry: &AuthorizedEntry) -> bool {
    // A server that tells no creation time tells 0: not compared (spire-wire 3.5).
    let same_entry = held.created_at == entry.created_at || held.created_at == 0 || entry.created_at == 0;
    same_entry && held.id == entry.spiffe_id
}

#[cfg(test)]
mod tests;
