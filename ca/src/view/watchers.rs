//! Streams that follow the view: one flag and one cursor each, no queue.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use chancery_core::{entry::Reach, node::Node, selector::Selectors};
use chancery_sdk::id::SpiffeId;
use tokio::sync::Notify;

use super::{View, registry::Concern};
use crate::problem::Problem;

/// Streams of one node at once: those of connections that nobody has noticed to be dead count too. Each may hold an
/// answer that the node does not read.
const MAX_OF_NODE: usize = 4;
/// No change waits.
const CLEAN: i64 = i64::MAX;

/// Every stream.
#[derive(Default)]
pub(super) struct Watchers {
    // Guards the list; held for one insert, removal or walk.
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Listed>,
    by_node: HashMap<SpiffeId, Vec<u64>>,
    /// By each selector of their nodes: a change under an alias looks at those who have its rarest one.
    by_fact: HashMap<Arc<str>, HashSet<u64>>,
}

/// A stream and what its node has.
struct Listed {
    watcher: Arc<Watcher>,
    /// The node's selectors as texts; replaced when it attests again.
    facts: HashSet<Arc<str>>,
}

/// One stream.
pub(super) struct Watcher {
    pub(super) node: SpiffeId,
    /// Number of the first change that waits; [`CLEAN`] for none.
    dirty_from: AtomicI64,
    /// More than single changes: everything is to be sent again.
    wide: AtomicBool,
    /// The node opened another stream.
    over: AtomicBool,
    wake: Notify,
}

/// What waits for a stream.
pub(super) enum Waiting {
    Everything,
    /// Changes from this number on.
    From(i64),
    Nothing,
}

/// A stream's place among the others; given up when dropped.
pub struct Watching {
    pub(super) watcher: Arc<Watcher>,
    number: u64,
    pub(super) view: Arc<View>,
}

impl View {
    /// Lists a stream of this node; earlier ones of it are over.
    ///
    /// # Errors
    /// [`Problem::Exhausted`] while too many earlier ones are not closed yet.
    pub fn watch(self: &Arc<Self>, node: &Node) -> Result<Watching, Problem> {
        let watcher = Arc::new(Watcher {
            node: node.id.clone(),
            dirty_from: AtomicI64::new(CLEAN),
            wide: AtomicBool::new(false),
            over: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let full = || Problem::Exhausted(format!("{MAX_OF_NODE} streams of this node are open; close them, or wait"));
        let number = self.watchers.insert(&watcher, &node.selectors).ok_or_else(full)?;
        Ok(Watching { watcher, number, view: Arc::clone(self) })
    }
}

impl Watching {
    /// Waits until something concerns the node, or the stream is over.
    pub async fn concerned(&self) {
        self.watcher.wake.notified().await;
    }

    /// Whether the node opened another stream.
    pub fn is_over(&self) -> bool {
        self.watcher.over.load(Ordering::SeqCst)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.view.watchers.remove(self.number);
    }
}

impl Watchers {
    pub(super) fn len(&self) -> usize {
        self.lock().all.len()
    }

    fn insert(&self, watcher: &Arc<Watcher>, selectors: &Selectors) -> Option<u64> {
        let mut open = self.lock();
        if open.of(&watcher.node).count() >= MAX_OF_NODE {
            return None;
        }
        open.next += 1;
        let number = open.next;
        for earlier in open.of(&watcher.node) {
            earlier.over.store(true, Ordering::SeqCst);
            earlier.wake.notify_one();
        }
        open.by_node.entry(watcher.node.clone()).or_default().push(number);
        open.all.insert(number, Listed { watcher: Arc::clone(watcher), facts: HashSet::new() });
        open.has(number, selectors);
        Some(number)
    }

    fn remove(&self, number: u64) {
        let mut open = self.lock();
        open.has(number, &Selectors::new());
        let Some(Listed { watcher, .. }) = open.all.remove(&number) else { return };
        if let Some(of_node) = open.by_node.get_mut(&watcher.node) {
            of_node.retain(|other| *other != number);
            if of_node.is_empty() {
                open.by_node.remove(&watcher.node);
            }
        }
    }

    /// Tells the streams that a change concerns. The view is locked for writing: none of them looks meanwhile.
    pub(super) fn tell(&self, concern: &Concern, number: i64) {
        let open = self.lock();
        match concern {
            Concern::All => open.all.values().for_each(|listed| listed.watcher.dirty(number)),
            Concern::Nobody => {}
            Concern::Some(reach) => open.concerned(reach, |watcher| watcher.dirty(number)),
            Concern::Wide(reach) => open.concerned(reach, Watcher::everything),
        }
    }

    /// The node has other selectors now.
    pub(super) fn moved(&self, node: &Node) {
        let mut open = self.lock();
        for number in open.by_node.get(&node.id).cloned().unwrap_or_default() {
            open.has(number, &node.selectors);
        }
    }

    /// Whoever follows takes full state.
    pub(super) fn reloaded(&self) {
        self.lock().all.values().for_each(|listed| listed.watcher.everything());
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn of(&self, node: &SpiffeId) -> impl Iterator<Item = &Arc<Watcher>> {
        let numbers = self.by_node.get(node).into_iter().flatten();
        numbers.filter_map(|number| self.all.get(number)).map(|listed| &listed.watcher)
    }

    /// The stream's node has these selectors now.
    fn has(&mut self, number: u64, selectors: &Selectors) {
        let Some(listed) = self.all.get_mut(&number) else { return };
        for fact in listed.facts.drain() {
            if let Some(streams) = self.by_fact.get_mut(&fact) {
                streams.remove(&number);
                if streams.is_empty() {
                    self.by_fact.remove(&fact);
                }
            }
        }
        for selector in selectors {
            let text: Arc<str> = selector.to_string().into();
            // One text for all who have it.
            let known = self.by_fact.get_key_value(&text).map(|(known, _)| Arc::clone(known));
            let fact = known.unwrap_or(text);
            self.by_fact.entry(Arc::clone(&fact)).or_default().insert(number);
            listed.facts.insert(fact);
        }
    }

    fn concerned(&self, reach: &Reach, told: impl Fn(&Watcher)) {
        reach.ids.iter().flat_map(|id| self.of(id)).for_each(|watcher| told(watcher));
        for alias in &reach.aliases {
            // A selector that nobody has: no stream has them all.
            let mut streams = alias.iter().map(|fact| self.by_fact.get(fact));
            let rarest = streams.try_fold(None::<&HashSet<u64>>, |rarest, streams| {
                let streams = streams?;
                Some(Some(rarest.filter(|rarest| rarest.len() <= streams.len()).unwrap_or(streams)))
            });
            let candidates = rarest.flatten().into_iter().flatten().filter_map(|number| self.all.get(number));
            let has_all = |listed: &&Listed| alias.iter().all(|fact| listed.facts.contains(fact));
            candidates.filter(has_all).for_each(|listed| told(&listed.watcher));
        }
    }
}

impl Watcher {
    /// What waits; taken, so that the next change wakes again.
    pub(super) fn take(&self) -> Waiting {
        let from = self.dirty_from.swap(CLEAN, Ordering::SeqCst);
        match (self.wide.swap(false, Ordering::SeqCst), from) {
            (true, _) => Waiting::Everything,
            (false, CLEAN) => Waiting::Nothing,
            (false, from) => Waiting::From(from),
        }
    }

    fn dirty(&self, number: i64) {
        self.dirty_from.fetch_min(number, Ordering::SeqCst);
        self.wake.notify_one();
    }

    fn everything(&self) {
        self.wide.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: [&str; 5] = ["k:0", "k:1", "k:2", "k:3", "k:4"];

    fn facts(bits: usize) -> impl Iterator<Item = &'static str> {
        FACTS.into_iter().enumerate().filter(move |(at, _)| bits >> at & 1 == 1).map(|(_, fact)| fact)
    }

    fn selectors(bits: usize) -> Selectors {
        facts(bits).map(|fact| fact.parse().unwrap()).collect()
    }

    fn stream(n: usize) -> Arc<Watcher> {
        Arc::new(Watcher {
            node: SpiffeId::parse(&format!("spiffe://td/spire/agent/tpm/{n}")).unwrap(),
            dirty_from: AtomicI64::new(CLEAN),
            wide: AtomicBool::new(false),
            over: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// Each set of selectors against each alias, after every node had other ones before.
    #[test]
    fn an_alias_concerns_the_nodes_that_have_all_of_its_selectors() {
        let watchers = Watchers::default();
        let streams: Vec<_> = (0..1 << FACTS.len()).map(stream).collect();
        for (bits, stream) in streams.iter().enumerate() {
            let number = watchers.insert(stream, &selectors(!bits)).unwrap();
            watchers.lock().has(number, &selectors(bits));
        }
        for asked in 1..1 << FACTS.len() {
            let reach = Reach { aliases: vec![facts(asked).map(Arc::from).collect()], ..Reach::default() };
            watchers.tell(&Concern::Some(reach), 7);
            for (bits, stream) in streams.iter().enumerate() {
                let told = matches!(stream.take(), Waiting::From(7));
                assert_eq!(told, bits & asked == asked, "{bits:05b} under {asked:05b}");
            }
        }
    }

    #[test]
    fn streams_that_ended_leave_nothing() {
        let watchers = Watchers::default();
        let numbers: Vec<_> = (1..8).map(|n| watchers.insert(&stream(n), &selectors(n)).unwrap()).collect();
        numbers.into_iter().for_each(|number| watchers.remove(number));
        let open = watchers.lock();
        assert!(open.all.is_empty() && open.by_node.is_empty() && open.by_fact.is_empty());
    }
}
