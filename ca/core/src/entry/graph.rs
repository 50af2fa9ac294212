//! Which entries and classes a node may serve.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chancery_sdk::id::SpiffeId;

use super::Entry;
use crate::{
    class::Class,
    ids,
    selector::{Selector, Selectors},
};

/// All entries, arranged to answer what a node may serve. Changed one entry at a time, as the log tells.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// By entry ID: the order of the log's replay does not matter.
    aliases: BTreeMap<String, Arc<Entry>>,
    by_id: BTreeMap<String, Arc<Entry>>,
    by_spiffe_id: Index,
    children: Index,
}

/// Entries under an ID they have in common.
type Index = HashMap<SpiffeId, Vec<Arc<Entry>>>;

/// Whom a change of an entry concerns: nodes of these IDs, and nodes that have all of one of these selector sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// IDs of nodes, among IDs of entries that are none.
    pub ids: HashSet<SpiffeId>,
    /// Of node aliases.
    pub selectors: Vec<Selectors>,
}

impl Reach {
    /// Whether the node is concerned.
    pub fn concerns(&self, node: &SpiffeId, selectors: &Selectors) -> bool {
        self.ids.contains(node) || self.selectors.iter().any(|alias| alias.is_subset(selectors))
    }

    /// Adds whom another change concerns.
    pub fn join(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.selectors.extend(other.selectors);
    }
}

impl Graph {
    /// Arranges entries; those with the parent `/spire/server` are node aliases and are never served.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut graph = Self::default();
        for entry in entries {
            graph.put(entry);
        }
        graph
    }

    /// Adds an entry, in place of the one with its ID; that one.
    pub fn put(&mut self, entry: Entry) -> Option<Arc<Entry>> {
        let before = self.remove(&entry.id);
        let entry = Arc::new(entry);
        self.by_id.insert(entry.id.clone(), Arc::clone(&entry));
        if ids::is_server(&entry.parent_id) {
            self.aliases.insert(entry.id.clone(), entry);
        } else {
            self.by_spiffe_id.entry(entry.spiffe_id.clone()).or_default().push(Arc::clone(&entry));
            self.children.entry(entry.parent_id.clone()).or_default().push(entry);
        }
        before
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: &str) -> Option<Arc<Entry>> {
        let entry = self.by_id.remove(id)?;
        if self.aliases.remove(id).is_none() {
            take(&mut self.by_spiffe_id, &entry.spiffe_id, id);
            take(&mut self.children, &entry.parent_id, id);
        }
        Some(entry)
    }

    /// Whether more than the entry itself hangs on it: a node alias, or a parent of others.
    pub fn is_wide(&self, entry: &Entry) -> bool {
        ids::is_server(&entry.parent_id) || self.children.contains_key(&entry.spiffe_id)
    }

    /// Whom a change of `entry` concerns as the graph is now.
    pub fn reach(&self, entry: &Entry) -> Reach {
        let mut reach = Reach::default();
        if ids::is_server(&entry.parent_id) {
            reach.selectors.push(entry.selectors.clone());
            return reach;
        }
        let mut open = vec![&entry.parent_id];
        while let Some(parent) = open.pop() {
            if ids::is_server(parent) || !reach.ids.insert(parent.clone()) {
                continue;
            }
            open.extend(self.by_spiffe_id.get(parent).into_iter().flatten().map(|above| &above.parent_id));
        }
        let named = self.aliases.values().filter(|alias| reach.ids.contains(&alias.spiffe_id));
        reach.selectors.extend(named.map(|alias| alias.selectors.clone()));
        reach
    }

    /// Whom a change of a class with this parent concerns.
    pub fn reach_of_parent(&self, parent: &SpiffeId) -> Reach {
        let named = self.aliases.values().filter(|alias| alias.spiffe_id == *parent);
        Reach { ids: HashSet::from([parent.clone()]), selectors: named.map(|alias| alias.selectors.clone()).collect() }
    }

    /// Every entry by ID, aliases too.
    pub fn by_id(&self) -> &BTreeMap<String, Arc<Entry>> {
        &self.by_id
    }

    /// Entries with this SPIFFE ID; no aliases.
    pub fn of(&self, spiffe_id: &SpiffeId) -> &[Arc<Entry>] {
        self.by_spiffe_id.get(spiffe_id).map_or(&[], Vec::as_slice)
    }

    /// IDs that node aliases give.
    pub fn alias_ids(&self) -> BTreeSet<&SpiffeId> {
        self.aliases.values().map(|alias| &alias.spiffe_id).collect()
    }

    /// Entries reached from a node, sorted by ID, each once.
    ///
    /// Starts at the node's own ID and the IDs of the aliases whose selectors it has; the ID of every entry
    /// found is a further parent. Each ID is explored once, so circles end.
    ///
    /// Source: spire-wire 4.3.
    pub fn authorized(&self, node: &SpiffeId, selectors: &Selectors) -> Vec<Arc<Entry>> {
        let mut open: Vec<&SpiffeId> = self.starts(node, selectors).map(|(id, _)| id).collect();
        let mut seen: HashSet<&SpiffeId> = HashSet::new();
        let mut found: Vec<Arc<Entry>> = Vec::new();
        while let Some(parent) = open.pop() {
            if !seen.insert(parent) {
                continue;
            }
            for entry in self.children.get(parent).into_iter().flatten() {
                found.push(entry.clone());
                open.push(&entry.spiffe_id);
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// The entry `id`, when the node may serve it.
    pub fn authorized_entry(&self, id: &str, node: &SpiffeId, selectors: &Selectors) -> Option<Arc<Entry>> {
        let entry = self.by_id.get(id)?;
        // Walking down from the node costs its whole tree; up from the entry is a handful of steps.
        let starts: HashSet<&SpiffeId> = self.starts(node, selectors).map(|(id, _)| id).collect();
        let mut open = vec![&entry.parent_id];
        let mut seen = HashSet::new();
        while let Some(parent) = open.pop() {
            if ids::is_server(parent) || !seen.insert(parent) {
                continue;
            }
            if starts.contains(parent) {
                return Some(entry.clone());
            }
            open.extend(self.by_spiffe_id.get(parent).into_iter().flatten().map(|above| &above.parent_id));
        }
        None
    }

    /// Classes reached from a node: its own, and those of the aliases whose selectors it has.
    ///
    /// A node that is genuine but not enrolled (`<type>:enrolled:no`) reaches only classes that name that fact,
    /// in their own selectors or in those of the alias.
    pub fn classes<'a>(
        &self,
        node: &SpiffeId,
        selectors: &Selectors,
        classes: impl IntoIterator<Item = &'a Class>,
    ) -> Vec<&'a Class> {
        let unenrolled: Vec<&Selector> = selectors.iter().filter(|s| s.value() == "enrolled:no").collect();
        let starts: Vec<(&SpiffeId, Option<&Selectors>)> = self.starts(node, selectors).collect();
        let reached = |class: &Class| {
            starts.iter().filter(|(id, _)| **id == class.parent_id).any(|(_, alias)| {
                let named = |s: &&Selector| class.selectors.contains(*s) || alias.is_some_and(|a| a.contains(*s));
                unenrolled.iter().all(named)
            })
        };
        classes.into_iter().filter(|class| reached(class)).collect()
    }

    fn starts<'a>(
        &'a self,
        node: &'a SpiffeId,
        selectors: &'a Selectors,
    ) -> impl Iterator<Item = (&'a SpiffeId, Option<&'a Selectors>)> {
        let aliases = self.aliases.values().filter(|alias| alias.selectors.is_subset(selectors));
        std::iter::once((node, None)).chain(aliases.map(|alias| (&alias.spiffe_id, Some(&alias.selectors))))
    }
}

/// Takes the entry out of what is listed under `key`.
fn take(index: &mut Index, key: &SpiffeId, id: &str) {
    if let Some(listed) = index.get_mut(key) {
        listed.retain(|entry| entry.id != id);
        if listed.is_empty() {
            index.remove(key);
        }
    }
}
