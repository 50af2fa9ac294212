//! The view knows what runs: on this server with the commit, of another one after a look at the log.

use std::sync::Arc;

use chancery_ca::{
    live::LivePeers,
    store::{EndInstance, Fact, NodeRef, Reconcile, Store},
    view::{Running, View},
};

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    what_this_server_begins_renews_and_ends_is_in_its_view_with_the_commit_and_without_a_read
    what_another_server_begins_renews_and_ends_is_seen_after_a_look
    what_ran_before_the_server_is_there_without_its_key
    what_ended_elsewhere_does_not_come_back
    a_ban_takes_what_runs_on_the_node
}

async fn view(store: &Store) -> Arc<View> {
    View::open(store, &Arc::new(LivePeers::default())).await.unwrap()
}

async fn ready(db: &Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
}

fn known(view: &View, run: u8) -> Option<Arc<Running>> {
    let id = sample::begin(1, run).instance.id;
    let (one, process, count) = view
        .look(|registry| {
            let of_process = registry.process(&sample::node_id(1), &[run; 32]).cloned();
            (registry.instance(&id).cloned(), of_process, registry.running_on(&sample::node_id(1)).count())
        })
        .unwrap();
    assert_eq!(one.as_ref().map(|one| &one.instance), process.as_ref().map(|one| &one.instance));
    assert!(one.is_none() || count > 0);
    one
}

async fn what_this_server_begins_renews_and_ends_is_in_its_view_with_the_commit_and_without_a_read(db: Bench) {
    ready(&db).await;
    let view = view(&db.store).await;
    let reads = db.store.reads();
    let begin = sample::begin(1, 1);
    db.done(Fact::BeginInstance(begin.clone())).await;
    let running = known(&view, 1).expect("it runs");
    assert_eq!((&running.instance.newest, running.key), (&begin.instance.newest, Some([1; 32])));
    assert_eq!((&running.instance.class, &running.instance.node_id), (&begin.instance.class, &sample::node_id(1)));
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
    let running = known(&view, 1).expect("it runs");
    assert_eq!((running.instance.newest.serial.as_str(), running.key), ("81", Some([101; 32])));
    let number = db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert!(known(&view, 1).is_none());
    view.reached(number).await.unwrap();
    view.caught_up().await.unwrap();
    assert_eq!(db.store.reads(), reads, "nothing was read");
    db.store.classes().await.unwrap();
    assert_eq!(db.store.reads(), reads + 1, "what is read is counted");
}

async fn what_another_server_begins_renews_and_ends_is_seen_after_a_look(db: Bench) {
    ready(&db).await;
    let other = Store::open(&db.url, "other").await.unwrap();
    let theirs = view(&other).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    assert!(known(&theirs, 1).is_none(), "nobody has told it yet");
    theirs.follow().await.unwrap();
    assert_eq!(known(&theirs, 1).unwrap().key, Some([1; 32]));
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
    theirs.follow().await.unwrap();
    assert_eq!(known(&theirs, 1).unwrap().instance.newest.serial, "81");
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    theirs.follow().await.unwrap();
    assert!(known(&theirs, 1).is_none());
}

async fn what_ran_before_the_server_is_there_without_its_key(db: Bench) {
    ready(&db).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    db.done(Fact::BeginInstance(sample::begin(1, 2))).await;
    db.done(Fact::EndInstance(sample::end(1, 2))).await;
    let view = view(&db.store).await;
    let running = known(&view, 1).expect("it runs");
    assert_eq!((&running.instance, running.key), (&sample::begin(1, 1).instance, None));
    assert!(known(&view, 2).is_none());
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
    assert_eq!(known(&view, 1).unwrap().key, Some([101; 32]), "told by its event");
}

/// Own commits are applied ahead of what the log has of others: one that ended there meanwhile must not stay.
async fn what_ended_elsewhere_does_not_come_back(db: Bench) {
    ready(&db).await;
    let other = Store::open(&db.url, "other").await.unwrap();
    let ours = view(&db.store).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    let by_operator = EndInstance { node_id: None, reason: "operator", ..sample::end(1, 1) };
    other.commit(Fact::EndInstance(by_operator)).await.unwrap().done().unwrap();
    // Ahead of the log: the other's event is not read yet.
    db.done(Fact::BeginInstance(sample::begin(1, 2))).await;
    assert!(known(&ours, 1).is_some() && known(&ours, 2).is_some());
    ours.follow().await.unwrap();
    assert!(known(&ours, 1).is_none() && known(&ours, 2).is_some());
    let alive = Reconcile { live_start_tokens: vec![[2; 32]], ..sample::reconcile(1, 5, &[]) };
    db.done(Fact::Reconcile(alive)).await;
    ours.follow().await.unwrap();
    assert!(known(&ours, 1).is_none() && known(&ours, 2).is_some());
}

async fn a_ban_takes_what_runs_on_the_node(db: Bench) {
    ready(&db).await;
    let view = view(&db.store).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    db.done(Fact::BanNode(NodeRef { id: sample::node_id(1) })).await;
    view.follow().await.unwrap();
    assert!(known(&view, 1).is_none());
}
