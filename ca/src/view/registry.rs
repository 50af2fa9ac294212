//! Entries, classes, nodes, running instances and foreign bundles as the database holds them, and what one change does to
//! them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chancery_core::{
    class::Class,
    entry::{Entry, Graph, Reach},
    ids,
    node::Node,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
};

use super::{
    held::{Held, Holds},
    instances::{Instances, Moved, Running},
    revoked::List,
};
use crate::store::{Certificate, EVERY_NODE, FederatedBundle, Revoked, StoredCrl};

/// Everything that decides who may have what.
#[derive(Debug, Default)]
pub struct Registry {
    /// Entries.
    pub graph: Graph,
    classes: BTreeMap<String, Arc<Class>>,
    nodes: HashMap<SpiffeId, Arc<Node>>,
    bundles: BTreeMap<TrustDomain, Arc<FederatedBundle>>,
    instances: Instances,
    /// Nodes on which a class does not begin, by its name.
    closed: HashMap<String, HashSet<String>>,
    /// Hashes of which nothing begins.
    executables: HashSet<String>,
    revoked: List,
    holds: Holds,
    /// By the CA that signed.
    crls: BTreeMap<String, Arc<StoredCrl>>,
}

/// What the registry is made of besides what it arranges by itself.
#[derive(Debug, Default)]
pub(super) struct Barred {
    /// Each as (class, node).
    pub closed: Vec<(String, String)>,
    pub executables: Vec<String>,
    pub revoked: Vec<Revoked>,
    /// Each as (instance, end).
    pub holds: Vec<(String, UnixTime)>,
    pub crls: Vec<StoredCrl>,
}

/// A row as it is now, after an event said that it changed; `None` = it is gone.
#[derive(Debug)]
pub(super) enum Row {
    Bundle(TrustDomain, Option<FederatedBundle>),
    Class(String, Option<Class>, Vec<String>),
    Crl(String, Option<StoredCrl>),
    Ended { node: SpiffeId },
    Entry(String, Option<Entry>),
    Executable(String),
    Held(Held),
    Revoked(Arc<Revoked>),
    Node(SpiffeId, Option<Node>),
}

/// Whom a change concerns, and how.
#[derive(Debug)]
pub(super) enum Concern {
    /// Everybody.
    All,
    /// Nobody: it changes nothing of what anybody may have.
    Nobody,
    /// These, with this one thing.
    Some(Reach),
    /// These, with more than one thing.
    Wide(Reach),
}

impl Registry {
    /// Arranges what was read at once.
    pub(super) fn of(
        graph: Graph,
        classes: Vec<Class>,
        nodes: Vec<Node>,
        bundles: Vec<FederatedBundle>,
        instances: Instances,
        barred: Barred,
    ) -> Self {
        let mut closed: HashMap<String, HashSet<String>> = HashMap::new();
        for (class, node) in barred.closed {
            closed.entry(class).or_default().insert(node);
        }
        Self {
            closed,
            executables: barred.executables.into_iter().collect(),
            revoked: List::of(barred.revoked),
            holds: Holds::of(barred.holds),
            crls: barred.crls.into_iter().map(|crl| (crl.issuer.clone(), Arc::new(crl))).collect(),
            graph,
            classes: classes.into_iter().map(|class| (class.name.as_str().to_owned(), Arc::new(class))).collect(),
            nodes: nodes.into_iter().map(|node| (node.id.clone(), Arc::new(node))).collect(),
            bundles: bundles.into_iter().map(|one| (one.trust_domain.clone(), Arc::new(one))).collect(),
            instances,
        }
    }

    /// Every class, in the order of the name.
    pub fn classes(&self) -> impl Iterator<Item = &Class> {
        self.classes.values().map(|class| &**class)
    }

    /// The class of this name.
    pub fn class(&self, name: &str) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// Classes whose instances may run on the node.
    pub fn classes_of(&self, node: &Node) -> Vec<&Class> {
        self.graph.classes(&node.id, &node.selectors, self.classes())
    }

    /// The node of this ID.
    pub fn node(&self, id: &SpiffeId) -> Option<&Arc<Node>> {
        self.nodes.get(id)
    }

    /// Whether the class does not begin on the node, by an operator's word.
    pub fn is_closed(&self, class: &str, node: &SpiffeId) -> bool {
        self.closed.get(class).is_some_and(|nodes| nodes.contains(EVERY_NODE) || nodes.contains(node.as_str()))
    }

    /// Whether nothing of this executable (lower-case hex SHA-256) begins.
    pub fn is_revoked_executable(&self, sha256: &str) -> bool {
        self.executables.contains(sha256)
    }

    /// Whether the certificate is not to be accepted.
    pub fn is_revoked(&self, certificate: &Certificate) -> bool {
        self.revoked.names(certificate)
    }

    /// What is not to be accepted and valid by itself, in its own order.
    pub(super) fn revoked(&self, now: UnixTime) -> Vec<Arc<Revoked>> {
        self.revoked.at(now)
    }

    /// Who is held at `now`, in the order of the ID.
    pub(super) fn holds(&self, now: UnixTime) -> Vec<Held> {
        self.holds.at(now)
    }

    /// What is so at `now` of an instance that was held or released.
    pub(super) fn held(&self, subject: &str, now: UnixTime) -> Held {
        Held { subject: subject.into(), until: self.holds.one(subject, now) }
    }

    /// The newest list of this CA, while what it signed may be valid.
    pub fn crl(&self, issuer: &str, now: UnixTime) -> Option<&Arc<StoredCrl>> {
        self.crls.get(issuer).filter(|crl| crl.issuer_ends > now)
    }

    /// The newest list of every CA whose certificates may be valid, in the order of the issuer.
    pub fn crls(&self, now: UnixTime) -> impl Iterator<Item = &Arc<StoredCrl>> {
        self.crls.values().filter(move |crl| crl.issuer_ends > now)
    }

    /// The foreign bundle of this domain.
    pub fn bundle(&self, domain: &TrustDomain) -> Option<&Arc<FederatedBundle>> {
        self.bundles.get(domain)
    }

    /// Every foreign bundle, in the order of the name.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<FederatedBundle>> {
        self.bundles.values()
    }

    /// The running instance of this ID.
    pub fn instance(&self, id: &SpiffeId) -> Option<&Arc<Running>> {
        self.instances.one(id)
    }

    /// The running instance that this process of the node is.
    pub fn process(&self, node: &SpiffeId, start_token: &[u8; 32]) -> Option<&Arc<Running>> {
        self.instances.of_process(node, start_token)
    }

    /// What runs on the node, in no order.
    pub fn running_on(&self, node: &SpiffeId) -> impl Iterator<Item = &Arc<Running>> {
        self.instances.on_node(node)
    }

    /// Applies what event `number` says of an instance.
    pub(super) fn moved(&mut self, number: i64, moved: &Moved) {
        self.instances.apply(number, moved);
    }

    /// Puts a row where it belongs; whom that concerns, before and after.
    pub(super) fn apply(&mut self, row: Row) -> Concern {
        match row {
            Row::Bundle(domain, bundle) => {
                match bundle {
                    Some(bundle) => self.bundles.insert(domain, Arc::new(bundle)),
                    None => self.bundles.remove(&domain),
                };
                Concern::All
            }
            Row::Class(name, class, closed) => {
                match closed.is_empty() {
                    true => self.closed.remove(&name),
                    false => self.closed.insert(name.clone(), closed.into_iter().collect()),
                };
                Concern::Some(self.class_changed(name, class))
            }
            Row::Crl(issuer, crl) => {
                match crl {
                    Some(crl) => self.crls.insert(issuer, Arc::new(crl)),
                    None => self.crls.remove(&issuer),
                };
                Concern::All
            }
            Row::Ended { node } => Concern::Some(of_node(node)),
            Row::Entry(id, entry) => self.entry_changed(&id, entry),
            Row::Executable(sha256) => {
                self.executables.insert(sha256);
                Concern::Nobody
            }
            Row::Held(held) => {
                self.holds.put(held, chancery_daemon::clock::now());
                Concern::All
            }
            Row::Revoked(revoked) => {
                self.revoked.put(revoked);
                Concern::All
            }
            Row::Node(id, node) => {
                let same = |a: &Node, b: &Node| a.selectors == b.selectors && a.standing == b.standing;
                let unmoved = matches!((self.nodes.get(&id), &node), (Some(a), Some(b)) if same(a, b));
                match node {
                    Some(node) => self.nodes.insert(id.clone(), Arc::new(node)),
                    None => self.nodes.remove(&id),
                };
                // A new serial or version changes nothing of what the node may serve.
                if unmoved { Concern::Nobody } else { Concern::Wide(of_node(id)) }
            }
        }
    }

    fn class_changed(&mut self, name: String, class: Option<Class>) -> Reach {
        let mut reach = self.classes.get(&name).map(|old| self.graph.reach_of_parent(&old.parent_id));
        if let Some(class) = &class {
            reach.get_or_insert_default().join(self.graph.reach_of_parent(&class.parent_id));
        }
        match class {
            Some(class) => self.classes.insert(name, Arc::new(class)),
            None => self.classes.remove(&name),
        };
        reach.unwrap_or_default()
    }

    fn entry_changed(&mut self, id: &str, entry: Option<Entry>) -> Concern {
        let old = self.graph.get(id);
        let mut wide = old.as_ref().is_some_and(|old| self.graph.is_wide(old));
        let mut reach = old.as_ref().map(|old| self.graph.reach(old)).unwrap_or_default();
        if let Some(entry) = entry {
            self.graph.put(entry.clone());
            wide |= self.graph.is_wide(&entry);
            // Below the same parent as before it concerns whom it did; of an alias the selectors say that.
            if old.is_none_or(|old| old.parent_id != entry.parent_id || ids::is_server(&entry.parent_id)) {
                reach.join(self.graph.reach(&entry));
            }
        } else {
            self.graph.remove(id);
        }
        if wide { Concern::Wide(reach) } else { Concern::Some(reach) }
    }
}

fn of_node(id: SpiffeId) -> Reach {
    Reach { ids: [id].into(), aliases: Vec::new() }
}
