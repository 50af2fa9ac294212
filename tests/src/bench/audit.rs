//! What the signed record costs: `audit verify` over a million events, and the proof for one of them, in trees of 10^3 to
//! 10^6.
//!
//! `BENCH_EVENTS` makes it smaller.

use std::{cell::Cell, time::Instant};

use chancery_ca::{
    config::Config,
    log::{files::Folder, key::LogKey, origin, trusted, verify},
    store::{Fact, ServerStarted, Store},
};
use chancery_core::{
    event::leaf_hash,
    log::{
        Hash,
        checkpoint::Checkpoint,
        proof::{self, Head},
        tile::{FULL, Row, Tile},
    },
};
use chancery_daemon::{clock, shutdown::Shutdown};

use super::{
    ROUNDS,
    figure::{Figure, Target},
    load::size,
};

/// Makes an event as long as the usual one, an issuance.
const FILLING: usize = 480;
/// Facts handed over together.
const TOGETHER: usize = 2048;
/// Trees whose proofs are counted, besides the whole one; their tiles are parts of its own.
const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
/// Proofs of a tree, from its first event to its last.
const PROOFS: u64 = 100;

/// The figures, over one database and one folder.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let events = usize::try_from(size("BENCH_EVENTS", 1_000_000)?).map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let text = format!(
        "trust_domain = \"example.org\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\nadmin_socket = {:?}\n",
        folder.path().join("data"),
        folder.path().join("s/admin.sock")
    );
    let config: Config = chancery_daemon::config::parse(&text)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
    let behind = runtime.block_on(record(&config, events))?;
    let (seconds, note) = runtime.block_on(verified(&config))?;
    let (reads, most) = proofs(&config)?;
    Ok(vec![
        Figure::new("audit verify of 1,000,000 events", " s", Target::AtMost(30.0), seconds, note)?,
        // Two tiles of each level, of which there are three below 256^3 events, less the one that both share.
        Figure::new("tiles read for the proof of one event", "", Target::AtMost(5.0), reads, most)?,
        Figure::new("checkpoint after the last of them", " s", Target::AtMost(60.0), vec![behind], String::new())?,
    ])
}

/// A CA that records so many events; seconds from the last commit to the checkpoint that covers it.
async fn record(config: &Config, events: usize) -> Result<f64, String> {
    std::fs::create_dir_all(&config.data_dir).map_err(|e| e.to_string())?;
    Store::migrate(&config.database()).await.map_err(|e| e.to_string())?;
    let shutdown = Shutdown::manual();
    let ca = chancery_ca::start(config.clone(), shutdown.clone(), clock::system()).await.map_err(|e| e.to_string())?;
    let fact = Fact::ServerStarted(ServerStarted { version: "v".repeat(FILLING) });
    let mut left = events;
    while left > 0 {
        let facts = vec![fact.clone(); left.min(TOGETHER)];
        left -= facts.len();
        ca.state.store.commit_all(facts).await.map_err(|e| e.to_string())?;
    }
    let began = Instant::now();
    let wanted = u64::try_from(events).unwrap_or(u64::MAX);
    ca.state.log.shown().wait_for(|shown| *shown >= wanted).await.map_err(|e| e.to_string())?;
    let behind = began.elapsed().as_secs_f64();
    shutdown.begin();
    ca.stopped().await.map_err(|e| e.to_string())?;
    Ok(behind)
}

/// Seconds of each round, scaled to a million events.
async fn verified(config: &Config) -> Result<(Vec<f64>, String), String> {
    let store = Store::open(&config.database(), "bench").await.map_err(|e| e.to_string())?;
    let (mut seconds, mut note) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let report = verify::verify(&store, config, None, |_| {}).await.map_err(|e| e.to_string())?;
        let took = began.elapsed().as_secs_f64();
        if let Some(finding) = report.findings.first() {
            return Err(format!("found: {}", finding.what));
        }
        let events: u64 = report.epochs.iter().map(|epoch| epoch.events).sum();
        seconds.push(took * 1e6 / events as f64);
        note = format!("{events} events, {:.0} a second", events as f64 / took);
    }
    store.close().await;
    Ok((seconds, note))
}

/// Tiles read for each proof in the largest tree, and what the trees of every size needed at most.
fn proofs(config: &Config) -> Result<(Vec<f64>, String), String> {
    let folder = Folder::new(&config.log_dir(), 0);
    let key = LogKey::read(&config.log_key_file()).map_err(|e| e.to_string())?.ok_or("no key of the log")?;
    let keys: Vec<_> = trusted(config).into_iter().chain([key.public()]).collect();
    let note = folder.checkpoint().map_err(|e| e.to_string())?.ok_or("no checkpoint")?;
    let head = Checkpoint::open(&note, &origin(config, 0), &keys).map_err(|e| e.to_string())?.head;
    let mut told = Vec::new();
    for size in SIZES.into_iter().filter(|size| *size < head.size) {
        let root = proof::root(size, |tile| hashes(&folder, tile, head.size)).map_err(|e| e.to_string())?;
        let reads = reads(&folder, Head { size, root }, head.size)?;
        told.push(format!("{} of {size}", most(&reads)));
    }
    let reads = reads(&folder, head, head.size)?;
    told.push(format!("{} of {}", most(&reads), head.size));
    Ok((reads, format!("at most {} events", told.join(", "))))
}

fn most(reads: &[f64]) -> f64 {
    reads.iter().copied().fold(0.0, f64::max)
}

/// Tiles read for proofs of events all over a tree, each proof verified. The folder is that of a tree of `size` events,
/// which begins with it.
fn reads(folder: &Folder, head: Head, size: u64) -> Result<Vec<f64>, String> {
    let mut reads = Vec::new();
    for part in 0..PROOFS {
        let index = (head.size - 1) * part / (PROOFS - 1);
        let count = Cell::new(0u32);
        let read = |tile| {
            count.set(count.get() + 1);
            hashes(folder, tile, size)
        };
        let proof = proof::inclusion(index, head.size, read).map_err(|e| e.to_string())?;
        if !proof::is_included(&leaf(folder, index, size)?, index, head.size, &head.root, &proof) {
            return Err(format!("event {index} of {} is not proved", head.size));
        }
        reads.push(f64::from(count.get()));
    }
    Ok(reads)
}

/// A tile of hashes as a smaller tree had it, from the folder of a tree of `size` events.
fn hashes(folder: &Folder, tile: Tile, size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = folder.read(Tile::of_tree(tile.row, tile.index, size).unwrap_or(tile))?;
    bytes.truncate(usize::from(tile.width) * size_of::<Hash>());
    Ok(bytes)
}

fn leaf(folder: &Folder, index: u64, size: u64) -> Result<Hash, String> {
    let tile = Tile::of_tree(Row::Entries, index / u64::from(FULL), size).ok_or("no bundle")?;
    let bytes = folder.read(tile).map_err(|e| e.to_string())?;
    let entries = tile.entries(&bytes).map_err(|e| e.to_string())?;
    let offset = usize::try_from(index % u64::from(FULL)).map_err(|e| e.to_string())?;
    entries.get(offset).map(|event| leaf_hash(event)).ok_or_else(|| "a short bundle".into())
}
