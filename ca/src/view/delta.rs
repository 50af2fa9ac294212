//! What a stream is sent: everything its node may have, or the difference since its cursor.

use std::{collections::BTreeSet, sync::Arc};

use chancery_core::{
    class::Class,
    entry::Entry,
    node::{Node, Standing},
    selector::Selectors,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

use super::{
    Cursor, Shared,
    changes::Change,
    held::Held,
    registry::Registry,
    watchers::{Waiting, Watching},
};
use crate::{
    gate::NodeDenial,
    problem::Problem,
    store::{FederatedBundle, Revoked, StoredCrl},
};

/// A class as a node is told of it: what the process itself must show.
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// The class.
    pub class: Class,
    /// Its selectors without those the node has.
    pub selectors: Selectors,
}

/// What changed for one node, up to its cursor.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Where the node is once it has applied this.
    pub cursor: Cursor,
    /// It is everything: what was told before is void.
    pub full: bool,
    /// New or changed, in the order of the ID.
    pub entries: Vec<Entry>,
    /// Not the node's, or not any more.
    pub gone_entries: Vec<String>,
    /// New or changed, in the order of the name.
    pub classes: Vec<Offered>,
    /// Not the node's, or not any more.
    pub gone_classes: Vec<String>,
    /// Foreign bundles that its entries name.
    pub bundles: Vec<Arc<FederatedBundle>>,
    /// Foreign bundles that are gone.
    pub gone_bundles: Vec<TrustDomain>,
    /// Instances of the node that ended.
    pub ended: Vec<SpiffeId>,
    /// What is not to be accepted; whole where `full`.
    pub revoked: Vec<Arc<Revoked>>,
    /// Commit of the oldest of those, where it is the difference.
    pub revoked_at: Option<UnixTime>,
    /// Who is held, or is not any more; everybody who is where `full`.
    pub held: Vec<Held>,
    /// Lists of CAs, new ones; all where `full`.
    pub crls: Vec<Arc<StoredCrl>>,
}

impl Delta {
    fn is_empty(&self) -> bool {
        !self.full
            && self.entries.is_empty()
            && self.gone_entries.is_empty()
            && self.classes.is_empty()
            && self.gone_classes.is_empty()
            && self.bundles.is_empty()
            && self.gone_bundles.is_empty()
            && self.ended.is_empty()
            && self.revoked.is_empty()
            && self.held.is_empty()
            && self.crls.is_empty()
    }
}

impl Registry {
    /// The class as this node is told of it; `None` where the process could show nothing.
    pub fn offered(node: &Node, class: &Class) -> Option<Offered> {
        class.process_selectors(&node.selectors).map(|selectors| Offered { class: class.clone(), selectors })
    }
}

impl Watching {
    /// The difference since `cursor`, or everything where that is not known.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] while the view is too old, [`Problem::Node`] where the node has no standing.
    pub fn begin(&self, cursor: Option<&Cursor>) -> Result<Delta, Problem> {
        self.view.look(|_| ())?;
        let shared = self.view.read();
        self.watcher.take();
        let node = standing(&shared, &self.watcher.node)?;
        let known = cursor.filter(|cursor| cursor.epoch == shared.epoch && shared.changes.resumes(cursor));
        Ok(match known.and_then(|cursor| missed(&shared, &node, cursor.number)) {
            Some(delta) => delta,
            None => everything(&shared, &node),
        })
    }

    /// What has changed since it was asked last; `None` for nothing.
    ///
    /// # Errors
    /// [`Problem::Node`] where the node has no standing any more.
    pub fn next(&self) -> Result<Option<Delta>, Problem> {
        let shared = self.view.read();
        let waiting = self.watcher.take();
        let node = standing(&shared, &self.watcher.node)?;
        let delta = match waiting {
            Waiting::Nothing => return Ok(None),
            Waiting::Everything => everything(&shared, &node),
            // More came than is kept: who does not look for a while gets all of it.
            Waiting::From(number) if !shared.changes.has_from(number) => everything(&shared, &node),
            Waiting::From(number) => difference(&shared, &node, number - 1),
        };
        Ok((!delta.is_empty()).then_some(delta))
    }
}

fn standing(shared: &Shared, id: &SpiffeId) -> Result<Arc<Node>, Problem> {
    let node = shared.registry.node(id).ok_or(Problem::Node(NodeDenial::NotAttested))?;
    match node.standing {
        Standing::Good => Ok(Arc::clone(node)),
        Standing::Banned => Err(Problem::Node(NodeDenial::Banned)),
        Standing::Failed => Err(Problem::Node(NodeDenial::NotAttested)),
    }
}

/// The difference for somebody who was away; `None` where only everything will do.
fn missed(shared: &Shared, node: &Node, number: i64) -> Option<Delta> {
    let too_much = |change: &Change| match change {
        Change::Wide => true,
        Change::Node(id) => *id == node.id,
        Change::Bundle(_)
        | Change::Class(_)
        | Change::Crl(_)
        | Change::Ended { .. }
        | Change::Entry(_)
        | Change::Executable(_)
        | Change::Held(_)
        | Change::Revoked(_) => false,
    };
    let whole = shared.changes.above(number).any(|kept| too_much(&kept.change));
    (!whole).then(|| difference(shared, node, number))
}

fn everything(shared: &Shared, node: &Node) -> Delta {
    let (registry, now) = (&shared.registry, chancery_daemon::clock::now());
    let entries = registry.graph.authorized(&node.id, &node.selectors);
    let domains: BTreeSet<_> = entries.iter().flat_map(|entry| &entry.federates_with).collect();
    Delta {
        cursor: shared.changes.cursor(shared.epoch),
        full: true,
        classes: registry.classes_of(node).into_iter().filter_map(|class| Registry::offered(node, class)).collect(),
        bundles: domains.into_iter().filter_map(|domain| registry.bundle(domain).cloned()).collect(),
        entries,
        revoked: registry.revoked(now),
        held: registry.holds(now),
        crls: registry.crls(now).cloned().collect(),
        ..Delta::default()
    }
}

/// What changed after `number`, each thing as it is now. Wide changes concern others, or were told apart.
fn difference(shared: &Shared, node: &Node, number: i64) -> Delta {
    let registry = &shared.registry;
    let mut delta = Delta { cursor: shared.changes.cursor(shared.epoch), ..Delta::default() };
    let (mut entries, mut classes, mut domains) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut issuers, mut held) = (BTreeSet::new(), BTreeSet::new());
    for kept in shared.changes.above(number) {
        match &kept.change {
            Change::Bundle(domain) => drop(domains.insert(domain.clone())),
            Change::Class(name) => drop(classes.insert(name)),
            Change::Crl(issuer) => drop(issuers.insert(issuer)),
            Change::Ended { node: of, instance } if *of == node.id => delta.ended.push(instance.clone()),
            Change::Entry(id) => drop(entries.insert(id)),
            Change::Held(one) => drop(held.insert(one.subject.as_str())),
            Change::Revoked(revoked) => {
                delta.revoked.push(Arc::clone(revoked));
                delta.revoked_at = delta.revoked_at.into_iter().chain(kept.revoked_at).min();
            }
            Change::Ended { .. } | Change::Executable(_) | Change::Node(_) | Change::Wide => {}
        }
    }
    let now = chancery_daemon::clock::now();
    delta.crls = issuers.into_iter().filter_map(|issuer| registry.crl(issuer, now).cloned()).collect();
    delta.held = held.into_iter().map(|subject| registry.held(subject, now)).collect();
    for id in entries {
        match registry.graph.authorized_entry(id, &node.id, &node.selectors) {
            Some(entry) => {
                domains.extend(entry.federates_with.iter().cloned());
                delta.entries.push(entry);
            }
            None => delta.gone_entries.push(id.clone()),
        }
    }
    let reached = if classes.is_empty() { Vec::new() } else { registry.classes_of(node) };
    for name in classes {
        let class = reached.iter().find(|class| class.name.as_str() == name);
        match class.and_then(|class| Registry::offered(node, class)) {
            Some(offered) => delta.classes.push(offered),
            None => delta.gone_classes.push(name.clone()),
        }
    }
    for domain in domains {
        match registry.bundle(&domain) {
            Some(bundle) => delta.bundles.push(Arc::clone(bundle)),
            None => delta.gone_bundles.push(domain),
        }
    }
    delta
}
