//! A demo agent: calls every other instance all the time, over mTLS, both sides checking the other's exact ID.

mod birth;
mod calls;
mod serve;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use chancery_sdk::{id::SpiffeId, peer::Connector, source::Source, tls::Allow};
use chancery_tests::demo::protocol::{Counts, End, HungUp, PeerAddress, Said, Told};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

/// Counters by peer, shared by the calling tasks and the reporter.
type Table = Arc<Mutex<BTreeMap<String, Counts>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let ended = match birth::of_this_process() {
        None => agent().await,
        Some(by) => birth::ask(by).await.map(|asked| say(&Said::Asked(asked))),
    };
    if let Err(problem) = ended {
        eprintln!("demo-agent: {problem}");
        std::process::exit(1);
    }
}

async fn agent() -> Result<(), Box<dyn std::error::Error>> {
    let source = Source::builder().connect().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(tell_rotations(source.clone(), address));
    let table = Table::default();
    tokio::spawn(tell_counts(Arc::clone(&table)));

    let mut callers = Callers { source: source.clone(), table, every: Duration::ZERO, of: BTreeMap::new() };
    let mut listener = Some(listener);
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = told.next_line().await? {
        match serde_json::from_str(&line)? {
            Told::Peers { peers, call_every_ms } => {
                let Some(listener) = listener.take() else { continue };
                let ids: Result<Vec<_>, _> = peers.iter().map(|p| SpiffeId::parse(&p.id)).collect();
                tokio::spawn(serve::serve(listener, source.acceptor(Allow::ids(ids?), &[])?));
                callers.every = Duration::from_millis(call_every_ms.max(1));
                peers.into_iter().try_for_each(|peer| callers.call(peer))?;
            }
            Told::Forget { id } => callers.forget(&id),
            Told::Hold { ids } => ids.iter().try_for_each(|id| callers.hold(id))?,
            Told::Bear { by } => birth::bear(by)?,
            Told::Export { folder } => {
                export(&source, &folder)?;
                say(&Said::Exported);
            }
        }
    }
    Ok(())
}

/// The tasks that call, a peer each.
struct Callers {
    source: Source,
    table: Table,
    every: Duration,
    of: BTreeMap<String, (PeerAddress, JoinHandle<()>)>,
}

impl Callers {
    fn call(&mut self, peer: PeerAddress) -> Result<(), Box<dyn std::error::Error>> {
        let calls = calls::call_for_ever(self.connector(&peer)?, peer.clone(), self.every, Arc::clone(&self.table));
        self.of.insert(peer.id.clone(), (peer, tokio::spawn(calls)));
        Ok(())
    }

    /// Calls go on over connections that are kept.
    fn hold(&mut self, id: &str) -> Result<(), Box<dyn std::error::Error>> {
        let (peer, caller) = self.of.remove(id).ok_or_else(|| format!("{id} is not called"))?;
        caller.abort();
        let calls = calls::hold(self.connector(&peer)?, peer.clone(), self.every, Arc::clone(&self.table));
        self.of.insert(peer.id.clone(), (peer, tokio::spawn(calls)));
        Ok(())
    }

    fn forget(&mut self, id: &str) {
        self.of.remove(id).inspect(|(_, caller)| caller.abort());
    }

    fn connector(&self, peer: &PeerAddress) -> Result<Connector, Box<dyn std::error::Error>> {
        Ok(self.source.connector(Allow::id(&SpiffeId::parse(&peer.id)?), &[])?)
    }
}

/// Says the identity now and after each rotation; says `lost` when there is none.
async fn tell_rotations(source: Source, address: std::net::SocketAddr) {
    let mut changes = source.changed();
    loop {
        changes.borrow_and_update();
        match source.svid() {
            Ok(svid) => say(&Said::Identity {
                id: svid.id().to_string(),
                address,
                serial: svid.serial_decimal(),
                key: key_hash(svid.leaf()),
                not_after: svid.not_after().0,
            }),
            Err(_) => say(&Said::Lost),
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn tell_counts(table: Table) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let peers = table.lock().expect("no holder panics").clone();
        say(&Said::Stats { peers });
    }
}

fn key_hash(leaf: &[u8]) -> String {
    let spki = chancery_sdk::x509::spki_of(leaf).unwrap_or_default();
    hex::encode(ring::digest::digest(&ring::digest::SHA256, &spki))
}

fn export(source: &Source, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let svid = source.svid()?;
    let chain: Vec<u8> = svid.chain().iter().flat_map(|der| der.to_vec()).collect();
    std::fs::write(folder.join("svid.der"), chain)?;
    std::fs::write(folder.join("key.der"), svid.private_key_pkcs8())?;
    Ok(())
}

/// This agent's SDK just closed a connection with `id`.
fn hung_up(id: &str, end: End) -> HungUp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    HungUp { id: id.into(), end, at_us: u64::try_from(now.as_micros()).unwrap_or(u64::MAX), again: None }
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        println!("{line}");
    }
}
