use std::{sync::Arc, time::Duration};

use chancery_tests::demo::protocol::PeerAddress;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig};

use crate::{Table, serve::CALL_BYTES};

/// A new TLS connection more often than once a second.
const CONNECTION_LIFE: Duration = Duration::from_millis(900);
/// A call or handshake that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Calls `peer` every `call_every` until the task is aborted, over a new connection every 0.9 s.
pub async fn call_for_ever(tls: Arc<ClientConfig>, peer: PeerAddress, call_every: Duration, table: Table) {
    loop {
        if let Err(problem) = one_connection(&tls, &peer, call_every, &table).await {
            note_failure(&table, &peer, &problem);
            tokio::time::sleep(call_every).await;
        }
    }
}

fn note_failure(table: &Table, peer: &PeerAddress, problem: &std::io::Error) {
    let mut rows = table.lock().expect("no holder panics");
    let row = rows.entry(peer.id.clone()).or_default();
    row.failures += 1;
    row.last_failure = problem.to_string();
}

async fn one_connection(
    tls: &Arc<ClientConfig>,
    peer: &PeerAddress,
    call_every: Duration,
    table: &Table,
) -> std::io::Result<()> {
    let connector = TlsConnector::from(Arc::clone(tls));
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let mut stream = timeout(PATIENCE, async {
        let tcp = TcpStream::connect(peer.address).await?;
        tcp.set_nodelay(true)?;
        // The name is neither sent nor checked: the SPIFFE ID is.
        let name = ServerName::try_from("peer").map_err(std::io::Error::other)?;
        connector.connect(name, tcp).await
    })
    .await
    .map_err(late)??;
    table.lock().expect("no holder panics").entry(peer.id.clone()).or_default().handshakes += 1;
    let until = Instant::now() + CONNECTION_LIFE;
    let mut tick = interval(call_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number: u64 = 0;
    while Instant::now() < until {
        tick.tick().await;
        number += 1;
        let mut call = [0; CALL_BYTES];
        call[..8].copy_from_slice(&number.to_be_bytes());
        let mut answer = [0; CALL_BYTES];
        timeout(PATIENCE, async {
            stream.write_all(&call).await?;
            stream.flush().await?;
            stream.read_exact(&mut answer).await
        })
        .await
        .map_err(late)??;
        if answer != call {
            return Err(std::io::Error::other("the answer is not of this call"));
        }
        table.lock().expect("no holder panics").entry(peer.id.clone()).or_default().calls += 1;
    }
    stream.shutdown().await
}
