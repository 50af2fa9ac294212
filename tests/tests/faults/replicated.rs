//! `database_requires = "replicated"`: nobody is answered before a second machine has the record.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use chancery_tests::process::until;

use crate::{
    cluster::{Cluster, End},
    report::ran,
    server::Server,
    stage::{Stage, folder},
};

const REPLICATED: &str = "database_requires = \"replicated\"";
const SOON: Duration = Duration::from_secs(20);
/// Longer than our limit on a statement: it must not end the wait of a commit as a success.
const WAITS: Duration = Duration::from_secs(13);

fn refuses_to_start(server: &Server, words: &str) {
    let mut command = Command::new("timeout");
    command.args(["30", &server.program().display().to_string(), "run", "--config"]).arg(server.config());
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(words), "{said}");
}

fn wait_ready(server: &Server, wanted: bool, word: &str) {
    let told = || match server.ready() {
        (ready, text) if ready == wanted && text.contains(word) => Ok(()),
        (_, text) => Err(text),
    };
    until(SOON, told).unwrap_or_else(|e| panic!("ready should be {wanted} with '{word}': {e}"));
}

#[test]
fn nobody_is_answered_before_a_second_machine_has_the_record() {
    let primary = Cluster::start(&[]);
    let folder = folder();
    let server = Server::new(folder.path(), "ca-0", &primary.url(), REPLICATED);
    server.offline("migrate").unwrap();
    refuses_to_start(&server, "synchronous_standby_names is empty");
    primary.set("synchronous_commit = 'off'");
    refuses_to_start(&server, "synchronous_commit is off");
    primary.set("synchronous_commit = 'on'");
    let mut standby = primary.standby("sb", None);
    let only_standby = Server::new(folder.path(), "ca-1", &standby.url(), "");
    refuses_to_start(&only_standby, "is a standby");
    primary.set("synchronous_standby_names = 'sb'");

    let stage = Stage::raise(folder, vec![server]);
    let server = &stage.servers[0];
    wait_ready(server, true, "ready");
    until(SOON, || match server.metric("chancery_ca_database_durability") {
        2.0 => Ok(()),
        other => Err(format!("durability {other}")),
    })
    .unwrap();

    // An operator takes the standby out of the configuration: the next transaction refuses.
    primary.set("synchronous_standby_names = ''");
    let node = &stage.nodes[0];
    let issue = |patience| stage.runtime.block_on(node.issue_within(0, patience));
    until(SOON, || issue(SOON).map_or(Ok(()), |serial| Err(format!("{serial} was issued")))).unwrap();
    wait_ready(server, false, "synchronous_standby_names is empty");
    primary.set("synchronous_standby_names = 'sb'");
    until(SOON, || issue(SOON).map_err(|e| e.to_string())).unwrap();
    wait_ready(server, true, "ready");

    // The standby dies: a commit waits, and is not answered, whatever PostgreSQL's limit on statements is.
    standby.down(End::Kill);
    let began = Instant::now();
    let answer = issue(WAITS);
    assert!(answer.is_err(), "an SVID was released that no standby has: {answer:?}");
    if let Some(rest) = WAITS.checked_sub(began.elapsed()) {
        thread::sleep(rest);
    }
    wait_ready(server, false, "streams");
    standby.up();
    let since = Instant::now();
    until(SOON, || issue(SOON).map_err(|e| e.to_string())).unwrap();
    let back = since.elapsed();
    wait_ready(server, true, "ready");
    ran("the synchronous standby away", &format!("nothing was answered for {WAITS:?}, back {back:?} after it"));
}
