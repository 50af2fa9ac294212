//! `kill -9` at the n-th write, fsync or send: strace counts the calls of each thread and kills at the n-th of the first one.
//!
//! However it falls: whoever holds a credential finds its event in the record afterwards. `CHANCERY_CRASHES` = how far n goes
//! (`make crashes`: 200; else 2).

use std::{
    path::Path,
    time::{Duration, Instant},
};

use chancery_tests::process::{Process, until};

use crate::{
    ledger::Ledger,
    report::{installed, ran, root},
    stage::{Stage, folder, servers},
};

/// What a commit writes with; what makes it durable; what an answer leaves by, and what wakes the thread that sends it.
const CALLS: [&str; 3] = ["pwrite64", "fsync,fdatasync", "sendto,sendmsg,write,writev"];
/// SVIDs between two crashes.
const CALM: usize = 8;
/// Until the n-th call comes, and until the server is there again.
const SOON: Duration = Duration::from_secs(60);

fn crashes() -> usize {
    let told = std::env::var("CHANCERY_CRASHES").ok();
    told.map_or(2, |text| text.parse().unwrap_or_else(|_| panic!("CHANCERY_CRASHES={text}: not a number")))
}

/// Kills the process at the n-th of those calls; answers once it is dead.
fn kill_at(n: usize, calls: &str, pid: u32, folder: &Path) {
    let (out, log) = (folder.join("calls"), folder.join("crash.log"));
    let _ = std::fs::remove_file(&log);
    let (inject, pid_text) = (format!("inject={calls}:signal=KILL:when={n}"), pid.to_string());
    let (trace, out) = (format!("trace={calls}"), out.display().to_string());
    let args = ["-f", "-o", &out, "-e", &trace, "-e", &inject, "-p", &pid_text];
    let strace = Process::start("strace", Path::new("/usr/bin/strace"), &args, &log).unwrap();
    let dead = until(SOON, || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // Not reaped yet: a zombie.
        Ok(stat) if !stat.contains(") Z ") => Err(format!("{} still runs at call {n} of {calls}", pid)),
        _ => Ok(()),
    });
    dead.unwrap_or_else(|e| panic!("{e}: {}", std::fs::read_to_string(&log).unwrap_or_default()));
    drop(strace);
}

#[test]
fn a_server_killed_at_any_write_fsync_or_send_has_the_event_of_each_credential_that_left() {
    let fault = "kill -9 at the n-th write, fsync or send, SQLite";
    if !root(fault, "trace another process") || !installed(fault, "strace", "strace") {
        return;
    }
    let folder = folder();
    let database = folder.path().join("ca.sqlite3").display().to_string();
    let (place, servers) = (folder.path().to_owned(), servers(folder.path(), 1, &database));
    let mut stage = Stage::raise(folder, servers);
    let load = stage.load();
    let mut longest = Duration::ZERO;
    for (n, calls) in (1..=crashes()).flat_map(|n| CALLS.map(|calls| (n, calls))) {
        load.go_on(CALM, SOON);
        let pid = stage.servers[0].process().pid();
        kill_at(n, calls, pid, &place);
        let since = Instant::now();
        stage.servers[0].kill();
        stage.servers[0].start();
        longest = longest.max(load.back(since, |_| true, SOON));
    }
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    let verified = stage.servers[0].offline("audit verify").unwrap_or_else(|e| panic!("{e}"));
    assert!(verified.contains("The record is whole"), "{verified}");
    ran(fault, &format!("n = 1 to {} of each, nodes back within {longest:?}; {figures}", crashes()));
}
