//! The rows, the names and selectors they share, and the lists that bind them.

use std::sync::Arc;

use chancery_sdk::id::SpiffeId;

use super::{
    alias::Aliases,
    row::{EntryId, Fact, Link, Name, Row},
    slab::{NONE, Slab},
};
use crate::{entry::Entry, ids, selector::Selector};

/// All entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    rows: Slab<Row>,
    names: Slab<Name>,
    facts: Slab<Fact>,
    pub(super) aliases: Aliases,
}

/// Which of a row's two lists.
#[derive(Clone, Copy)]
enum List {
    Own,
    Children,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.rows.len() == 0 && self.names.len() == 0 && self.facts.len() == 0
    }

    /// Adds an entry whose ID is not there.
    pub(super) fn insert(&mut self, entry: Entry) {
        let is_alias = ids::is_server(&entry.parent_id);
        let (name, parent) = (self.use_name(&entry.spiffe_id), self.use_name(&entry.parent_id));
        let facts: Box<[u32]> = entry.selectors.iter().map(|selector| self.use_fact(selector)).collect();
        let at = self.rows.insert(Row::new(entry, name, parent, facts.clone()));
        if is_alias {
            self.aliases.insert(at, name, &facts);
        } else {
            self.enlist(List::Own, name, at);
            self.enlist(List::Children, parent, at);
        }
    }

    /// Takes an entry out; whether it was there.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let Some((at, row)) = self.row_of(id).and_then(|at| Some((at, self.row(at)?))) else { return false };
        let (name, parent, facts) = (row.name, row.parent, row.facts.clone());
        if !self.aliases.remove(at, name, &facts) {
            self.strike(List::Own, name, at);
            self.strike(List::Children, parent, at);
        }
        self.rows.remove(at);
        self.leave_name(name);
        self.leave_name(parent);
        facts.iter().for_each(|fact| self.leave_fact(*fact));
        true
    }

    pub(super) fn row_of(&self, id: &str) -> Option<u32> {
        self.rows.find(&EntryId::new(id))
    }

    pub(super) fn name_of(&self, id: &SpiffeId) -> Option<u32> {
        self.names.find(id.as_str())
    }

    pub(super) fn fact_of(&self, selector: &Selector) -> Option<u32> {
        self.facts.find(&selector.to_string())
    }

    pub(super) fn row(&self, at: u32) -> Option<&Row> {
        self.rows.value(at)
    }

    pub(super) fn id(&self, name: u32) -> Option<&SpiffeId> {
        self.names.value(name).map(|name| &name.id)
    }

    /// The entry in this row.
    pub(super) fn entry(&self, at: u32) -> Option<Entry> {
        let row = self.row(at)?;
        let facts: Vec<&str> = row.facts.iter().filter_map(|fact| Some(&*self.facts.value(*fact)?.text)).collect();
        Some(row.entry(self.id(row.name)?, self.id(row.parent)?, &facts))
    }

    /// The selectors of the entry in this row, as texts.
    pub(super) fn facts_of(&self, at: u32) -> Box<[Arc<str>]> {
        let facts = self.row(at).into_iter().flat_map(|row| &row.facts);
        facts.filter_map(|fact| Some(Arc::clone(&self.facts.value(*fact)?.text))).collect()
    }

    /// Rows of the entries with this name.
    pub(super) fn own(&self, name: u32) -> impl Iterator<Item = (u32, &Row)> {
        self.list(self.names.value(name).map(|name| name.own), |row| row.own)
    }

    /// Rows of the entries below this name.
    pub(super) fn children(&self, name: u32) -> impl Iterator<Item = (u32, &Row)> {
        self.list(self.names.value(name).map(|name| name.children), |row| row.sibling)
    }

    fn list(&self, first: Option<u32>, link: fn(&Row) -> Link) -> impl Iterator<Item = (u32, &Row)> {
        // There is no row NONE: the list ends there.
        let there = |at: u32| Some((at, self.row(at)?));
        std::iter::successors(first.and_then(there), move |(_, row)| there(link(row).after))
    }

    fn use_name(&mut self, id: &SpiffeId) -> u32 {
        let at = self.name_of(id).unwrap_or_else(|| self.names.insert(Name::new(id)));
        if let Some(name) = self.names.value_mut(at) {
            name.uses += 1;
        }
        at
    }

    fn leave_name(&mut self, at: u32) {
        let Some(name) = self.names.value_mut(at) else { return };
        name.uses -= 1;
        if name.uses == 0 {
            self.names.remove(at);
        }
    }

    fn use_fact(&mut self, selector: &Selector) -> u32 {
        let known = self.fact_of(selector);
        let fact = || Fact { text: selector.to_string().into(), uses: 0 };
        let at = known.unwrap_or_else(|| self.facts.insert(fact()));
        if let Some(fact) = self.facts.value_mut(at) {
            fact.uses += 1;
        }
        at
    }

    fn leave_fact(&mut self, at: u32) {
        let Some(fact) = self.facts.value_mut(at) else { return };
        fact.uses -= 1;
        if fact.uses == 0 {
            self.facts.remove(at);
        }
    }

    /// Puts a row at the head of a list.
    fn enlist(&mut self, list: List, name: u32, at: u32) {
        let Some(head) = self.head(list, name) else { return };
        let after = std::mem::replace(head, at);
        self.bind(list, at, |link| *link = Link { before: NONE, after });
        self.bind(list, after, |link| link.before = at);
    }

    /// Takes a row out of a list.
    fn strike(&mut self, list: List, name: u32, at: u32) {
        let mut own = Link::ALONE;
        self.bind(list, at, |link| own = std::mem::replace(link, Link::ALONE));
        match self.head(list, name).filter(|_| own.before == NONE) {
            Some(head) => *head = own.after,
            None => self.bind(list, own.before, |link| link.after = own.after),
        }
        self.bind(list, own.after, |link| link.before = own.before);
    }

    fn head(&mut self, list: List, name: u32) -> Option<&mut u32> {
        let name = self.names.value_mut(name)?;
        Some(match list {
            List::Own => &mut name.own,
            List::Children => &mut name.children,
        })
    }

    /// Changes a row's place in a list; the row [`NONE`] has none.
    fn bind(&mut self, list: List, at: u32, change: impl FnOnce(&mut Link)) {
        let Some(row) = self.rows.value_mut(at) else { return };
        change(match list {
            List::Own => &mut row.own,
            List::Children => &mut row.sibling,
        });
    }
}
