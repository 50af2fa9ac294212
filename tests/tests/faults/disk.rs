//! The disk below the database is full, and then it is not.

use std::time::{Duration, Instant};

use chancery_tests::process::until;

use crate::{
    cluster::{self, Cluster},
    ledger::Ledger,
    mount::Mount,
    report::{ran, root, rounds, skipped},
    stage::{Stage, folder, servers},
};

/// From the moment there is room until every node has an SVID again. PostgreSQL may have to recover first.
const BACK: Duration = Duration::from_secs(15);
/// Until the database has used up what it had reserved.
const FULL: Duration = Duration::from_secs(60);
/// SVIDs between two faults.
const CALM: usize = 40;

/// Fills the disk until a commit is refused, makes room, again and again.
fn fill_and_make_room(stage: &Stage, mount: &Mount, fault: &str) {
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        load.go_on(CALM, BACK);
        let told = || stage.servers.iter().map(log_says_full).sum::<usize>();
        let before = told();
        mount.fill();
        let refused = until(FULL, || match told() - before {
            0 => Err(format!("{} SVIDs, and no commit was refused for a full disk", load.count())),
            refused => Ok(refused),
        });
        refused.unwrap_or_else(|e| panic!("{e}"));
        mount.make_room();
        longest = longest.max(load.back(Instant::now(), |_| true, BACK));
    }
    let received = load.end(&stage.runtime);
    assert!(!received.refusals.is_empty(), "nobody noticed the full disk");
    let figures = Ledger::check(&stage.servers[0], &received);
    ran(fault, &format!("back within {longest:?} of {BACK:?}; {figures}"));
}

fn log_says_full(server: &crate::server::Server) -> usize {
    let text = std::fs::read_to_string(server.log()).unwrap_or_default();
    text.matches("database disk is full").count()
}

#[test]
fn a_full_disk_below_the_server_refuses_and_loses_nothing() {
    let fault = "full disk, SQLite";
    if !root(fault, "mount a file system") {
        return;
    }
    let folder = folder();
    let small = folder.path().join("small");
    let Some(mount) = Mount::at(&small, 24) else {
        return skipped(fault, "this system lets nobody mount");
    };
    let database = small.join("ca.sqlite3").display().to_string();
    let servers = servers(folder.path(), 1, &database);
    let stage = Stage::raise(folder, servers);
    fill_and_make_room(&stage, &mount, fault);
    drop(stage);
}

#[test]
fn a_full_disk_below_the_database_refuses_and_loses_nothing() {
    let fault = "full disk, PostgreSQL";
    if !root(fault, "mount a file system") {
        return;
    }
    let small = Cluster::folder();
    let Some(mount) = Mount::at(small.path(), 400) else {
        return skipped(fault, "this system lets nobody mount");
    };
    cluster::own(small.path());
    let cluster = Cluster::start_in(small, &["127.0.0.1"], &["max_wal_size=64MB", "min_wal_size=32MB"]);
    let folder = folder();
    let servers = servers(folder.path(), 2, &cluster.url());
    let stage = Stage::raise(folder, servers);
    fill_and_make_room(&stage, &mount, fault);
    drop((stage, cluster));
}
