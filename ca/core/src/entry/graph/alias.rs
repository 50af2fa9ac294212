//! Node aliases, found by what a node has and by the ID they give.

use std::collections::HashMap;

/// Rows of node aliases.
#[derive(Clone, Debug, Default)]
pub(super) struct Aliases {
    /// Each alias under one of its selectors, the one with the fewest: a node that lacks it lacks the alias.
    by_fact: HashMap<u32, Vec<u32>>,
    /// Under the number of the name that they give.
    by_name: HashMap<u32, Vec<u32>>,
}

impl Aliases {
    /// Lists the alias in row `at`. One without selectors is nobody's.
    pub(super) fn insert(&mut self, at: u32, name: u32, facts: &[u32]) {
        let rarest = facts.iter().min_by_key(|fact| self.by_fact.get(fact).map_or(0, Vec::len));
        if let Some(rarest) = rarest {
            self.by_fact.entry(*rarest).or_default().push(at);
        }
        self.by_name.entry(name).or_default().push(at);
    }

    /// Takes the alias in row `at` out; whether it was one.
    pub(super) fn remove(&mut self, at: u32, name: u32, facts: &[u32]) -> bool {
        let was = take(&mut self.by_name, name, at);
        if was {
            facts.iter().any(|fact| take(&mut self.by_fact, *fact, at));
        }
        was
    }

    /// Rows of aliases that a node with this selector may have.
    pub(super) fn under(&self, fact: u32) -> &[u32] {
        self.by_fact.get(&fact).map_or(&[], Vec::as_slice)
    }

    /// Rows of the aliases that give this name.
    pub(super) fn of(&self, name: u32) -> &[u32] {
        self.by_name.get(&name).map_or(&[], Vec::as_slice)
    }

    /// Numbers of the names that aliases give.
    pub(super) fn names(&self) -> impl Iterator<Item = u32> {
        self.by_name.keys().copied()
    }
}

/// Takes a row out of a list; whether it was there.
fn take(lists: &mut HashMap<u32, Vec<u32>>, key: u32, at: u32) -> bool {
    let Some(list) = lists.get_mut(&key) else { return false };
    let Some(place) = list.iter().position(|row| *row == at) else { return false };
    list.swap_remove(place);
    if list.is_empty() {
        lists.remove(&key);
    }
    true
}
