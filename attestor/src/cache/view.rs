use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chancery_core::selector::{Selector, Selectors};
use chancery_sdk::id::TrustDomain;

use super::{Bundles, Svid};
use crate::ca::{AuthorizedClass, AuthorizedEntry};

/// One consistent state of everything that may be handed out.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Our own domain; `None` until the first sync.
    pub(crate) domain: Option<TrustDomain>,
    /// By entry ID.
    pub(crate) entries: Arc<BTreeMap<String, Arc<AuthorizedEntry>>>,
    pub(crate) classes: Arc<Vec<Arc<AuthorizedClass>>>,
    /// One selector of each entry -> the entry: whoever lacks that one cannot match.
    index: Arc<HashMap<Selector, Vec<String>>>,
    /// By entry ID, with the revision of the entry each was issued for.
    pub(crate) svids: BTreeMap<String, Arc<EntrySvid>>,
    pub(crate) bundles: Arc<Bundles>,
    /// Certificate revocation lists of our own domain, DER, verified.
    pub(crate) crls: Arc<Vec<Vec<u8>>>,
}

/// An SVID and the state of the entry it was issued for.
#[derive(Debug)]
pub(crate) struct EntrySvid {
    pub svid: Arc<Svid>,
    pub revision: i64,
    pub created_at: i64,
}

impl View {
    /// Whether the CA has been heard since the node last had no standing.
    pub fn ready(&self) -> bool {
        self.domain.is_some()
    }

    /// The entries whose selectors are all among `selectors`, by entry ID ascending.
    ///
    /// Source: spire-wire 4.4, 1.9 (order; the first is the default identity).
    pub fn entries_of(&self, selectors: &Selectors) -> Vec<Arc<AuthorizedEntry>> {
        let candidates = selectors.iter().filter_map(|s| self.index.get(s)).flatten();
        let mut found: Vec<_> = candidates
            .filter_map(|id| self.entries.get(id))
            .filter(|e| e.selectors.is_subset(selectors))
            .cloned()
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// The classes whose selectors are all among `selectors`.
    pub fn classes_of(&self, selectors: &Selectors) -> Vec<Arc<AuthorizedClass>> {
        self.classes.iter().filter(|c| c.selectors.is_subset(selectors)).cloned().collect()
    }

    /// The SVID of an entry.
    pub fn svid(&self, entry_id: &str) -> Option<&Arc<Svid>> {
        self.svids.get(entry_id).map(|e| &e.svid)
    }

    /// Replaces what the CA told, and keeps the SVIDs.
    pub(crate) fn with_told(
        &self,
        domain: TrustDomain,
        entries: Vec<AuthorizedEntry>,
        mut classes: Vec<AuthorizedClass>,
        bundles: Bundles,
        crls: Vec<Vec<u8>>,
    ) -> Self {
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        let entries: BTreeMap<_, _> = entries.into_iter().map(|e| (e.id.clone(), Arc::new(e))).collect();
        let index = index(entries.values());
        Self {
            domain: Some(domain),
            index: Arc::new(index),
            entries: Arc::new(entries),
            classes: Arc::new(classes.into_iter().map(Arc::new).collect()),
            svids: self.svids.clone(),
            bundles: Arc::new(bundles),
            crls: Arc::new(crls),
        }
    }

    /// Whether the CA told the same as `other` holds.
    pub(crate) fn told_same(&self, other: &Self) -> bool {
        (&self.domain, &self.entries, &self.classes, &self.bundles, &self.crls)
            == (&other.domain, &other.entries, &other.classes, &other.bundles, &other.crls)
    }
}

/// Files each entry under the rarest of its selectors.
fn index<'a>(entries: impl Iterator<Item = &'a Arc<AuthorizedEntry>> + Clone) -> HashMap<Selector, Vec<String>> {
    let mut count: HashMap<&Selector, usize> = HashMap::new();
    for selector in entries.clone().flat_map(|e| &e.selectors) {
        *count.entry(selector).or_default() += 1;
    }
    let mut index: HashMap<Selector, Vec<String>> = HashMap::new();
    for entry in entries {
        if let Some(rarest) = entry.selectors.iter().min_by_key(|s| count.get(s)) {
            index.entry(rarest.clone()).or_default().push(entry.id.clone());
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, selectors: &[&str]) -> AuthorizedEntry {
        AuthorizedEntry {
            id: id.into(),
            spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
            selectors: selectors.iter().map(|s| s.parse().unwrap()).collect(),
            federates_with: vec![],
            hint: String::new(),
            revision: 0,
            created_at: 0,
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
        }
    }

    #[test]
    fn entry_matches_when_all_its_selectors_are_the_callers_in_order_of_entry_id() {
        let entries = vec![
            entry("c", &["unix:uid:1"]),
            entry("a", &["unix:uid:1", "unix:gid:2"]),
            entry("b", &["unix:uid:1", "unix:gid:3"]),
            entry("d", &["unix:path:/x"]),
        ];
        let domain = TrustDomain::new("example.org").unwrap();
        let view = View::default().with_told(domain, entries, vec![], Bundles::default(), vec![]);
        let caller = ["unix:uid:1", "unix:gid:2"].iter().map(|s| s.parse().unwrap()).collect();
        let ids: Vec<_> = view.entries_of(&caller).iter().map(|e| e.id.clone()).collect();
        assert_eq!(ids, ["a", "c"]);
        assert!(view.entries_of(&Selectors::new()).is_empty());
    }
}
