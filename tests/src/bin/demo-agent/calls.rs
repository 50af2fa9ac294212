use std::{io::ErrorKind, time::Duration};

use chancery_sdk::peer::{Connector, GuardedStream};
use chancery_tests::demo::protocol::{End, HungUp, PeerAddress, Said};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::{Table, hung_up, say, serve::CALL_BYTES};

/// A call or handshake that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a connection is used.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Stay {
    /// Less than any certificate has left when the agents rotate at half of its life.
    Long,
    /// A new TLS connection more often than once a second.
    Short,
}

impl Stay {
    fn life(self) -> Duration {
        match self {
            Self::Long => Duration::from_secs(8),
            Self::Short => Duration::from_millis(900),
        }
    }
}

/// Calls `peer` every `call_every` until the task is aborted, over a new connection every 0.9 s.
pub async fn call_for_ever(connector: Connector, peer: PeerAddress, call_every: Duration, table: Table) {
    loop {
        if let Err(problem) = one_connection(&connector, &peer, call_every, Stay::Short, &table).await {
            note_failure(&table, &peer, &problem);
            tokio::time::sleep(call_every).await;
        }
    }
}

/// The same over connections that are kept, until one ends other than by our own will.
///
/// When it was the SDK that ended it, that is no failure: it is said, with what became of one more handshake.
pub async fn hold(connector: Connector, peer: PeerAddress, call_every: Duration, table: Table) {
    loop {
        let Err(problem) = one_connection(&connector, &peer, call_every, Stay::Long, &table).await else { continue };
        if problem.kind() == ErrorKind::ConnectionAborted {
            let how = hung_up(&peer.id, End::Calling);
            let again = dial(&connector, &peer).await.err().map(|refusal| refusal.to_string());
            say(&Said::HungUp(HungUp { again, ..how }));
        } else {
            note_failure(&table, &peer, &problem);
        }
        return;
    }
}

fn note_failure(table: &Table, peer: &PeerAddress, problem: &std::io::Error) {
    let mut rows = table.lock().expect("no holder panics");
    let row = rows.entry(peer.id.clone()).or_default();
    row.failures += 1;
    row.last_failure = problem.to_string();
}

async fn dial(connector: &Connector, peer: &PeerAddress) -> std::io::Result<GuardedStream<TcpStream>> {
    let dialled = timeout(PATIENCE, async {
        let tcp = TcpStream::connect(peer.address).await?;
        tcp.set_nodelay(true)?;
        connector.connect(tcp).await
    });
    dialled.await.map_err(|_| ErrorKind::TimedOut)?
}

async fn one_connection(
    connector: &Connector,
    peer: &PeerAddress,
    call_every: Duration,
    stay: Stay,
    table: &Table,
) -> std::io::Result<()> {
    let mut stream = dial(connector, peer).await?;
    table.lock().expect("no holder panics").entry(peer.id.clone()).or_default().handshakes += 1;
    let until = Instant::now() + stay.life();
    let mut tick = interval(call_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number: u64 = 0;
    while Instant::now() < until {
        tick.tick().await;
        number += 1;
        call(&mut stream, number).await?;
        table.lock().expect("no holder panics").entry(peer.id.clone()).or_default().calls += 1;
        if (stay, number) == (Stay::Long, 1) {
            say(&Said::Held { id: peer.id.clone() });
        }
    }
    stream.shutdown().await
}

async fn call(stream: &mut GuardedStream<TcpStream>, number: u64) -> std::io::Result<()> {
    let mut call = [0; CALL_BYTES];
    call[..8].copy_from_slice(&number.to_be_bytes());
    let mut answer = [0; CALL_BYTES];
    timeout(PATIENCE, async {
        stream.write_all(&call).await?;
        stream.flush().await?;
        stream.read_exact(&mut answer).await
    })
    .await
    .map_err(|_| ErrorKind::TimedOut)??;
    match answer == call {
        true => Ok(()),
        false => Err(std::io::Error::other("the answer is not of this call")),
    }
}
