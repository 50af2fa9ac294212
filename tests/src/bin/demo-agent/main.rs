//! A demo agent: calls every other instance all the time, over mTLS, both sides checking the other's exact ID.

mod calls;
mod serve;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use chancery_sdk::{id::SpiffeId, source::Source, tls::Allow};
use chancery_tests::demo::protocol::{Counts, PeerAddress, Said, Told};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

/// Counters by peer, shared by the calling tasks and the reporter.
type Table = Arc<Mutex<BTreeMap<String, Counts>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(problem) = agent().await {
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

    let mut callers: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    let mut listener = Some(listener);
    let mut told = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = told.next_line().await? {
        match serde_json::from_str(&line)? {
            Told::Peers { peers, call_every_ms } => {
                let Some(listener) = listener.take() else { continue };
                let ids: Result<Vec<_>, _> = peers.iter().map(|p| SpiffeId::parse(&p.id)).collect();
                tokio::spawn(serve::serve(listener, Arc::new(source.server_tls(Allow::ids(ids?), &[])?)));
                for peer in peers {
                    let call_every = Duration::from_millis(call_every_ms.max(1));
                    callers.insert(peer.id.clone(), start_calls(&source, peer, call_every, &table)?);
                }
            }
            Told::Forget { id } => {
                callers.remove(&id).inspect(JoinHandle::abort);
            }
            Told::Export { folder } => {
                export(&source, &folder)?;
                say(&Said::Exported);
            }
        }
    }
    Ok(())
}

fn start_calls(
    source: &Source,
    peer: PeerAddress,
    call_every: Duration,
    table: &Table,
) -> Result<JoinHandle<()>, Box<dyn std::error::Error>> {
    let tls = source.client_tls(Allow::id(&SpiffeId::parse(&peer.id)?), &[])?;
    Ok(tokio::spawn(calls::call_for_ever(Arc::new(tls), peer, call_every, Arc::clone(table))))
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

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        println!("{line}");
    }
}
