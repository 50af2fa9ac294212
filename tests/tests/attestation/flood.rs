use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chancery_tests::attestation::{Dialogue, dialer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
};
use tonic::{Code, Status};

use crate::{court::Court, rig::Opening};

/// Openings of one source that the CA keeps open: the default of `limits.attestations_per_source`.
const PER_SOURCE: usize = 32;
/// Strangers who open attestations without a pause.
const STRANGERS: usize = 4;
/// Another address than the honest node's; every loopback address has a share of its own.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Time of an honest attestation, whatever strangers do; alone it takes a small part of it.
const NORMAL: Duration = Duration::from_secs(3);

/// Case 55.
#[test]
fn honest_node_attests_in_its_normal_time_while_strangers_flood_from_elsewhere() {
    let court = Court::open();
    let (rig, captured) = (court.rig("a"), court.rig("b"));
    court.admit(&rig);
    let alone = timed(&court, || court.run(rig.attest(&court)).map(drop));

    // An opening that costs the CA the most, repeated for ever: an enrolled EK, a challenge, and no answer.
    let flood = court.run(Flood::begin(&court, ELSEWHERE, &captured.opening()));
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        slowest = slowest.max(timed(&court, || court.run(rig.attest(&court)).map(drop)));
    }
    let (opened, refused, held) = court.run(flood.end());
    println!(
        "alone {alone:?}, slowest of five {slowest:?}; strangers: {opened} challenged, {refused} refused, {held} held"
    );
    assert!(slowest < NORMAL, "an honest node took {slowest:?}, alone {alone:?}");
    assert_eq!(held, PER_SOURCE, "attestations that one source may hold");
    assert!(refused > 0, "the flood never met its limit");
    assert_eq!(court.nodes().len(), 1, "the flood made a node");
}

fn timed(court: &Court, attest: impl FnOnce() -> Result<(), Status>) -> Duration {
    let (mark, began) = (court.timeline.newest(), Instant::now());
    attest().unwrap_or_else(|status| panic!("an honest node was refused: {status}"));
    let took = began.elapsed();
    court.wait(mark, "node.attested", |e| e.kind == "node.attested");
    took
}

struct Flood {
    held: Vec<Dialogue>,
    strangers: Vec<tokio::task::JoinHandle<()>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    refused: AtomicUsize,
    over: AtomicBool,
}

impl Flood {
    /// Holds as many attestations as the source gets, then goes on knocking.
    async fn begin(court: &Court, from: IpAddr, opening: &Opening) -> Self {
        let authority = &court.playground.authority;
        let address = pipe(from, authority.grpc).await;
        let dialer = Arc::new(dialer(authority, &court.playground.trust_domain, &address.to_string()).unwrap());
        let (payload, csr) = (opening.bytes(), opening.csr.clone());
        let knock = move || {
            let (dialer, payload, csr) = (Arc::clone(&dialer), payload.clone(), csr.clone());
            async move {
                let pinned = dialer.pinned().await.map_err(|e| Status::unavailable(e.to_string()))?;
                let mut dialogue = Dialogue::over(pinned, "tpm", payload, csr).await?;
                dialogue.challenge().await.map(|_| dialogue)
            }
        };
        let mut held = Vec::new();
        let full = loop {
            match knock().await {
                Ok(dialogue) => held.push(dialogue),
                Err(status) => break status,
            }
        };
        assert_eq!(full.code(), Code::ResourceExhausted, "{full:?}");
        let counts = Arc::new(Counts::default());
        let strangers = (0..STRANGERS).map(|_| {
            let (knock, counts) = (knock.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                while !counts.over.load(Ordering::Relaxed) {
                    match knock().await {
                        Ok(_) => counts.opened.fetch_add(1, Ordering::Relaxed),
                        Err(_) => counts.refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        });
        Self { held, strangers: strangers.collect(), counts }
    }

    async fn end(self) -> (usize, usize, usize) {
        self.counts.over.store(true, Ordering::Relaxed);
        for stranger in self.strangers {
            stranger.await.unwrap();
        }
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        (count(&self.counts.opened), count(&self.counts.refused), self.held.len())
    }
}

/// Carries TCP connections to the CA so that they come from `source`; TLS goes through untouched.
async fn pipe(source: IpAddr, ca: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((source, 0).into()).unwrap();
                if let Ok(mut server) = socket.connect(ca).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}
