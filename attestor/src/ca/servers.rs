//! The servers of the CA as this node has found them: whom to ask first, and whether anybody can be asked.
//!
//! A fleet spreads because each node has an order of its own, drawn at its start. Who failed comes last for a while; whoever
//! is connected stays so until the connection ends, and then the order counts again. Knows nothing of connections.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::crypto::fraction;

/// How long a server that failed is asked after all others.
const AVOIDED: Duration = Duration::from_secs(30);
/// How long "not now" of every server is believed before one is asked in place of another again.
const CALM: Duration = Duration::from_secs(5);
/// How long a call, and then a probe, may stay without an answer before its server is given up for another.
const PATIENCE: Duration = Duration::from_secs(1);
/// Doublings of the patience, one for each server given up within [`MEMORY`]: in an overload, nodes that change servers
/// make it worse.
const MAX_DOUBLINGS: u32 = 4;
/// How long a server that was given up is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// What is known of a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Condition {
    /// The last attempt came to nothing.
    Failed,
    /// Nothing bad; there is no connection.
    Idle,
    /// It is the one that is asked.
    InUse,
    /// It answers, and says "not now".
    Refusing,
}

/// A server, as an operator is told of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// `host:port`, as configured.
    pub address: String,
    /// What is known of it.
    pub condition: Condition,
    /// What failed last; empty where nothing did since it last worked.
    pub problem: String,
}

/// All servers of the configuration.
#[derive(Debug)]
pub struct Servers {
    /// Guards what is known; held for a look or a change.
    known: Mutex<Known>,
    /// Whether there is a server that may be asked.
    reach: watch::Sender<bool>,
}

#[derive(Debug)]
struct Known {
    /// In this node's order.
    rows: Vec<Row>,
    /// Connections made; the newest is in use.
    connections: u64,
    /// Servers given up because they were silent, and when the last one was.
    silences: u32,
    silent_at: Option<Instant>,
}

#[derive(Debug)]
struct Row {
    server: Server,
    /// When the condition was learnt.
    at: Instant,
}

impl Condition {
    /// Every condition, for tables.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Idle, Self::InUse, Self::Refusing];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Idle => "idle",
            Self::InUse => "in_use",
            Self::Refusing => "refusing",
        }
    }

    fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Refusing)
    }
}

impl Servers {
    /// Servers of which nothing is known, in an order by chance.
    pub fn new(addresses: Vec<String>) -> Self {
        let at = Instant::now();
        let server = |address| Server { address, condition: Condition::Idle, problem: String::new() };
        let mut rows: Vec<(f64, Row)> =
            addresses.into_iter().map(|address| (fraction(), Row { server: server(address), at })).collect();
        rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let known = Known { rows, connections: 0, silences: 0, silent_at: None };
        Self { known: Mutex::new(known), reach: watch::Sender::new(true) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known().rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known().rows.is_empty()
    }

    /// All of them, in this node's order.
    pub fn list(&self) -> Vec<Server> {
        self.known().rows.iter().map(|row| row.server.clone()).collect()
    }

    /// Whether there is a server that may be asked; false once each has failed or says "not now".
    pub fn reach(&self) -> watch::Receiver<bool> {
        self.reach.subscribe()
    }

    /// How many connections were made so far: another number, another connection.
    pub fn connections(&self) -> u64 {
        self.known().connections
    }

    /// Numbers of the servers in the order to ask: those that failed lately last, the latest failure at the very end.
    pub(super) fn order(&self) -> Vec<usize> {
        let known = self.known();
        let now = Instant::now();
        let shunned = |row: &Row| row.server.condition.is_bad() && now < row.at + AVOIDED;
        let mut order: Vec<usize> = (0..known.rows.len()).collect();
        order.sort_by_key(|number| known.rows.get(*number).filter(|row| shunned(row)).map(|row| row.at));
        order
    }

    /// `host:port` of a server.
    pub(super) fn address(&self, server: usize) -> String {
        self.known().rows.get(server).map(|row| row.server.address.clone()).unwrap_or_default()
    }

    /// How long a silent server is waited for.
    pub(super) fn patience(&self) -> Duration {
        let known = self.known();
        let lately = known.silent_at.is_some_and(|at| Instant::now() < at + MEMORY);
        PATIENCE * if lately { 1 << known.silences.min(MAX_DOUBLINGS) } else { 1 }
    }

    /// Whether every other server was found failing or refusing a moment ago: then asking around helps nobody.
    pub(super) fn nobody_else(&self, server: usize) -> bool {
        let known = self.known();
        let now = Instant::now();
        let others = known.rows.iter().enumerate().filter(|(number, _)| *number != server);
        others.into_iter().all(|(_, row)| row.server.condition.is_bad() && now < row.at + CALM)
    }

    /// Whether a server answers, be it with "not now".
    pub(super) fn any_refuses(&self) -> bool {
        self.known().rows.iter().any(|row| row.server.condition == Condition::Refusing)
    }

    /// It did not answer, or not as it must.
    pub(crate) fn failed(&self, server: usize, problem: &str) {
        self.set(server, Condition::Failed, problem);
    }

    /// A server that was dialled after it answered before it; what it failed with, if it did, says more.
    pub(super) fn overtaken(&self, server: usize) {
        let is_bad = self.known().rows.get(server).is_some_and(|row| row.server.condition.is_bad());
        if !is_bad {
            self.set(server, Condition::Failed, "another server answered before it");
        }
    }

    /// It left a call and a probe without an answer.
    pub(super) fn silent(&self, server: usize, problem: &str) {
        {
            let mut known = self.known();
            let now = Instant::now();
            let lately = known.silent_at.is_some_and(|at| now < at + MEMORY);
            known.silences = if lately { known.silences.saturating_add(1) } else { 1 };
            known.silent_at = Some(now);
        }
        self.failed(server, problem);
    }

    /// It says "not now".
    pub(super) fn refused(&self, server: usize, problem: &str) {
        self.set(server, Condition::Refusing, problem);
    }

    /// It is connected, and asked from now on.
    pub fn connected(&self, server: usize) {
        self.known().connections += 1;
        self.in_use(server);
    }

    /// It is the one that is asked, and answers.
    pub(super) fn answers(&self, server: usize) {
        let known = self.known().rows.get(server).map(|row| row.server.condition);
        if known != Some(Condition::InUse) {
            self.in_use(server);
        }
    }

    fn in_use(&self, server: usize) {
        for row in &mut self.known().rows {
            if row.server.condition == Condition::InUse {
                row.server.condition = Condition::Idle;
            }
        }
        self.set(server, Condition::InUse, "");
    }

    /// It answered somebody who does not go on asking.
    pub(super) fn answered(&self, server: usize) {
        let is_bad = self.known().rows.get(server).is_some_and(|row| row.server.condition.is_bad());
        if is_bad {
            self.set(server, Condition::Idle, "");
        }
    }

    /// Its connection ended, for which it may have had good reasons.
    pub(super) fn left(&self, server: usize) {
        self.set(server, Condition::Idle, "");
    }

    fn set(&self, server: usize, condition: Condition, problem: &str) {
        let mut known = self.known();
        let Some(row) = known.rows.get_mut(server) else { return };
        (row.server.condition, row.server.problem, row.at) = (condition, problem.to_owned(), Instant::now());
        let reach = known.rows.iter().any(|row| !row.server.condition.is_bad());
        drop(known);
        self.reach.send_if_modified(|before| std::mem::replace(before, reach) != reach);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn three() -> Servers {
        Servers::new(["a:1", "b:1", "c:1"].map(str::to_owned).into())
    }

    #[test]
    fn a_fleet_begins_at_every_server() {
        let first: std::collections::BTreeSet<_> = (0..200).map(|_| three().address(three().order()[0])).collect();
        assert_eq!(first.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_failed_comes_last_for_a_while_and_then_has_its_old_place() {
        let servers = three();
        servers.failed(0, "away");
        advance(Duration::from_secs(1)).await;
        servers.refused(1, "later");
        assert_eq!(servers.order(), [2, 0, 1]);
        advance(AVOIDED).await;
        assert_eq!(servers.order(), [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_can_be_asked_once_each_has_failed_or_refused() {
        let servers = three();
        let reach = servers.reach();
        servers.failed(0, "away");
        servers.failed(1, "away");
        assert!(*reach.borrow() && !servers.nobody_else(0) && servers.nobody_else(2));
        servers.refused(2, "later");
        assert!(!*reach.borrow());
        servers.answered(1);
        assert!(*reach.borrow());
        assert_eq!(servers.list()[2].problem, "later");
    }

    #[tokio::test(start_paused = true)]
    async fn one_server_is_in_use() {
        let servers = three();
        servers.connected(2);
        servers.connected(0);
        let conditions: Vec<_> = servers.list().iter().map(|server| server.condition).collect();
        assert_eq!(conditions, [Condition::InUse, Condition::Idle, Condition::Idle]);
        assert_eq!(servers.connections(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_grows_while_servers_are_silent_one_after_the_other() {
        let servers = three();
        assert_eq!(servers.patience(), PATIENCE);
        for times in [2, 4, 8, 16, 16] {
            servers.silent(0, "silent");
            assert_eq!(servers.patience(), PATIENCE * times);
        }
        advance(MEMORY).await;
        assert_eq!(servers.patience(), PATIENCE);
    }
}
