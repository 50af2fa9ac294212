//! The clock of one server jumps, forwards and backwards; libfaketime is what jumps it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chancery_tests::process::until;

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    report::{ran, rounds, skipped},
    server::Server,
    stage::{Stage, folder},
};

/// Longer than any certificate here lives; and how long it stays so: the sweep for silent nodes runs every 15 s.
const JUMPS: [(&str, Duration); 2] = [("+7200", Duration::from_secs(17)), ("-7200", Duration::from_secs(2))];
/// Until a server with a wrong clock says so, and serves again once it is right.
const SOON: Duration = Duration::from_secs(20);
/// Until nodes of the server with the wrong clock have an SVID of the other one.
const MOVED: Duration = Duration::from_secs(8);
/// SVIDs between two faults.
const CALM: usize = 40;

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}

fn jump(file: &Path, to: &str) {
    chancery_daemon::file::write_atomic(file, format!("{to}\n").as_bytes(), 0o644).unwrap();
}

#[test]
fn a_server_whose_clock_jumps_grants_nothing_and_ends_nobody() {
    let fault = "the clock of a server jumps";
    let Some(library) = library() else {
        return skipped(fault, "libfaketime is not installed (package libfaketime)");
    };
    let cluster = Cluster::start(&[]);
    let folder = folder();
    let file = folder.path().join("clock");
    jump(&file, "+0");
    let mut servers: Vec<_> =
        (0..2).map(|index| Server::new(folder.path(), &format!("ca-{index}"), &cluster.url(), "")).collect();
    servers[1].prefix = vec![
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".into(),
        "DONT_FAKE_MONOTONIC=1".into(),
    ];
    let stage = Stage::raise(folder, servers);
    let wrong = &stage.servers[1];
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds() {
        for (to, wrong_for) in JUMPS {
            load.go_on(CALM, SOON);
            jump(&file, to);
            let since = Instant::now();
            until(SOON, || match wrong.ready() {
                (false, text) if text.contains("disagree on the time") => Ok(()),
                (_, text) => Err(text),
            })
            .unwrap_or_else(|e| panic!("{to} s: the server does not say that its clock is wrong: {e}"));
            longest = longest.max(load.back(since, |_| true, MOVED));
            let told = Instant::now();
            while told.elapsed() < wrong_for {
                load.go_on(1, SOON);
                let issued = stage.runtime.block_on(stage.nodes[0].issue(1));
                assert!(issued.is_err(), "issued with a clock that is {to} s off");
            }
            jump(&file, "+0");
            until(SOON, || wrong.ready().0.then_some(()).ok_or_else(|| wrong.ready().1)).unwrap();
            until(SOON, || stage.runtime.block_on(stage.nodes[0].issue(1)).map_err(|e| e.to_string())).unwrap();
        }
    }
    let received = load.end(&stage.runtime);
    let figures = Ledger::check(&stage.servers[0], &received);
    let good = stage.servers[0].json(&["node", "list"])["nodes"].as_array().unwrap().len();
    assert_eq!(good, stage.nodes.len());
    for kind in ["node.silent", "node.failed"] {
        assert_eq!(Ledger::of(&stage.servers[0]).count(kind), 0, "a wrong clock ended nodes");
    }
    ran(fault, &format!("by +7200 s and -7200 s, nodes moved within {longest:?} of {MOVED:?}; {figures}"));
}
