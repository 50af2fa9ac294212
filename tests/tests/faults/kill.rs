//! `kill -9` of a server at a random moment while it issues.

use std::{thread, time::Duration, time::Instant};

use chancery_attestor::crypto::random;

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    report::{ran, rounds},
    stage::{Stage, folder, servers},
};

/// A node moves to the other server at once: its connection is reset.
const MOVED: Duration = Duration::from_secs(3);
/// The only server must start first.
const STARTED: Duration = Duration::from_secs(20);
/// SVIDs between two faults.
const CALM: usize = 40;

fn random_moment() {
    thread::sleep(Duration::from_millis(u64::from(random::<1>().unwrap()[0])));
}

#[test]
fn a_server_killed_while_issuing_loses_nothing_and_its_nodes_move_to_the_other_one() {
    let cluster = Cluster::start(&[]);
    let folder = folder();
    let servers = servers(folder.path(), 2, &cluster.url());
    let mut stage = Stage::raise(folder, servers);
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for round in 0..rounds() {
        load.go_on(CALM, STARTED);
        random_moment();
        let victim = &mut stage.servers[round % 2];
        let since = Instant::now();
        victim.kill();
        longest = longest.max(load.back(since, |_| true, MOVED));
        victim.start();
    }
    load.go_on(CALM, STARTED);
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    ran("kill -9 of one of two servers", &format!("nodes back within {longest:?} of {MOVED:?}; {figures}"));
}

#[test]
fn the_only_server_killed_while_issuing_loses_nothing() {
    let folder = folder();
    let database = folder.path().join("ca.sqlite3").display().to_string();
    let servers = servers(folder.path(), 1, &database);
    let mut stage = Stage::raise(folder, servers);
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        load.go_on(CALM, STARTED);
        random_moment();
        let since = Instant::now();
        stage.servers[0].kill();
        stage.servers[0].start();
        longest = longest.max(load.back(since, |_| true, STARTED));
    }
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    ran("kill -9 of the only server, SQLite", &format!("nodes back within {longest:?} of {STARTED:?}; {figures}"));
}
