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

/// All entries, arranged to answer what a node may serve. Built from one read of the store.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    aliases: Vec<Arc<Entry>>,
    by_id: BTreeMap<String, Arc<Entry>>,
    by_spiffe_id: HashMap<SpiffeId, Vec<Arc<Entry>>>,
    children: HashMap<SpiffeId, Vec<Arc<Entry>>>,
}

impl Graph {
    /// Arranges entries; those with the parent `/spire/server` are node aliases and are never served.
    pub fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut graph = Self::default();
        for entry in entries.into_iter().map(Arc::new) {
            graph.by_id.insert(entry.id.clone(), entry.clone());
            if ids::is_server(&entry.parent_id) {
                graph.aliases.push(entry);
            } else {
                graph.by_spiffe_id.entry(entry.spiffe_id.clone()).or_default().push(entry.clone());
                graph.children.entry(entry.parent_id.clone()).or_default().push(entry);
            }
        }
        graph
    }

    /// Every entry by ID, aliases too.
    pub fn by_id(&self) -> &BTreeMap<String, Arc<Entry>> {
        &self.by_id
    }

    /// IDs that node aliases give.
    pub fn alias_ids(&self) -> BTreeSet<&SpiffeId> {
        self.aliases.iter().map(|alias| &alias.spiffe_id).collect()
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
    pub fn classes<'a>(&self, node: &SpiffeId, selectors: &Selectors, classes: &'a [Class]) -> Vec<&'a Class> {
        let unenrolled: Vec<&Selector> = selectors.iter().filter(|s| s.value() == "enrolled:no").collect();
        let starts: Vec<(&SpiffeId, Option<&Selectors>)> = self.starts(node, selectors).collect();
        let reached = |class: &Class| {
            starts.iter().filter(|(id, _)| **id == class.parent_id).any(|(_, alias)| {
                let named = |s: &&Selector| class.selectors.contains(*s) || alias.is_some_and(|a| a.contains(*s));
                unenrolled.iter().all(named)
            })
        };
        classes.iter().filter(|class| reached(class)).collect()
    }

    fn starts<'a>(
        &'a self,
        node: &'a SpiffeId,
        selectors: &'a Selectors,
    ) -> impl Iterator<Item = (&'a SpiffeId, Option<&'a Selectors>)> {
        let aliases = self.aliases.iter().filter(|alias| alias.selectors.is_subset(selectors));
        std::iter::once((node, None)).chain(aliases.map(|alias| (&alias.spiffe_id, Some(&alias.selectors))))
    }
}
