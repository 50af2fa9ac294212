//! PostgreSQL ends, in each of the ways it can, and comes back.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Cluster, End},
    ledger::Ledger,
    report::{ran, rounds},
    stage::{Stage, folder, servers},
};

/// From the moment the database answers again until every node has an SVID again.
const BACK: Duration = Duration::from_secs(8);
/// SVIDs between two faults.
const CALM: usize = 40;

#[test]
fn a_database_that_ends_and_comes_back_costs_calls_and_no_record() {
    let mut cluster = Cluster::start(&[]);
    let folder = folder();
    let servers = servers(folder.path(), 2, &cluster.url());
    let stage = Stage::raise(folder, servers);
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        for how in [End::Kill, End::Immediate, End::Fast] {
            load.go_on(CALM, BACK);
            cluster.down(how);
            let away = load.count();
            cluster.up();
            let since = Instant::now();
            longest = longest.max(load.back(since, |_| true, BACK));
            assert!(load.count() > away);
        }
    }
    let received = load.end(&stage.runtime);
    assert!(!received.refusals.is_empty(), "nobody noticed that the database was away");
    let figures = Ledger::check(&stage.servers[0], &received);
    ran("restart of PostgreSQL (killed, immediate, fast)", &format!("back within {longest:?} of {BACK:?}; {figures}"));
}
