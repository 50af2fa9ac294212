//! The view follows the log of several servers on one database.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chancery_ca::{
    live::LivePeers,
    store::{AdmitNode, ClassRef, EndInstance, EntryRef, Fact, NodeRef, SetMode, Store},
    view::{Cursor, Delta, View, Watching},
};
use chancery_core::entry::Entry;
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    what_another_server_commits_is_seen_after_the_next_look
    a_stream_begins_with_everything_its_node_may_have_and_nothing_else
    a_change_wakes_the_streams_it_concerns_and_no_other
    a_node_that_comes_back_gets_the_difference_and_only_that
    a_cursor_of_another_log_or_with_another_hash_gets_everything
    an_alias_that_comes_or_goes_sends_its_nodes_everything
    an_entry_above_others_takes_them_along
    an_ended_instance_is_told_to_its_node
    a_foreign_bundle_goes_to_those_whose_entries_name_it
    a_banned_nodes_stream_ends
    the_views_own_task_finds_what_another_server_commits
    a_server_that_is_never_quiet_goes_on_looking_at_the_log
    a_node_has_few_streams_at_once_and_its_newest_counts
    a_renewed_node_is_no_change
}

/// The view of a second server on the same database.
async fn other(db: &Bench) -> Arc<View> {
    let store = Store::open(&db.url, "other").await.unwrap();
    View::open(&store, &Arc::new(LivePeers::default())).await.unwrap()
}

/// An entry of node `n`.
fn of_node(name: &str, n: u8) -> Entry {
    Entry { parent_id: sample::node_id(n), ..sample::entry(name) }
}

async fn watching(db: &Bench, view: &Arc<View>, n: u8) -> Watching {
    if db.store.node(&sample::node_id(n)).await.unwrap().is_none() {
        db.done(Fact::AdmitNode(sample::admission(n))).await;
    }
    view.follow().await.unwrap();
    view.watch(&db.store.node(&sample::node_id(n)).await.unwrap().unwrap()).unwrap()
}

fn names(delta: &Delta) -> Vec<&str> {
    delta.entries.iter().map(|entry| entry.id.as_str()).collect()
}

/// What a woken stream is told; it must be woken.
async fn told(stream: &Watching) -> Delta {
    tokio::time::timeout(Duration::from_secs(20), stream.concerned()).await.expect("nothing wakes the stream");
    stream.next().unwrap().expect("nothing is told")
}

async fn what_another_server_commits_is_seen_after_the_next_look(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    db.done(Fact::CreateClass(sample::class("a/b"))).await;
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    view.follow().await.unwrap();
    let seen = |view: &View| {
        let all = |registry: &chancery_ca::view::Registry| {
            let class = registry.class("a/b").is_some();
            (registry.graph.len(), class, registry.node(&sample::node_id(1)).is_some())
        };
        view.look(all).unwrap()
    };
    assert_eq!(seen(&view), (1, true, true));
    db.done(Fact::DeleteEntry(EntryRef { id: "e1".into() })).await;
    db.done(Fact::DeleteClass(ClassRef { name: "a/b".into() })).await;
    db.done(Fact::EvictNode(NodeRef { id: sample::node_id(1) })).await;
    assert_eq!(seen(&view), (1, true, true), "it reads the log, not the tables, and only when asked");
    view.follow().await.unwrap();
    assert_eq!(seen(&view), (0, false, false));
}

async fn a_stream_begins_with_everything_its_node_may_have_and_nothing_else(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::CreateEntry(of_node("e1", 1))).await;
    db.done(Fact::CreateEntry(of_node("e2", 2))).await;
    db.done(Fact::CreateClass(sample::class("a/b"))).await;
    let delta = watching(&db, &view, 1).await.begin(None).unwrap();
    assert!(delta.full);
    assert_eq!((names(&delta), delta.classes.len()), (vec!["e1"], 1));
    let delta = watching(&db, &view, 2).await.begin(None).unwrap();
    assert_eq!((names(&delta), delta.classes.len()), (vec!["e2"], 0));
}

async fn a_change_wakes_the_streams_it_concerns_and_no_other(db: Bench) {
    let view = other(&db).await;
    let (one, two) = (watching(&db, &view, 1).await, watching(&db, &view, 2).await);
    assert!(one.begin(None).unwrap().full && two.begin(None).unwrap().full);
    db.done(Fact::CreateEntry(of_node("e1", 1))).await;
    db.done(Fact::CreateEntry(of_node("e2", 1))).await;
    view.follow().await.unwrap();
    let delta = told(&one).await;
    assert_eq!((delta.full, names(&delta)), (false, vec!["e1", "e2"]));
    assert!(two.next().unwrap().is_none(), "it does not concern the other");
    // From one node to the other: gone here, there now.
    let moved = Entry { revision: 1, ..of_node("e1", 2) };
    db.done(Fact::UpdateEntry(moved)).await;
    view.follow().await.unwrap();
    assert_eq!(told(&one).await.gone_entries, ["e1"]);
    assert_eq!(names(&told(&two).await), ["e1"]);
}

async fn a_node_that_comes_back_gets_the_difference_and_only_that(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::CreateEntry(of_node("e1", 1))).await;
    db.done(Fact::CreateEntry(of_node("e2", 1))).await;
    let left = watching(&db, &view, 1).await.begin(None).unwrap();
    db.done(Fact::DeleteEntry(EntryRef { id: "e1".into() })).await;
    db.done(Fact::CreateEntry(of_node("e3", 1))).await;
    db.done(Fact::CreateClass(sample::class("a/b"))).await;
    let back = watching(&db, &view, 1).await;
    let delta = back.begin(Some(&left.cursor)).unwrap();
    assert!(!delta.full);
    assert_eq!((names(&delta), &delta.gone_entries[..]), (vec!["e3"], &["e1".to_owned()][..]));
    assert_eq!(delta.classes.len(), 1);
    let delta = back.begin(Some(&delta.cursor)).unwrap();
    assert!(!delta.full && delta.entries.is_empty() && delta.gone_entries.is_empty() && delta.classes.is_empty());
}

async fn a_cursor_of_another_log_or_with_another_hash_gets_everything(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::CreateEntry(of_node("e1", 1))).await;
    let stream = watching(&db, &view, 1).await;
    let cursor = stream.begin(None).unwrap().cursor;
    assert!(!stream.begin(Some(&cursor)).unwrap().full, "its own is resumed");
    for wrong in [
        Cursor { epoch: cursor.epoch + 1, ..cursor.clone() },
        Cursor { number: cursor.number + 1, ..cursor.clone() },
        Cursor { number: i64::MAX, ..cursor.clone() },
        Cursor { number: -1, hash: Vec::new(), ..cursor.clone() },
        Cursor { hash: vec![0; 32], ..cursor.clone() },
        Cursor { hash: Vec::new(), ..cursor.clone() },
    ] {
        assert!(stream.begin(Some(&wrong)).unwrap().full, "{wrong:?}");
    }
}

async fn an_alias_that_comes_or_goes_sends_its_nodes_everything(db: Bench) {
    let view = other(&db).await;
    let below = Entry { parent_id: sample::id("/fleet"), ..sample::entry("below") };
    db.done(Fact::CreateEntry(below)).await;
    let stream = watching(&db, &view, 1).await;
    let left = stream.begin(None).unwrap();
    assert!(left.entries.is_empty());
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    let alias = Entry {
        parent_id: sample::id("/spire/server"),
        spiffe_id: sample::id("/fleet"),
        selectors: node.selectors.iter().take(1).cloned().collect(),
        ..sample::entry("alias")
    };
    db.done(Fact::CreateEntry(alias)).await;
    view.follow().await.unwrap();
    let delta = told(&stream).await;
    assert_eq!((delta.full, names(&delta)), (true, vec!["below"]));
    assert!(stream.begin(Some(&left.cursor)).unwrap().full, "whoever was away cannot tell what came with it");
    db.done(Fact::DeleteEntry(EntryRef { id: "alias".into() })).await;
    view.follow().await.unwrap();
    let delta = told(&stream).await;
    assert_eq!((delta.full, names(&delta).len()), (true, 0));
}

async fn an_entry_above_others_takes_them_along(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::CreateEntry(of_node("above", 1))).await;
    let below = Entry { parent_id: sample::entry("above").spiffe_id, ..sample::entry("below") };
    db.done(Fact::CreateEntry(below)).await;
    let stream = watching(&db, &view, 1).await;
    assert_eq!(names(&stream.begin(None).unwrap()), ["above", "below"]);
    db.done(Fact::DeleteEntry(EntryRef { id: "above".into() })).await;
    view.follow().await.unwrap();
    let delta = told(&stream).await;
    assert_eq!((delta.full, names(&delta).len()), (true, 0));
}

async fn an_ended_instance_is_told_to_its_node(db: Bench) {
    let view = other(&db).await;
    let stream = watching(&db, &view, 1).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    let begun = sample::begin(1, 1);
    db.done(Fact::BeginInstance(begun.clone())).await;
    view.follow().await.unwrap();
    stream.begin(None).unwrap();
    let end = EndInstance { id: begun.instance.id.clone(), node_id: None, reason: "operator" };
    db.done(Fact::EndInstance(end)).await;
    view.follow().await.unwrap();
    assert_eq!(told(&stream).await.ended, [begun.instance.id]);
}

async fn a_foreign_bundle_goes_to_those_whose_entries_name_it(db: Bench) {
    let view = other(&db).await;
    db.done(Fact::SetFederatedBundle(sample::bundle("a.org", SetMode::Create))).await;
    db.done(Fact::SetFederatedBundle(sample::bundle("b.org", SetMode::Create))).await;
    let federates = Entry { federates_with: vec![sample::domain("a.org")], ..of_node("e1", 1) };
    let stream = watching(&db, &view, 1).await;
    assert!(stream.begin(None).unwrap().bundles.is_empty());
    db.done(Fact::CreateEntry(federates)).await;
    view.follow().await.unwrap();
    let delta = told(&stream).await;
    assert_eq!(delta.bundles.iter().map(|b| b.trust_domain.name()).collect::<Vec<_>>(), ["a.org"]);
    let whole = stream.begin(None).unwrap();
    assert_eq!(whole.bundles.iter().map(|b| b.trust_domain.name()).collect::<Vec<_>>(), ["a.org"]);
}

async fn a_banned_nodes_stream_ends(db: Bench) {
    let view = other(&db).await;
    let stream = watching(&db, &view, 1).await;
    stream.begin(None).unwrap();
    db.done(Fact::BanNode(NodeRef { id: sample::node_id(1) })).await;
    view.follow().await.unwrap();
    assert!(stream.next().is_err() && stream.begin(None).is_err());
}

/// Only PostgreSQL has several servers; elsewhere nothing but the look every second would find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_announces_what_another_server_commits() {
    let db = Bench::postgres().await;
    let store = Store::open(&db.url, "other").await.unwrap();
    let mut announced = store.announced();
    // It listens from some moment on, and hears only what comes then.
    let mut number = 0;
    loop {
        number += 1;
        db.done(Fact::CreateEntry(sample::entry(&format!("e{number}")))).await;
        if tokio::time::timeout(Duration::from_millis(200), announced.changed()).await.is_ok() {
            break;
        }
        assert!(number < 100, "a hundred commits, and no announcement");
    }
    assert_eq!(*store.moved().borrow(), -1, "its own number is not moved by others");
}

async fn the_views_own_task_finds_what_another_server_commits(db: Bench) {
    let view = other(&db).await;
    let stop = CancellationToken::new();
    view.start(stop.clone());
    let stream = watching(&db, &view, 1).await;
    stream.begin(None).unwrap();
    db.done(Fact::CreateEntry(of_node("e1", 1))).await;
    assert_eq!(names(&told(&stream).await), ["e1"], "nobody but the view's own task follows");
    stop.cancel();
}

async fn a_server_that_is_never_quiet_goes_on_looking_at_the_log(db: Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    let view = View::open(&db.store, &Arc::new(LivePeers::default())).await.unwrap();
    view.follow().await.unwrap();
    let stop = CancellationToken::new();
    view.start(stop.clone());
    // Its own commits wake the view's task much oftener than it looks by itself, and tell it all: only a look confirms.
    let (mut oldest, began) = (Duration::ZERO, Instant::now());
    for run in 0..100 {
        let begun = sample::begin(1, run);
        db.done(Fact::BeginInstance(begun.clone())).await;
        let end = EndInstance { id: begun.instance.id.clone(), node_id: None, reason: "operator" };
        db.done(Fact::EndInstance(end)).await;
        oldest = oldest.max(view.age());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    stop.cancel();
    assert!(began.elapsed() > Duration::from_secs(4) && oldest < Duration::from_secs(3), "{oldest:?}");
}

async fn a_node_has_few_streams_at_once_and_its_newest_counts(db: Bench) {
    let view = other(&db).await;
    let mut streams = vec![watching(&db, &view, 1).await];
    let other_node = watching(&db, &view, 2).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    streams.extend((0..3).map(|_| view.watch(&node).unwrap()));
    let over: Vec<_> = streams.iter().map(Watching::is_over).collect();
    assert_eq!(over, [true, true, true, false]);
    assert!(!other_node.is_over());
    assert!(view.watch(&node).is_err(), "those that nobody closed count");
    streams.remove(0);
    assert!(!view.watch(&node).unwrap().is_over());
}

async fn a_renewed_node_is_no_change(db: Bench) {
    let view = other(&db).await;
    let stream = watching(&db, &view, 1).await;
    let cursor = stream.begin(None).unwrap().cursor;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    let again = AdmitNode { expected_version: Some(node.version), ..sample::admission(1) };
    db.done(Fact::AdmitNode(AdmitNode { cert: sample::cert("11"), evidence: None, ..again })).await;
    view.follow().await.unwrap();
    assert!(stream.next().unwrap().is_none());
    let delta = stream.begin(Some(&cursor)).unwrap();
    assert_eq!((delta.full, delta.cursor), (false, cursor), "and whoever was away lacks nothing");
}
