//! One server hears nothing of the others: its NOTIFY and its reads are held up, while its commits go through.
//!
//! What the other server refused meanwhile must not come from this one: its view may still let the node in, the
//! committing transaction asks again.

use std::time::{Duration, Instant};

use tokio::{task::JoinHandle, time::sleep};

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    node::Process,
    proxy::Proxy,
    report::{ran, rounds},
    server::Server,
    stage::{Stage, folder},
};

/// How long nodes go on asking the stale server: longer than its view may be old.
const ASKED: Duration = Duration::from_secs(7);
/// Until the stale server serves again once it hears.
const BACK: Duration = Duration::from_secs(10);

#[test]
fn a_server_that_hears_nothing_releases_nothing_that_was_refused_elsewhere() {
    let cluster = Cluster::start(&[]);
    let folder = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let port = cluster.port();
    let proxy = Proxy::start(&runtime, ([127, 0, 0, 1], port).into());
    let through = cluster.url().replace(&format!(":{port}/"), &format!(":{}/", proxy.address.port()));
    let servers =
        vec![Server::new(folder.path(), "ca-0", &cluster.url(), ""), Server::new(folder.path(), "ca-1", &through, "")];
    let mut stage = Stage::raise(folder, servers);
    let mut tries = 0;
    for round in 0..rounds() {
        if round > 0 {
            stage.more_nodes(2);
        }
        tries += one_round(&stage, &proxy);
    }
    ran(
        "NOTIFY and reads of one server held up",
        &format!("{tries} transactions of it asked about the refused, none granted"),
    );
}

/// Bans one node and ends one instance at the first server while the second hears nothing.
fn one_round(stage: &Stage, proxy: &Proxy) -> u64 {
    let last = stage.nodes.len() - 1;
    let (banned, ended) = (&stage.nodes[last], &stage.nodes[last - 1]);
    let process = Process::new();
    let (instance, _) = stage.runtime.block_on(async {
        // Both are known to the second server before it goes deaf.
        banned.issue(1).await.unwrap();
        ended.begin(1, &process).await.unwrap()
    });
    proxy.hold_reads(true);
    let began = Instant::now();
    // They ask before the ban too, so that the first call after it finds the second server still sure of its view.
    let asking: Vec<JoinHandle<_>> = (0..4)
        .map(|_| {
            let node = std::sync::Arc::clone(banned);
            stage.runtime.spawn(async move {
                let mut given = Vec::new();
                while began.elapsed() < ASKED {
                    let asked = Instant::now();
                    given.extend(node.issue(1).await.ok().map(|svid| (asked, svid)));
                    sleep(Duration::from_millis(20)).await;
                }
                given
            })
        })
        .collect();
    stage.servers[0].cli(&["node", "ban", &banned.id]).unwrap();
    let refused = Instant::now();
    proxy.watch_for(&banned.id);
    stage.servers[0].cli(&["instance", "end", &instance]).unwrap();
    let given: Vec<_> = stage
        .runtime
        .block_on(async { futures_util::future::join_all(asking).await })
        .into_iter()
        .flat_map(Result::unwrap)
        .filter(|(asked, _)| *asked > refused)
        .collect();
    let renewed = stage.runtime.block_on(ended.begin(1, &process));
    let (tries, held) = (proxy.seen(), proxy.held());
    proxy.hold_reads(false);
    assert!(held > 0, "the second server heard all the time");
    assert!(tries > 0, "the second server never asked the database about the banned node: it was not stale");
    assert!(given.is_empty(), "released after the ban: {given:?}");
    assert!(renewed.is_err(), "an ended instance was given an SVID");
    let ledger = Ledger::of(&stage.servers[0]);
    ledger.check_silent_after(&banned.id, ledger.number_of("node.banned", &banned.id));
    let back = Instant::now();
    while let Err(status) = stage.runtime.block_on(stage.nodes[0].issue(1)) {
        assert!(back.elapsed() < BACK, "the second server does not come back: {status}");
    }
    tries
}
