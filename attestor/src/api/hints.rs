use std::{collections::HashMap, sync::Arc};

use crate::ca::AuthorizedEntry;

/// Reduces entries that share a non-empty hint to the oldest, on a tie the one with the smallest ID. Keeps the order.
///
/// Source: WA-30, WA-32, WA-45; spire-wire 1.9.
pub(super) fn unique(entries: Vec<Arc<AuthorizedEntry>>) -> Vec<Arc<AuthorizedEntry>> {
    let mut winners: HashMap<&str, &Arc<AuthorizedEntry>> = HashMap::new();
    let age = |e: &AuthorizedEntry| (e.created_at, e.id.clone());
    for entry in entries.iter().filter(|e| !e.hint.is_empty()) {
        let winner = winners.entry(&entry.hint).or_insert(entry);
        if age(entry) < age(winner) {
            *winner = entry;
        }
    }
    let keeps =
        |e: &Arc<AuthorizedEntry>| e.hint.is_empty() || winners.get(e.hint.as_str()).is_some_and(|w| w.id == e.id);
    let kept: Vec<_> = entries.iter().filter(|e| keeps(e)).cloned().collect();
    if kept.len() < entries.len() {
        tracing::warn!(matching = entries.len(), kept = kept.len(), "entries share a hint; the oldest of each is used");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, hint: &str, created_at: i64) -> Arc<AuthorizedEntry> {
        Arc::new(AuthorizedEntry {
            id: id.into(),
            spiffe_id: "spiffe://example.org/w".parse().unwrap(),
            selectors: ["unix:uid:1".parse().unwrap()].into(),
            federates_with: vec![],
            hint: hint.into(),
            revision: 0,
            created_at,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        })
    }

    fn ids(entries: Vec<Arc<AuthorizedEntry>>) -> Vec<String> {
        unique(entries).iter().map(|e| e.id.clone()).collect()
    }

    #[test]
    fn wa_30_oldest_entry_wins_a_shared_hint_then_the_smallest_id() {
        assert_eq!(ids(vec![entry("a", "h", 20), entry("b", "h", 10), entry("c", "x", 1)]), ["b", "c"]);
        assert_eq!(ids(vec![entry("a", "h", 10), entry("b", "h", 10)]), ["a"]);
    }

    #[test]
    fn wa_32_empty_hints_are_never_duplicates() {
        assert_eq!(ids(vec![entry("a", "", 20), entry("b", "", 10)]), ["a", "b"]);
    }
}
