//! Nodes that ask all the time, at one server after the other, and remember every answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_tests::process::until;
use tokio::{runtime::Runtime, task::JoinHandle, time::sleep};

use crate::node::{Node, Process};

/// Between two calls of one node: load, and not a benchmark.
const PACE: Duration = Duration::from_millis(15);
/// Of this many calls one begins an instance, asks for it again, and ends it.
const BEGIN_EACH: usize = 4;

/// An SVID that a node received.
#[derive(Clone, Debug)]
pub struct Got {
    pub node: usize,
    pub server: usize,
    pub serial: String,
    pub asked: Instant,
    pub came: Instant,
}

/// Every answer to one process.
#[derive(Debug)]
pub struct Begun {
    pub token: [u8; 32],
    pub ids: BTreeSet<String>,
}

/// What was received while the load ran.
#[derive(Default)]
pub struct Received {
    pub got: Vec<Got>,
    pub begun: Vec<Begun>,
    pub refusals: BTreeMap<String, u32>,
}

/// Nodes at work until it is ended.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    servers: usize,
    stop: AtomicBool,
    // Guards what came; held to add a line or to look.
    received: Mutex<Received>,
}

impl Load {
    /// Every node begins to ask.
    pub fn start(runtime: &Runtime, nodes: &[Arc<Node>], servers: usize) -> Self {
        let received = Mutex::new(Received::default());
        let shared = Arc::new(Shared { servers, stop: AtomicBool::new(false), received });
        let tasks = nodes.iter().enumerate().map(|(index, node)| {
            let (node, shared) = (Arc::clone(node), Arc::clone(&shared));
            runtime.spawn(async move { shared.work(index, &node).await })
        });
        Self { tasks: tasks.collect(), shared }
    }

    /// Waits until every node of `who` received something it asked for after `since`; answers how long the last one
    /// took.
    pub fn back(&self, since: Instant, who: impl Fn(usize) -> bool, within: Duration) -> Duration {
        let nodes: Vec<usize> = (0..self.tasks.len()).filter(|node| who(*node)).collect();
        let all = || {
            let received = self.shared.received.lock().unwrap();
            let first = |node: &usize| received.got.iter().find(|g| g.node == *node && g.asked >= since);
            let times: Vec<_> = nodes.iter().map(|node| first(node).map(|got| got.came - since)).collect();
            match times.iter().flatten().max() {
                Some(longest) if times.iter().all(Option::is_some) => Ok(*longest),
                _ => Err(format!("since {:?}: {times:?}, refusals {:?}", since.elapsed(), received.refusals)),
            }
        };
        until(within, all).unwrap_or_else(|e| panic!("not every node is back within {within:?}: {e}"))
    }

    /// SVIDs received so far.
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().got.len()
    }

    /// Waits until `more` further SVIDs were received.
    pub fn go_on(&self, more: usize, within: Duration) {
        let before = self.count();
        until(within, || match self.count() - before {
            came if came >= more => Ok(()),
            came => Err(format!("{came} of {more} SVIDs: {:?}", self.shared.received.lock().unwrap().refusals)),
        })
        .unwrap_or_else(|e| panic!("{e}"));
    }

    /// Ends the load, each node after its call; answers what was received.
    pub fn end(self, runtime: &Runtime) -> Received {
        self.shared.stop.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            for task in self.tasks {
                task.await.expect("a node's task ends by itself");
            }
        });
        let shared = Arc::into_inner(self.shared).expect("every task has ended");
        shared.received.into_inner().unwrap()
    }
}

impl Shared {
    async fn work(&self, index: usize, node: &Node) {
        let mut server = index % self.servers;
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let done = match turn % BEGIN_EACH {
                0 => self.begin(index, node, &mut server).await,
                _ => self.issue(index, node, server).await,
            };
            if !done {
                server = (server + 1) % self.servers;
            }
            sleep(PACE).await;
        }
    }

    async fn issue(&self, index: usize, node: &Node, server: usize) -> bool {
        let asked = Instant::now();
        let answer = node.issue(server).await;
        self.noted(index, server, asked, answer)
    }

    /// Asks until the process is an instance, then once more elsewhere, where it must be the same; then ends it.
    async fn begin(&self, index: usize, node: &Node, server: &mut usize) -> bool {
        let process = Process::new();
        let mut ids = BTreeSet::new();
        while ids.is_empty() && !self.stop.load(Ordering::Relaxed) {
            if !self.ask(index, node, *server, &process, &mut ids).await {
                *server = (*server + 1) % self.servers;
                sleep(PACE).await;
            }
        }
        let other = (*server + 1) % self.servers;
        self.ask(index, node, other, &process, &mut ids).await;
        let mut ended = true;
        for id in &ids {
            ended &= self.noted_end(node.end(*server, &process, id).await);
        }
        self.received.lock().unwrap().begun.push(Begun { token: process.token, ids });
        ended
    }

    async fn ask(
        &self,
        index: usize,
        node: &Node,
        server: usize,
        process: &Process,
        ids: &mut BTreeSet<String>,
    ) -> bool {
        let asked = Instant::now();
        let answer = node.begin(server, process).await.map(|(id, serial)| {
            ids.insert(id);
            serial
        });
        self.noted(index, server, asked, answer)
    }

    /// Whether it was answered; else the next call goes elsewhere.
    fn noted(&self, node: usize, server: usize, asked: Instant, answer: Result<String, tonic::Status>) -> bool {
        let came = Instant::now();
        let mut received = self.received.lock().unwrap();
        let done = answer.is_ok();
        match answer {
            Ok(serial) => received.got.push(Got { node, server, serial, asked, came }),
            Err(status) => *received.refusals.entry(words(&status)).or_default() += 1,
        }
        done
    }

    fn noted_end(&self, answer: Result<(), tonic::Status>) -> bool {
        if let Err(status) = &answer {
            *self.received.lock().unwrap().refusals.entry(words(status)).or_default() += 1;
        }
        answer.is_ok()
    }
}

fn words(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message().chars().take(60).collect::<String>())
}
