//! A TCP way to a database whose connections can be held up, all or some of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    runtime::Runtime,
    sync::watch,
};

/// What only the committer says: it takes the counter row.
const COMMITS: &[u8] = b"UPDATE counter";

/// Forwards to one address.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// Connections that never committed get nothing more from the database.
    reads_held: watch::Sender<bool>,
    /// Bytes from the database that were held back.
    held: AtomicU64,
    // Guards what is looked for in what committers send; held for a look.
    word: Mutex<Vec<u8>>,
    /// How often it was there.
    seen: AtomicU64,
}

impl Proxy {
    pub fn start(runtime: &Runtime, target: SocketAddr) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            reads_held: watch::Sender::new(false),
            held: AtomicU64::new(0),
            word: Mutex::default(),
            seen: AtomicU64::new(0),
        });
        let server = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&server);
                tokio::spawn(async move { shared.forward(client).await });
            }
        });
        Self { address, shared }
    }

    /// Holds back, or lets through, what the database says to every connection but the committer's.
    pub fn hold_reads(&self, hold: bool) {
        self.shared.reads_held.send_replace(hold);
    }

    /// Bytes held back so far.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// From now on counts how often a committer sends `word`.
    pub fn watch_for(&self, word: &str) {
        *self.shared.word.lock().unwrap() = word.as_bytes().to_vec();
        self.shared.seen.store(0, Ordering::Relaxed);
    }

    /// How often that was.
    pub fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn forward(self: Arc<Self>, client: TcpStream) {
        let Ok(database) = TcpStream::connect(self.target).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_database, to_database) = database.into_split();
        let commits = Arc::new(AtomicBool::new(false));
        let (up, down) = (Arc::clone(&self), self);
        let committer = Arc::clone(&commits);
        let asks = tokio::spawn(async move { up.ask(from_client, to_database, &committer).await });
        down.answer(from_database, to_client, &commits).await;
        asks.abort();
    }

    /// What the server says to the database; one that commits is known by its words.
    async fn ask(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, commits: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let said = &buffer[..length];
            if holds(said, COMMITS) {
                commits.store(true, Ordering::Relaxed);
            }
            let word = self.word.lock().unwrap().clone();
            if commits.load(Ordering::Relaxed) && holds(said, &word) {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            if to.write_all(said).await.is_err() {
                return;
            }
        }
    }

    /// What the database says, held back while that is asked for.
    async fn answer(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, commits: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        let mut held = self.reads_held.subscribe();
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if !commits.load(Ordering::Relaxed) && *held.borrow_and_update() {
                self.held.fetch_add(length as u64, Ordering::Relaxed);
                if held.wait_for(|held| !held).await.is_err() {
                    return;
                }
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

fn holds(said: &[u8], word: &[u8]) -> bool {
    !word.is_empty() && said.windows(word.len()).any(|window| window == word)
}
