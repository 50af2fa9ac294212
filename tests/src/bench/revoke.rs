//! From the call that revokes an instance until a peer with our SDK has closed its connection with it.
//!
//! A thousand nodes of the load generator follow the CA meanwhile, and are told of each revocation as the one real
//! attestor is, whose Workload API this process and the instances use. `BENCH_NODES` and `BENCH_REVOKED` make it smaller.

use std::{
    io::ErrorKind,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use chancery_proto::chancery::admin::v1::{RevokeRequest, admin_client::AdminClient, revoke_request::What};
use chancery_sdk::{id::TrustDomain, peer::GuardedStream, source::Source, tls::Allow, workload::Endpoint};
use rustix::process::geteuid;
use tokio::{io::AsyncReadExt, net::TcpStream, runtime::Runtime, task::JoinHandle, time::timeout};
use tonic::transport::Channel;

use super::{
    figure::{Figure, Target},
    load::{channel, load, size},
    scale::propagation,
};
use crate::{
    demo::{
        agents::{Agent, Seen},
        hsm::gauge,
        protocol::{PeerAddress, Told},
    },
    playground::{Attest, Options, Playground},
    process::until,
};

/// The class of the instances.
const CLASS: &str = "bench/peer";
/// Entries made one after the other for the comparison, each for another node.
const ENTRIES: &str = "300";
/// The same, each for every node, as a revocation is.
const ENTRIES_FOR_ALL: &str = "100";
/// For identities, lists and connections before anything is measured.
const SOON: Duration = Duration::from_secs(120);
/// A peer that has not hung up by then never will, as far as we care.
const PATIENCE: Duration = Duration::from_secs(30);
/// A stream of Watch takes a message in so many milliseconds. Whoever is revoked sooner after the last one waits for that.
const COALESCED_MS: u64 = 250;
/// Revocations without a rest between them, told beside the others.
const AT_A_STRETCH: usize = 20;
/// The fleet stays for the rests, so much for each revocation, and so much more: it must not leave before the last one.
const EACH_MS: u64 = 500;
const FLEET_SLACK: Duration = Duration::from_secs(30);

/// The figures: revocations one after the other, and an entry's way in the same run.
pub(super) fn measure() -> Result<Vec<Figure>, String> {
    let (nodes, revoked) = (size("BENCH_NODES", 1000)?, size("BENCH_REVOKED", 100)?);
    let spaced = usize::try_from(revoked).map_err(|e| e.to_string())?;
    let folder = tempfile::Builder::new().prefix("chancery-bench-").tempdir().map_err(|e| e.to_string())?;
    let options = Options { attest: Attest::JoinToken, ..Options::new(folder.path().join("playground")) };
    let playground = Playground::start(&options)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| e.to_string())?;
    let mut peers = Peers::start(&playground, &runtime, spaced + AT_A_STRETCH)?;

    let count = nodes.to_string();
    let entry_ms = |reach, rounds| {
        load(&playground, &playground, &propagation(&count, reach, rounds, "0"))?.ms(
            "propagate",
            "arrival.from_request",
            "p99",
        )
    };
    let entry_ms = Entries { for_one: entry_ms("one", ENTRIES)?, for_all: entry_ms("all", ENTRIES_FOR_ALL)? };
    // The gauge is set once a second: streams of that fleet must not pass for those of the next.
    until(SOON, || match watching(&playground)? {
        1 => Ok(()),
        more => Err(format!("{more} streams after the fleet left, and there is one node")),
    })?;
    let rests: Duration = (0..spaced).map(rest).sum();
    let work = Duration::from_millis(EACH_MS * (revoked + AT_A_STRETCH as u64));
    let lasting = format!("{}s", (rests + work + FLEET_SLACK).as_secs());
    let fleet = ["agents", &count, "--native", "--for", &lasting, "--warm-up", "0s", "--echo", "0s"];
    let mut took = thread::scope(|scope| -> Result<Took, String> {
        let fleet = scope.spawn(|| load(&playground, &playground, &fleet).map(|_| ()));
        let took = connected(&playground, nodes, || fleet.is_finished())
            .and_then(|()| peers.revoke_all(&runtime, spaced))
            .and_then(|took| match fleet.is_finished() {
                false => connected(&playground, nodes, || true)
                    .map(|()| took)
                    .map_err(|e| format!("after the last revocation: {e}; the fleet was there for {lasting}")),
                true => Err(format!("the last revocation took longer than the {lasting} of the fleet")),
            });
        let ended = fleet.join().map_err(|_| "the load panicked".to_owned())?;
        ended.and(took)
    })?;
    took.figures(&entry_ms, nodes)
}

/// Nodes' streams, as the CA tells them.
fn watching(playground: &Playground) -> Result<i64, String> {
    gauge::sum(playground.authority.metrics, "chancery_ca_watchers", "")
}

/// Waits until so many nodes follow the CA, the real one besides.
fn connected(playground: &Playground, nodes: u64, is_over: impl Fn() -> bool) -> Result<(), String> {
    until(SOON, || {
        let watching = watching(playground)?;
        match watching > i64::try_from(nodes).unwrap_or(i64::MAX) {
            true => Ok(Ok(())),
            false if is_over() => Ok(Err(format!("{watching} streams, with {nodes} nodes of the load generator"))),
            false => Err(format!("only {watching} streams for {nodes} nodes")),
        }
    })?
}

/// The rest before a revocation: never within the pace of Watch after the last one, and not in step with anything.
fn rest(number: usize) -> Duration {
    Duration::from_millis(COALESCED_MS + (number as u64 * 97) % COALESCED_MS)
}

/// An instance, and the connection with it that this process holds: when and how it ends.
struct Peer {
    id: String,
    ends: JoinHandle<(Instant, ErrorKind)>,
}

/// Instances to revoke, and the socket to do it at.
struct Peers {
    admin: AdminClient<Channel>,
    peers: Vec<Peer>,
    // Both live until the last is revoked: the verifier's list, and the other ends.
    _source: Source,
    _agents: Vec<Agent>,
}

impl Peers {
    fn start(playground: &Playground, runtime: &Runtime, count: usize) -> Result<Self, String> {
        let machine = playground.machines.first().ok_or("no node")?;
        register(playground, &machine.spiffe_id)?;
        let endpoint = Endpoint::unix(&machine.workload_socket).map_err(|e| e.to_string())?;
        let source = runtime.block_on(Source::builder().endpoint(endpoint).connect()).map_err(|e| e.to_string())?;
        until(SOON, || if source.hears_revocations() { Ok(()) } else { Err("no list of revocations".into()) })?;
        let agents = agents(playground, &machine.workload_socket, &source, count)?;
        let peers = runtime.block_on(async {
            let mut peers = Vec::with_capacity(count);
            for agent in &agents {
                peers.push(Peer::dial(&source, &playground.trust_domain, agent.seen()).await?);
            }
            Ok::<_, String>(peers)
        })?;
        let admin = runtime.block_on(channel(&playground.authority.admin_socket))?;
        Ok(Self { admin: AdminClient::new(admin), peers, _source: source, _agents: agents })
    }

    /// Revokes `spaced` of them with rests between, and then what is left without any.
    fn revoke_all(&mut self, runtime: &Runtime, spaced: usize) -> Result<Took, String> {
        let mut took = Took { spaced: Vec::new(), stretch: Vec::new(), answered: Vec::new() };
        runtime.block_on(async {
            for (number, peer) in std::mem::take(&mut self.peers).into_iter().enumerate() {
                if number < spaced {
                    tokio::time::sleep(rest(number)).await;
                }
                let (ended, answered) = peer.revoke(&mut self.admin).await?;
                match number < spaced {
                    true => took.spaced.push(ended),
                    false => took.stretch.push(ended),
                }
                took.answered.push(answered);
            }
            Ok(took)
        })
    }
}

impl Peer {
    async fn dial(source: &Source, trust_domain: &str, seen: Seen) -> Result<Self, String> {
        let domain = TrustDomain::new(trust_domain).map_err(|e| e.to_string())?;
        let connector = source.connector(Allow::trust_domain(&domain), &[]).map_err(|e| e.to_string())?;
        let tcp = TcpStream::connect(seen.address.ok_or("no address")?).await.map_err(|e| e.to_string())?;
        let stream = connector.connect(tcp).await.map_err(|e| format!("{}: {e}", seen.id))?;
        Ok(Self { id: seen.id, ends: tokio::spawn(end(stream)) })
    }

    /// Milliseconds from the call to the end of the connection, and to the answer.
    async fn revoke(self, admin: &mut AdminClient<Channel>) -> Result<(f64, f64), String> {
        let what = Some(What::Instance(self.id.clone()));
        let asked = Instant::now();
        let told = RevokeRequest { what, all_under: false, reason: "measured".into() };
        admin.revoke(told).await.map_err(|e| format!("{}: {e}", self.id))?;
        let answered = asked.elapsed();
        let (ended, why) = timeout(PATIENCE, self.ends)
            .await
            .map_err(|_| format!("{} is still talked to {PATIENCE:?} after its revocation", self.id))?
            .map_err(|e| e.to_string())?;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        match ended.checked_duration_since(asked) {
            // What the SDK does with a peer that is refused; anything else was done by the other end.
            Some(took) if why == ErrorKind::ConnectionAborted => Ok((ms(took), ms(answered))),
            Some(_) => Err(format!("{}: the connection ended otherwise: {why}", self.id)),
            None => Err(format!("{}: the connection ended before the revocation: {why}", self.id)),
        }
    }
}

/// Reads until the connection ends.
async fn end(mut stream: GuardedStream<TcpStream>) -> (Instant, ErrorKind) {
    let mut some = [0; 64];
    loop {
        match stream.read(&mut some).await {
            Ok(0) => return (Instant::now(), ErrorKind::UnexpectedEof),
            Ok(_) => {}
            Err(fault) => return (Instant::now(), fault.kind()),
        }
    }
}

/// An identity for this program, and a class for the instances.
fn register(playground: &Playground, node: &str) -> Result<(), String> {
    let uid = format!("unix:uid:{}", geteuid().as_raw());
    let us = std::env::current_exe().map_err(|e| e.to_string())?;
    let us = format!("unix:path:{}", us.display());
    let id = format!("spiffe://{}/bench", playground.trust_domain);
    #[rustfmt::skip]
    playground.ca(&["entry", "create", "--parent-id", node, "--spiffe-id", &id, "--selector", &uid, "--selector", &us])?;
    let them = format!("unix:path:{}", playground.bin.path("demo-agent").display());
    #[rustfmt::skip]
    playground.ca(&["class", "create", "--parent-id", node, "--name", CLASS, "--selector", &uid, "--selector", &them, "--allow-unproven-nodes"])?;
    Ok(())
}

/// Starts the instances, each of which accepts this process and nobody else.
fn agents(playground: &Playground, socket: &Path, source: &Source, count: usize) -> Result<Vec<Agent>, String> {
    let program = playground.bin.path("demo-agent");
    let id = source.svid().map_err(|e| e.to_string())?.id().to_string();
    // Nobody answers there; it may try once a day.
    let address = "127.0.0.1:9".parse().map_err(|_| "an address")?;
    let told = Told::Peers { peers: vec![PeerAddress { id, address }], call_every_ms: 86_400_000 };
    let mut agents = Vec::with_capacity(count);
    for _ in 0..count {
        agents.push(Agent::start(&program, 0, socket)?);
    }
    for agent in &mut agents {
        agent.tell(&told)?;
        agent.wait(SOON, "an identity", |seen| seen.address.is_some())?;
    }
    Ok(agents)
}

/// 99th percentiles of an entry's way, in milliseconds.
struct Entries {
    for_one: f64,
    for_all: f64,
}

/// Milliseconds, an instance each.
struct Took {
    spaced: Vec<f64>,
    stretch: Vec<f64>,
    answered: Vec<f64>,
}

impl Took {
    fn figures(&mut self, entry_ms: &Entries, nodes: u64) -> Result<Vec<Figure>, String> {
        for times in [&mut self.spaced, &mut self.stretch, &mut self.answered] {
            times.sort_by(f64::total_cmp);
        }
        let p99 = at(&self.spaced, 99)?;
        let note = format!(
            "{} instances, {nodes} nodes: p50 {:.1} ms, max {:.1} ms; answered p50 {:.1} ms",
            self.spaced.len(),
            at(&self.spaced, 50)?,
            at(&self.spaced, 100)?,
            at(&self.answered, 50)?,
        );
        let stretch = at(&self.stretch, 99)?;
        let without = format!("{} instances: p50 {:.1} ms", self.stretch.len(), at(&self.stretch, 50)?);
        let Entries { for_one, for_all } = entry_ms;
        let to_all = format!("{for_all:.1} ms, {ENTRIES_FOR_ALL} entries, each told to as many nodes as a revocation");
        let to_one = format!("{for_one:.1} ms, {ENTRIES} entries, each told to one node");
        Ok(vec![
            Figure::new("revoked to refused by an SDK peer, p99", " ms", Target::AtMost(1000.0), vec![p99], note)?,
            Figure::new(
                "  the same / entry for every node, p99",
                "",
                Target::AtMost(10.0),
                vec![p99 / for_all],
                to_all,
            )?,
            Figure::new("  the same / entry for one node, p99", "", Target::AtMost(10.0), vec![p99 / for_one], to_one)?,
            Figure::new("  one at the heels of the other, p99", " ms", Target::AtMost(1000.0), vec![stretch], without)?,
        ])
    }
}

/// The least of the sorted times that is not below so many per cent of them.
fn at(times: &[f64], percent: usize) -> Result<f64, String> {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().ok_or_else(|| "nothing was measured".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_a_hundred_is_the_last_but_one_and_of_few_the_last() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([at(&times, 50), at(&times, 99), at(&times, 100)], [Ok(50.0), Ok(99.0), Ok(100.0)]);
        assert_eq!(at(&times[..20], 99), Ok(20.0));
        assert!(at(&[], 99).is_err());
    }

    #[test]
    fn no_rest_is_within_the_pace_of_watch() {
        assert!((0..200).all(|number| (250..500).contains(&rest(number).as_millis())));
    }
}
