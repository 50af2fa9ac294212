//! Reading the log and applying what it tells.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Instant,
};

use chancery_core::{
    entry::{Entry, Graph},
    instance,
    node::Standing,
};
use chancery_sdk::id::{SpiffeId, TrustDomain};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, TICK, View,
    changes::{Change, Changes, Numbered},
    held,
    instances::{Instances, Moved, is_end},
    registry::{Barred, Concern, Registry, Row},
    revoked,
};
use crate::{
    peer::Peer,
    store::{Committed, InstanceFilter, Logged, Store, StoreError, What},
};

/// Changes read at once.
const PAGE: u32 = 1000;
/// Entries read at once at the start.
const ENTRIES: u32 = 2_000;
/// Pages of them that wait to be registered.
const AHEAD: usize = 2;
/// Rows of the list of revocations read at once at the start.
const REVOCATIONS: u32 = 5_000;
/// Holds read at once at the start.
const HOLDS: u32 = 1_000;

/// Everything there is, and where the log stood before it was read: what came meanwhile is applied again.
pub(super) async fn load(store: &Store) -> Result<Shared, StoreError> {
    let end = store.log_end().await?;
    let running = InstanceFilter { standing: Some(instance::Standing::Good), ..InstanceFilter::default() };
    let graph = entries(store).await?;
    let (classes, nodes) = (store.classes().await?, store.nodes().await?);
    let instances = Instances::of(store.instances(&running).await?, end.number);
    let barred = barred(store).await?;
    let registry = Registry::of(graph, classes, nodes, store.federated_bundles().await?, instances, barred);
    Ok(Shared { registry, changes: Changes::after(end.number, end.hash), epoch: end.epoch, applied: end.number })
}

/// What operators barred and revoked.
async fn barred(store: &Store) -> Result<Barred, StoreError> {
    let (now, mut revoked, mut last) = (chancery_daemon::clock::now(), Vec::new(), String::new());
    loop {
        let page = store.revocations(now, &last, REVOCATIONS).await?;
        let Some(newest) = page.last() else { break };
        last.clone_from(&newest.key);
        revoked.extend(page.into_iter().map(|row| row.revoked));
    }
    let (mut holds, mut last) = (Vec::new(), String::new());
    loop {
        let page = store.holds(now, &last, HOLDS).await?;
        let Some(newest) = page.last() else { break };
        last.clone_from(&newest.instance);
        holds.extend(page.into_iter().map(|hold| (hold.instance, hold.until)));
    }
    let closed = store.closures().await?.into_iter().map(|closure| (closure.class, closure.node)).collect();
    let executables = store.revoked_executables().await?.into_iter().map(|one| one.sha256).collect();
    Ok(Barred { closed, executables, revoked, holds, crls: store.crls().await? })
}

/// Every entry, page by page, read in two halves while those before are registered: a million of them are never there twice.
/// One that comes or changes meanwhile is in the log after its end as it was read, and is applied again.
async fn entries(store: &Store) -> Result<Graph, StoreError> {
    let (pages, mut read) = mpsc::channel(AHEAD);
    let middle = store.middle_entry().await?.unwrap_or_default();
    let lower = tokio::spawn(read_entries(store.clone(), String::new(), Some(middle.clone()), pages.clone()));
    let upper = tokio::spawn(read_entries(store.clone(), middle, None, pages));
    let mut graph = Graph::default();
    while let Some(page) = read.recv().await {
        page.into_iter().for_each(|entry| graph.put(entry));
    }
    for reader in [lower, upper] {
        reader.await.map_err(|_| StoreError::Closed)??;
    }
    Ok(graph)
}

/// Reads the entries after one ID, and up to another; which comes first is the database's to say.
async fn read_entries(
    store: Store,
    mut after: String,
    until: Option<String>,
    pages: mpsc::Sender<Vec<Entry>>,
) -> Result<(), StoreError> {
    loop {
        let page = match &until {
            Some(until) => store.entries_until(&after, until, ENTRIES).await?,
            None => store.entries(&after, ENTRIES).await?,
        };
        let Some(newest) = page.last() else { return Ok(()) };
        after.clone_from(&newest.id);
        if pages.send(page).await.is_err() {
            return Ok(()); // nobody waits any more
        }
    }
}

impl View {
    /// Reads what was committed until now, by whichever server. Callers that come together share one pass.
    ///
    /// # Errors
    /// [`StoreError`]; the view stays what it was, and grows old.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let asked = Instant::now();
        let mut pass = self.pass.lock().await;
        if pass.is_some_and(|began| began >= asked) {
            return Ok(());
        }
        let began = Instant::now();
        while self.page().await? {}
        *pass = Some(began);
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }

    /// Follows until `stop`: at once what this server commits or another one announces, else every [`TICK`].
    pub fn start(self: &Arc<Self>, stop: CancellationToken) {
        let view = Arc::clone(self);
        tokio::spawn(async move {
            let (mut moved, mut announced) = (view.store.moved(), view.store.announced());
            // Of its own, whatever wakes us: what this server commits is told without a look, and confirms nothing.
            let mut look = tokio::time::interval(TICK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let (woken, followed) = tokio::select! {
                    () = stop.cancelled() => return,
                    // Most of what this server commits was told with the commit.
                    woken = moved.changed() => (woken.is_ok(), view.caught_up().await),
                    woken = announced.changed() => (woken.is_ok(), view.follow().await),
                    _ = look.tick() => (true, view.follow().await),
                };
                match followed {
                    Ok(()) if woken => {}
                    // The store is closing: nothing wakes us any more.
                    Ok(()) => tokio::time::sleep(TICK).await,
                    Err(problem) => {
                        tracing::warn!(%problem, age_ms = view.age().as_millis(), "the log cannot be read");
                        tokio::time::sleep(TICK).await;
                    }
                }
            }
        });
    }

    /// One page of the log; whether there is more.
    async fn page(&self) -> Result<bool, StoreError> {
        let (epoch, applied) = {
            let shared = self.read();
            (shared.epoch, shared.applied)
        };
        let page = self.store.changes(applied, PAGE).await?;
        if page.epoch != epoch {
            let fresh = load(&self.store).await?;
            *self.write() = fresh;
            self.watchers.reloaded();
            self.revoked.send_modify(|acts| *acts += 1);
            self.listed.send_replace(());
            return Ok(false);
        }
        let moved = moves(&page.changes);
        let mut seen = HashSet::new();
        // The newest word about each thing: the row is what it is now.
        let mut changes = Vec::new();
        for logged in page.changes.iter().rev() {
            let told = changes_of(logged).into_iter().rev().filter(|change| seen.insert(change.clone()));
            changes.extend(told.map(|change| numbered(logged, change)));
        }
        let mut entries = self.entries_of(&changes).await?;
        let mut rows = Vec::with_capacity(changes.len());
        for numbered in changes.into_iter().rev() {
            let row = match &numbered.change {
                Change::Entry(id) => Some(Row::Entry(id.clone(), entries.remove(id))),
                other => self.row(other).await?,
            };
            rows.push((numbered, row));
        }
        self.apply(&moved, rows, page.until);
        Ok(page.more)
    }

    /// The entries of these changes as they are now, by ID: they come by the hundred.
    async fn entries_of(&self, changes: &[Numbered]) -> Result<HashMap<String, Entry>, StoreError> {
        let ids = changes.iter().filter_map(|numbered| match &numbered.change {
            Change::Entry(id) => Some(id.as_str()),
            _ => None,
        });
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let entries = self.store.entries_of(&ids).await?;
        Ok(entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect())
    }

    /// Applies what this server committed, without a look at the database: what concerns instances at once, and where
    /// nothing else happened since, all of it. Anything else is left to [`View::follow`], which may tell it again.
    pub(super) fn committed(&self, own: &Committed) {
        let moved = moves(&own.changes);
        let mut rows = Vec::new();
        for logged in &own.changes {
            for change in changes_of(logged) {
                let row = match &change {
                    Change::Ended { node, .. } => Row::Ended { node: node.clone() },
                    Change::Held(held) => Row::Held(held.clone()),
                    Change::Revoked(revoked) => Row::Revoked(Arc::clone(revoked)),
                    _ => return self.ahead(own, &moved),
                };
                rows.push((numbered(logged, change), Some(row)));
            }
        }
        let follows = {
            let shared = self.read();
            shared.epoch == own.epoch && shared.applied == own.first - 1
        };
        match follows {
            true => self.apply(&moved, rows, own.until),
            false => self.ahead(own, &moved),
        }
    }

    /// Instances only, ahead of what the log tells of others.
    fn ahead(&self, own: &Committed, moved: &[(i64, Moved)]) {
        if moved.is_empty() {
            return;
        }
        let mut shared = self.write();
        if shared.epoch != own.epoch {
            return;
        }
        let applied = shared.applied;
        // What the log told already may be followed there by its end.
        for (number, moved) in moved.iter().filter(|(number, _)| *number > applied) {
            shared.registry.moved(*number, moved);
        }
    }

    async fn row(&self, change: &Change) -> Result<Option<Row>, StoreError> {
        Ok(match change {
            Change::Bundle(domain) => Some(Row::Bundle(domain.clone(), self.store.federated_bundle(domain).await?)),
            Change::Class(name) => {
                Some(Row::Class(name.clone(), self.store.class(name).await?, self.store.closed_on(name).await?))
            }
            Change::Crl(issuer) => Some(Row::Crl(issuer.clone(), self.store.crl(issuer).await?)),
            Change::Ended { node, .. } => Some(Row::Ended { node: node.clone() }),
            Change::Executable(sha256) => Some(Row::Executable(sha256.clone())),
            Change::Held(held) => Some(Row::Held(held.clone())),
            Change::Node(id) => Some(Row::Node(id.clone(), self.store.node(id).await?)),
            Change::Revoked(revoked) => Some(Row::Revoked(Arc::clone(revoked))),
            // Read together, and told by nobody.
            Change::Entry(_) | Change::Wide => None,
        })
    }

    /// Applies and tells in one go: no stream looks in between.
    fn apply(&self, moved: &[(i64, Moved)], rows: Vec<(Numbered, Option<Row>)>, until: i64) {
        let (mut lost, mut revoked, mut all_told) = (Vec::new(), HashSet::new(), false);
        let mut listed = false;
        let mut shared = self.write();
        // What was applied while this was read is not applied again: an instance may have ended since.
        let applied = shared.applied;
        for (number, moved) in moved.iter().filter(|(number, _)| *number > applied) {
            shared.registry.moved(*number, moved);
        }
        for (mut numbered, row) in rows.into_iter().filter(|(numbered, _)| numbered.number > applied) {
            let Some(row) = row else { continue };
            if let Row::Node(id, node) = &row {
                match node {
                    Some(node) if node.standing == Standing::Good => self.watchers.moved(node),
                    Some(_) | None => lost.push(id.clone()),
                }
            }
            if let Row::Revoked(row) = &row
                && let What::Certificate(certificate) = &row.what
            {
                revoked.insert(certificate.clone());
            }
            listed |= matches!(row, Row::Crl(..));
            let concern = shared.registry.apply(row);
            if matches!(concern, Concern::Nobody) {
                continue;
            }
            if matches!(concern, Concern::Wide(_)) && !matches!(numbered.change, Change::Node(_)) {
                numbered.change = Change::Wide;
            }
            // Nobody looks before this is over, and from the first on is from all of them.
            if !(all_told && matches!(concern, Concern::All)) {
                self.watchers.tell(&concern, numbered.number);
            }
            all_told |= matches!(concern, Concern::All);
            shared.changes.push(numbered);
        }
        shared.applied = shared.applied.max(until);
        drop(shared);
        if !revoked.is_empty() {
            self.revoked.send_modify(|acts| *acts += 1);
        }
        if listed {
            self.listed.send_replace(());
        }
        for id in lost {
            let closed = self.live.close_where(|peer| peer.id.as_ref() == Some(&id));
            if closed > 0 {
                tracing::info!(node = %id, closed, "connections of a node without standing closed");
            }
        }
        if !revoked.is_empty() {
            let hit = |peer: &Peer| peer.certificates().any(|certificate| revoked.contains(&certificate));
            let closed = self.live.close_where(hit);
            if closed > 0 {
                tracing::info!(closed, "connections with a revoked certificate closed");
            }
        }
    }
}

fn numbered(logged: &Logged, change: Change) -> Numbered {
    let revoked_at = matches!(change, Change::Revoked(_)).then(|| revoked::committed_at(logged)).flatten();
    Numbered { number: logged.number, hash: logged.hash, revoked_at, change }
}

/// What the events say of instances.
fn moves(changes: &[Logged]) -> Vec<(i64, Moved)> {
    changes.iter().filter_map(|logged| Some((logged.number, Moved::of(logged)?))).collect()
}

/// What an event changes of the view.
fn changes_of(logged: &Logged) -> Vec<Change> {
    let revoked = revoked::told(logged).map(|revoked| Change::Revoked(Arc::new(revoked)));
    let held = held::told(logged).map(Change::Held);
    change(logged).into_iter().chain(revoked).chain(held).collect()
}

fn change(logged: &Logged) -> Option<Change> {
    let subject = &logged.subject;
    let group = logged.kind.split_once('.').map_or("", |(group, _)| group);
    match group {
        "bundle" => Some(Change::Bundle(TrustDomain::new(subject).ok()?)),
        "class" => Some(Change::Class(subject.clone())),
        "crl" => Some(Change::Crl(subject.clone())),
        "entry" => Some(Change::Entry(subject.clone())),
        "executable" => Some(Change::Executable(subject.clone())),
        "instance" if is_end(&logged.kind) => {
            Some(Change::Ended { node: Moved::node_of_ended(logged)?, instance: SpiffeId::parse(subject).ok()? })
        }
        "node" => Some(Change::Node(SpiffeId::parse(subject).ok()?)),
        _ => None,
    }
}
