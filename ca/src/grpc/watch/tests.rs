//! Nodes that do not play along: they never read, or come with cursors that nobody gave them.

use chancery_core::{entry::Rights, node::Node};
use chancery_daemon::clock;

use super::*;
use crate::{entries, sample};

async fn ca(dir: &std::path::Path) -> (Arc<State>, Node) {
    let (state, _tls) = sample::parts(dir, clock::system()).await;
    let node = sample::admit(&state, "n1", "01").await;
    (state, node)
}

fn began(state: &State, how: &str) -> u64 {
    state.metrics.watches.get_or_create(&vec![("began", how.to_string())]).get()
}

async fn first(watch: &mut Watch) -> WatchResponse {
    watch.next().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_reads_costs_a_flag_and_gets_the_last_state_once() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let mut watch = open(&state, &node, None).unwrap();
    assert!(first(&mut watch).await.full);
    let id = sample::entry_with(&state, "/w", Rights::default()).await;
    for round in 0..50 {
        let known = state.view.look(|registry| registry.graph.of(&id)).unwrap().remove(0);
        entries::delete(&state, &known.id).await.unwrap();
        sample::entry_with(&state, "/w", Rights::default()).await;
        assert_eq!(state.view.watching(), 1, "round {round}");
    }
    let told = first(&mut watch).await;
    assert!(!told.more, "{told:?}");
    // One message for a hundred changes, with each entry as it is now.
    assert_eq!((told.full, told.entries.len(), told.removed_entries.len()), (false, 1, 50));
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), watch.next()).await;
    assert!(more.is_err(), "nothing else was kept for it: {more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_ahead_of_us_or_of_another_log_gets_full_state_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    sample::entry_with(&state, "/w", Rights::default()).await;
    let given = first(&mut open(&state, &node, None).unwrap()).await.cursor.unwrap();
    assert!(!first(&mut open(&state, &node, Some(given.clone())).unwrap()).await.full);
    assert_eq!((began(&state, "new"), began(&state, "resumed"), began(&state, "reset")), (1, 1, 0));
    let wrong = [
        pb::Cursor { number: given.number + 1, ..given.clone() },
        pb::Cursor { number: i64::MAX, ..given.clone() },
        pb::Cursor { number: i64::MIN, ..given.clone() },
        pb::Cursor { epoch: given.epoch + 1, ..given.clone() },
        pb::Cursor { hash: vec![0; 32], ..given.clone() },
        pb::Cursor { hash: Vec::new(), ..given.clone() },
        pb::Cursor { hash: vec![7; 1 << 20], ..given },
    ];
    for (count, cursor) in (1..).zip(wrong) {
        let told = first(&mut open(&state, &node, Some(cursor)).unwrap()).await;
        assert!(told.full && told.entries.len() == 1 && told.digest.len() == 32, "cursor {count}");
        assert_eq!(began(&state, "reset"), count);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_beyond_a_nodes_share_are_refused_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (state, node) = ca(dir.path()).await;
    let mut open_ones = Vec::new();
    let refused = loop {
        match open(&state, &node, None) {
            Ok(watch) => open_ones.push(watch),
            Err(status) => break status,
        }
        assert!(open_ones.len() < 100, "no bound");
    };
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert_eq!(began(&state, "refused"), 1);
    drop(open_ones);
    assert!(open(&state, &node, None).is_ok(), "closed ones count no more");
}
