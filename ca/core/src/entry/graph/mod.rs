//! Which entries and classes a node may serve.

mod alias;
mod row;
mod slab;
mod table;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use chancery_sdk::id::SpiffeId;

use self::table::Table;
use super::Entry;
use crate::{
    class::Class,
    ids,
    selector::{Selector, Selectors},
};

/// All entries, arranged to answer what a node may serve. Changed one entry at a time, as the log tells.
///
/// IDs and selectors that entries share stand once; what an entry costs beside them does not grow with how many share them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    table: Table,
}

/// Whom a change of an entry concerns: nodes of these IDs, and nodes that have all selectors of one of these aliases.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reach {
    /// IDs of nodes, among IDs of entries that are none.
    pub ids: HashSet<SpiffeId>,
    /// The selectors of node aliases, each as text.
    pub aliases: Vec<Box<[Arc<str>]>>,
}

impl Reach {
    /// Adds whom another change concerns.
    pub fn join(&mut self, other: Self) {
        self.ids.extend(other.ids);
        self.aliases.extend(other.aliases);
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

    /// Adds an entry, in place of the one with its ID.
    pub fn put(&mut self, entry: Entry) {
        self.table.remove(&entry.id);
        self.table.insert(entry);
    }

    /// Takes an entry out; whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        self.table.remove(id)
    }

    /// The entry `id`, an alias too.
    pub fn get(&self, id: &str) -> Option<Entry> {
        self.table.entry(self.table.row_of(id)?)
    }

    /// How many entries there are, aliases too.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no text of an entry that is gone is kept.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.table.holds_nothing()
    }

    /// Whether more than the entry itself hangs on it: a node alias, or a parent of others.
    pub fn is_wide(&self, entry: &Entry) -> bool {
        ids::is_server(&entry.parent_id)
            || self.table.name_of(&entry.spiffe_id).is_some_and(|name| self.table.children(name).next().is_some())
    }

    /// Whom a change of `entry` concerns as the graph is now.
    pub fn reach(&self, entry: &Entry) -> Reach {
        if ids::is_server(&entry.parent_id) {
            let facts = entry.selectors.iter().map(|selector| selector.to_string().into()).collect();
            return Reach { aliases: vec![facts], ..Reach::default() };
        }
        self.reach_above(&entry.parent_id, true)
    }

    /// Whom a change of a class with this parent concerns.
    pub fn reach_of_parent(&self, parent: &SpiffeId) -> Reach {
        self.reach_above(parent, false)
    }

    /// Entries with this SPIFFE ID; no aliases.
    pub fn of(&self, spiffe_id: &SpiffeId) -> Vec<Entry> {
        let Some(name) = self.table.name_of(spiffe_id) else { return Vec::new() };
        self.table.own(name).filter_map(|(at, _)| self.table.entry(at)).collect()
    }

    /// IDs that node aliases give.
    pub fn alias_ids(&self) -> BTreeSet<&SpiffeId> {
        self.table.aliases.names().filter_map(|name| self.table.id(name)).collect()
    }

    /// Entries reached from a node, sorted by ID, each once.
    ///
    /// Starts at the node's own ID and the IDs of the aliases whose selectors it has; the ID of every entry
    /// found is a further parent. Each ID is explored once, so circles end.
    ///
    /// Source: spire-wire 4.3.
    pub fn authorized(&self, node: &SpiffeId, selectors: &Selectors) -> Vec<Entry> {
        let mut open: Vec<u32> = self.starts(node, selectors).into_iter().map(|(name, _)| name).collect();
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        while let Some(parent) = open.pop() {
            if !seen.insert(parent) {
                continue;
            }
            for (at, row) in self.table.children(parent) {
                found.extend(self.table.entry(at));
                open.push(row.name);
            }
        }
        found.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        found
    }

    /// The entry `id`, when the node may serve it.
    pub fn authorized_entry(&self, id: &str, node: &SpiffeId, selectors: &Selectors) -> Option<Entry> {
        let at = self.table.row_of(id)?;
        // Walking down from the node costs its whole tree; up from the entry is a handful of steps.
        let starts: HashSet<u32> = self.starts(node, selectors).into_iter().map(|(name, _)| name).collect();
        let mut open = vec![self.table.row(at)?.parent];
        let mut seen = HashSet::new();
        while let Some(parent) = open.pop() {
            if ids::is_server(self.table.id(parent)?) || !seen.insert(parent) {
                continue;
            }
            if starts.contains(&parent) {
                return self.table.entry(at);
            }
            open.extend(self.table.own(parent).map(|(_, above)| above.parent));
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
        let aliases = self.starts(node, selectors).into_iter().filter_map(|(name, at)| Some((name, at?)));
        let aliases: Vec<(&SpiffeId, Selectors)> =
            aliases.filter_map(|(name, at)| Some((self.table.id(name)?, self.table.entry(at)?.selectors))).collect();
        let reached = |class: &Class| {
            let own = (class.parent_id == *node).then_some(None);
            let given = aliases.iter().filter(|(id, _)| **id == class.parent_id).map(|(_, alias)| Some(alias));
            own.into_iter().chain(given).any(|alias| {
                let named = |s: &&Selector| class.selectors.contains(*s) || alias.is_some_and(|a| a.contains(*s));
                unenrolled.iter().all(named)
            })
        };
        classes.into_iter().filter(|class| reached(class)).collect()
    }

    /// Names at which a node begins: its own, and those of its aliases with their rows.
    fn starts(&self, node: &SpiffeId, selectors: &Selectors) -> Vec<(u32, Option<u32>)> {
        let mut starts: Vec<(u32, Option<u32>)> =
            self.table.name_of(node).map(|name| (name, None)).into_iter().collect();
        let facts: HashSet<u32> = selectors.iter().filter_map(|selector| self.table.fact_of(selector)).collect();
        for at in facts.iter().flat_map(|fact| self.table.aliases.under(*fact)) {
            let had = self.table.row(*at).filter(|row| row.facts.iter().all(|fact| facts.contains(fact)));
            starts.extend(had.map(|row| (row.name, Some(*at))));
        }
        starts
    }

    /// This parent, with `higher` the parents above it, and the aliases that give one of them.
    fn reach_above(&self, parent: &SpiffeId, higher: bool) -> Reach {
        let mut reach = Reach::default();
        let mut open = vec![parent];
        while let Some(parent) = open.pop() {
            if ids::is_server(parent) || !reach.ids.insert(parent.clone()) {
                continue;
            }
            let Some(name) = self.table.name_of(parent) else { continue };
            reach.aliases.extend(self.table.aliases.of(name).iter().map(|at| self.table.facts_of(*at)));
            if higher {
                open.extend(self.table.own(name).filter_map(|(_, row)| self.table.id(row.parent)));
            }
        }
        reach
    }
}
