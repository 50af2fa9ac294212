//! Filters of listings.

use std::collections::BTreeSet;

use chancery_sdk::id::{SpiffeId, TrustDomain};

use super::Entry;
use crate::selector::Selectors;

/// How an entry's set compares with the set asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// The sets meet.
    Any,
    /// The sets are equal.
    Exact,
    /// The entry's set lies within the one asked for.
    Subset,
    /// The entry's set holds the one asked for.
    Superset,
}

/// What a listing asks for; the parts are joined by "and", `None` asks nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// Exactly this ID.
    pub spiffe_id: Option<SpiffeId>,
    /// Exactly this parent.
    pub parent_id: Option<SpiffeId>,
    /// Selectors, not empty.
    pub selectors: Option<(Selectors, Match)>,
    /// Foreign domains, not empty.
    pub federates_with: Option<(BTreeSet<TrustDomain>, Match)>,
    /// Exactly this hint, not empty.
    pub hint: Option<String>,
    /// Only entries with the downstream right.
    pub downstream_only: bool,
}

impl Filter {
    /// Whether the entry belongs in the listing. Source: spire-wire 4.4, 1.3.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| id == &entry.spiffe_id)
            && self.parent_id.as_ref().is_none_or(|id| id == &entry.parent_id)
            && self.selectors.as_ref().is_none_or(|(set, how)| how.compares(&entry.selectors, set))
            && self.federates_with.as_ref().is_none_or(|(set, how)| {
                let own: BTreeSet<TrustDomain> = entry.federates_with.iter().cloned().collect();
                how.compares(&own, set)
            })
            && self.hint.as_ref().is_none_or(|hint| hint == &entry.hint)
            && (!self.downstream_only || entry.rights.downstream)
    }
}

impl Match {
    /// Compares an entry's set with the one asked for; an empty own set never matches.
    pub fn compares<T: Ord>(self, own: &BTreeSet<T>, asked: &BTreeSet<T>) -> bool {
        if own.is_empty() {
            return false;
        }
        match self {
            Self::Any => !own.is_disjoint(asked),
            Self::Exact => own == asked,
            Self::Subset => own.is_subset(asked),
            Self::Superset => own.is_superset(asked),
        }
    }
}
