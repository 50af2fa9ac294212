use chancery_ca::store::*;
use futures_util::future::join_all;

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    what_was_issued_is_found_in_stretches_and_behind_them
    a_stretch_is_written_once
    the_rest_of_an_epoch_that_is_over_is_a_stretch
    a_stretch_whose_svids_have_ended_is_not_read
}

/// Events that issue nothing, committed some at a time.
async fn noise(db: &Bench, count: usize) {
    let one = |n: usize| db.store.commit(Fact::ServerStarted(ServerStarted { version: n.to_string() }));
    for outcome in join_all((0..count).map(one)).await {
        outcome.unwrap();
    }
}

async fn index(db: &Bench) -> usize {
    let mut stretches = 0;
    while let Some(stretch) = db.store.next_stretch().await.unwrap() {
        db.done_or_nothing(Fact::IndexLog(stretch)).await;
        stretches += 1;
    }
    stretches
}

async fn begun(db: &Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    for run in [1, 2] {
        db.done(Fact::BeginInstance(sample::begin(1, run))).await;
    }
}

fn renewal(serial: &str) -> Fact {
    let renewal = sample::renewal(1, 1);
    Fact::RenewInstance(RenewInstance { cert: sample::cert(serial), ..renewal })
}

/// Serials on the list once run 1 is revoked.
async fn revoked(db: &Bench) -> Vec<String> {
    let order = Order { reason: "stolen key".into(), caller: "uid 0".into() };
    let id = sample::begin(1, 1).instance.id;
    let number = db.done(Fact::RevokeInstance(RevokeInstance { id, order })).await;
    let rows = db.store.revocations(sample::now(), "", u32::MAX).await.unwrap();
    assert!(rows.iter().all(|row| row.number == number), "each names the act");
    let serial = |row: Revocation| match row.revoked.what {
        What::Certificate(certificate) => Some(certificate.serial),
        _ => None,
    };
    let mut serials: Vec<String> = rows.into_iter().filter_map(serial).collect();
    serials.sort();
    serials
}

async fn what_was_issued_is_found_in_stretches_and_behind_them(db: Bench) {
    begun(&db).await;
    let first = sample::begin(1, 1).instance.newest.serial;
    noise(&db, 4096).await;
    db.done(renewal("700")).await;
    noise(&db, 4096).await;
    assert_eq!(index(&db).await, 2);
    db.done(renewal("800")).await;
    let mut expected = vec![first, "700".to_owned(), "800".to_owned()];
    expected.sort();
    assert_eq!(revoked(&db).await, expected);
}

async fn a_stretch_is_written_once(db: Bench) {
    begun(&db).await;
    assert!(db.store.next_stretch().await.unwrap().is_none(), "it is not full");
    noise(&db, 4096).await;
    let stretch = db.store.next_stretch().await.unwrap().unwrap();
    assert_eq!((stretch.after, stretch.first, stretch.until), ((0, 0), 0, (0, 4096)));
    let late = db.store.next_stretch().await.unwrap().unwrap();
    db.done_or_nothing(Fact::IndexLog(stretch)).await;
    assert_eq!(db.refused(Fact::IndexLog(late)).await, Refusal::Stale);
    assert_eq!(index(&db).await, 0);
    // What was looked up came from the rows, for the log's end has it no more.
    db.sql("DELETE FROM log_index").await;
    assert_eq!(revoked(&db).await, Vec::<String>::new());
}

async fn the_rest_of_an_epoch_that_is_over_is_a_stretch(db: Bench) {
    begun(&db).await;
    // As `restore-accept` does.
    db.sql("UPDATE counter SET epoch = 1").await;
    let rest = db.store.next_stretch().await.unwrap().unwrap();
    assert_eq!((rest.after, rest.first, rest.until.0), ((0, 0), 0, 0));
    db.done_or_nothing(Fact::IndexLog(rest)).await;
    db.done(renewal("700")).await;
    assert_eq!(index(&db).await, 1, "on to the epoch in force, which goes on");
    let mut expected = vec![sample::begin(1, 1).instance.newest.serial, "700".to_owned()];
    expected.sort();
    assert_eq!(revoked(&db).await, expected);
    // The checker of this bench knows one epoch.
    db.sql("UPDATE counter SET epoch = 0").await;
}

async fn a_stretch_whose_svids_have_ended_is_not_read(db: Bench) {
    begun(&db).await;
    noise(&db, 4096).await;
    index(&db).await;
    db.sql("UPDATE log_index SET ends_at = 1 WHERE ends_at > 0").await;
    assert_eq!(revoked(&db).await, Vec::<String>::new());
}
