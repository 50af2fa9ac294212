//! What nodes are told of the log, and what comes of it when one refuses.

use std::time::Duration;

use chancery_core::{log::proof::is_consistent, node::Node};

use super::*;
use crate::log::{
    report::report,
    witness::{ForNode, Witnessing},
};

/// The next thing that a node is told, within the time that a test has.
async fn next(witnessing: &mut Witnessing) -> ForNode {
    tokio::time::timeout(Duration::from_secs(20), witnessing.next()).await.expect("in time")
}

async fn told_up_to(witnessing: &mut Witnessing, size: u64) -> ForNode {
    loop {
        let told = next(witnessing).await;
        if head_of(&told.note).head.size >= size {
            return told;
        }
    }
}

fn end_of(state: &State) -> u64 {
    *state.store.last_number().borrow() as u64 + 1
}

async fn shown(state: &State) -> Vec<u8> {
    let size = end_of(state);
    state.log.shown().wait_for(|shown| *shown >= size).await.unwrap();
    state.log.newest.borrow().as_ref().unwrap().note.clone()
}

async fn events_of(state: &State, kind: &str) -> Vec<String> {
    let rows = state.store.record(0, -1, 10_000).await.unwrap();
    rows.into_iter().filter(|row| row.kind == kind).map(|row| String::from_utf8(row.bytes).unwrap()).collect()
}

async fn node(state: &State) -> Node {
    sample::admit(state, "n1", "01").await
}

fn disputes(state: &State, verdict: &str) -> u64 {
    state.metrics.log_disputes.get_or_create(&vec![("verdict", verdict.to_string())]).get()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_told_the_newest_checkpoint_with_the_proof_from_the_one_they_keep() {
    let world = World::of(300).await;
    let kept = world.shown();
    let state = world.begin().await;
    // Once it signs nothing is committed but by us.
    shown(&state).await;
    commit(&state, 400).await;
    let (mut new, mut back) = (Witnessing::new(&state, &[]), Witnessing::new(&state, &kept));
    let size = end_of(&state);
    let told = told_up_to(&mut back, size).await;
    let head = head_of(&told.note).head;
    if told.from == head_of(&kept).head.size {
        assert!(is_consistent(head_of(&kept).head, head, &told.consistency));
    }
    let first = told_up_to(&mut new, size).await;
    assert_eq!(first.note, told.note);
    // What comes next continues what was told, for both from one proof.
    commit(&state, 10).await;
    for witnessing in [&mut new, &mut back] {
        let told = next(witnessing).await;
        assert_eq!(told.from, size);
        assert!(is_consistent(head, head_of(&told.note).head, &told.consistency));
    }
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_gets_a_proof_from_what_it_keeps_and_one_with_more_than_there_is_sees_that() {
    let world = World::of(300).await;
    let kept = world.shown();
    let older = world.copy();
    world.run(100).await;
    let newer = world.shown();
    let state = older.begin().await;
    let head = head_of(&shown(&state).await).head;
    state.log.told.subscribe().wait_for(|told| told.is_some()).await.unwrap();
    let back = told_up_to(&mut Witnessing::new(&state, &kept), head.size).await;
    assert!(is_consistent(head_of(&kept).head, head, &back.consistency) && back.from == head_of(&kept).head.size);
    let cut = next(&mut Witnessing::new(&state, &newer)).await;
    assert_eq!((cut.from, head_of(&cut.note).head.size < head_of(&newer).head.size), (0, true));
    for nonsense in [&b"x"[..], &[b'a'; 20_000]] {
        assert_eq!(next(&mut Witnessing::new(&state, nonsense)).await.from, 0);
    }
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_committed_nothing_is_told() {
    let world = World::of(5).await;
    let state = world.begin().await;
    shown(&state).await;
    commit(&state, 5).await;
    let mut witnessing = Witnessing::new(&state, &[]);
    told_up_to(&mut witnessing, end_of(&state)).await;
    let more = tokio::time::timeout(Duration::from_millis(500), witnessing.next()).await;
    assert!(more.is_err(), "{more:?}");
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_rewritten_with_the_stolen_key_is_proved_by_what_a_node_keeps_and_nothing_more_is_signed() {
    let world = World::of(300).await;
    let kept = world.shown();
    world.rewrite(200, "\"version\":\"v", "\"version\":\"x").await;
    world.sql("DELETE FROM checkpoints").await;
    std::fs::remove_dir_all(world.config().log_dir()).unwrap();
    world.run(50).await;
    assert!(is_whole(&world.verify().await), "nothing on the server can tell");
    let state = world.begin().await;
    let refused = shown(&state).await;
    let node = node(&state).await;
    assert_eq!(state.readiness(), Ok(()));
    report(&state, &node, &kept, &refused, "another").await.unwrap();
    let told = state.readiness().unwrap_err();
    assert!(told.contains("keeps a checkpoint") && told.contains("are other ones here"), "{told}");
    assert_eq!((disputes(&state, "proven"), state.metrics.log_altered.get()), (1, 1));
    let events = events_of(&state, "log.disputed").await;
    assert!(events.len() == 1 && events[0].contains("\"verdict\":\"proven\""), "{events:?}");
    run::leave(&state).await.unwrap();
    assert_eq!(world.row(head_of(&world.shown()).head.size as i64).await.number as u64, world.size(), "unsigned ones");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_cut_is_proved_by_what_a_node_keeps() {
    let world = World::of(50).await;
    let older = world.copy();
    world.run(10).await;
    let kept = world.shown();
    let state = older.begin().await;
    let refused = shown(&state).await;
    report(&state, &node(&state).await, &kept, &refused, "cut").await.unwrap();
    assert!(state.readiness().unwrap_err().contains("the newest were taken away"));
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_what_it_cannot_show_is_recorded_once_and_changes_nothing() {
    let world = World::of(50).await;
    let state = world.begin().await;
    let newest = shown(&state).await;
    let liar = node(&state).await;
    let stranger = World::of(90).await;
    report(&state, &liar, &stranger.shown(), &newest, "another").await.unwrap();
    report(&state, &liar, &stranger.shown(), &newest, "another").await.unwrap();
    let honest = sample::admit(&state, "n2", "02").await;
    report(&state, &honest, &newest, &newest, "unproven").await.unwrap();
    assert_eq!((disputes(&state, "proven"), disputes(&state, "unproven"), disputes(&state, "consistent")), (0, 1, 1));
    assert_eq!((events_of(&state, "log.disputed").await.len(), state.readiness()), (2, Ok(())));
    assert!(report(&state, &liar, &[], &[], "because").await.is_err(), "no word of its own");
    assert!(report(&state, &liar, &[b'a'; 20_000], &[], "cut").await.is_err());
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_sign_tells_its_nodes_the_signers_checkpoints_where_it_trusts_the_key() {
    let world = World::of(20).await;
    let first = world.begin().await;
    let key = LogKey::read(&world.config().log_key_file()).unwrap().unwrap().verifier("example.org/0").unwrap();
    let database = world.config().database();
    let second = |trusted: String| {
        let extra = format!("database = \"{database}\"\n{FAST}\n{trusted}");
        async move {
            let dir = tempfile::tempdir().unwrap();
            let config = sample::config(dir.path(), &extra);
            let shutdown = chancery_daemon::shutdown::Shutdown::manual();
            let (state, ..) = run::assemble(config, shutdown, clock::system()).await.unwrap();
            start(&state).unwrap();
            (state, dir)
        }
    };
    let (trusting, dir) = second(format!("trusted_keys = [\"{key}\"]")).await;
    let (other, _dir) = second(String::new()).await;
    commit(&first, 300).await;
    let mut witnessing = Witnessing::new(&trusting, &[]);
    let told = told_up_to(&mut witnessing, end_of(&first)).await;
    assert!(Checkpoint::open(&told.note, "example.org/0", &trusting.log.keys(&trusting.config)).is_ok());
    let log = Folder::new(&sample::config(dir.path(), "").log_dir(), 0);
    let opened = Checkpoint::open(&log.checkpoint().unwrap().unwrap(), "example.org/0", &[*key.public()]).unwrap();
    folder::verify(&opened, 0, |tile| log.read(tile), |_| {}).unwrap();
    // One that cannot tell whose they are makes the tiles all the same, and tells nobody.
    let mut folder = Folder::new(&other.config.log_dir(), 0).checkpoint().unwrap();
    while folder.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        folder = Folder::new(&other.config.log_dir(), 0).checkpoint().unwrap();
    }
    assert!(other.log.newest.borrow().is_none());
    for state in [other, trusting, first] {
        run::leave(&state).await.unwrap();
    }
}
