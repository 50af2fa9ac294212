use chancery_ca::store::{
    Fact, LeaveLog, LogLease, Outcome, Refusal, ServerStarted, Store, StoreCheckpoint, StoredCheckpoint, TakeLog,
};
use chancery_core::log::proof::Head;

use crate::bench::{Bench, on_both};

on_both! {
    the_log_has_one_signer_and_each_next_one_a_higher_fence
    of_two_that_take_the_log_at_once_one_has_it
    a_checkpoint_is_stored_only_over_the_one_before_it
    a_signer_whose_lease_is_over_stores_nothing
    of_two_checkpoints_stored_at_once_one_is
    old_checkpoints_make_room_but_for_one_in_so_many_events
    the_record_is_read_by_epoch_with_every_column
}

fn take(over: &LogLease, nonce: &str) -> Fact {
    let (server, nonce, key) = ("test".into(), nonce.into(), "td/0+00000000+AA==".into());
    Fact::TakeLog(TakeLog { over: over.clone(), server, nonce, key })
}

fn head(size: u64) -> Head {
    Head { size, root: [size as u8; 32] }
}

fn checkpoint(fence: i64, before: Option<u64>, size: u64) -> Fact {
    let (before, head) = (before.map(head), head(size));
    Fact::StoreCheckpoint(StoreCheckpoint { fence, epoch: 0, before, head, note: format!("{fence}").into_bytes() })
}

async fn refused(store: &Store, fact: Fact) -> Refusal {
    match store.commit(fact.clone()).await.unwrap() {
        Outcome::Refused(refusal) => refusal,
        Outcome::Done { .. } => panic!("not refused: {fact:?}"),
    }
}

/// The fence under which `nonce` signs from now on.
async fn taken(db: &Bench, nonce: &str) -> i64 {
    let lease = db.store.log_lease().await.unwrap();
    db.done(take(&lease, nonce)).await;
    lease.fence + 1
}

/// At least so many events.
async fn grown(db: &Bench, size: u64) {
    let missing = (size as usize).saturating_sub(db.events().await.len());
    for chunk in vec![Fact::ServerStarted(ServerStarted { version: "1".into() }); missing].chunks(200) {
        db.store.commit_all(chunk.to_vec()).await.unwrap();
    }
}

async fn last(db: &Bench) -> Option<StoredCheckpoint> {
    db.store.last_checkpoint(0).await.unwrap()
}

async fn the_log_has_one_signer_and_each_next_one_a_higher_fence(db: Bench) {
    let none = db.store.log_lease().await.unwrap();
    assert_eq!(none, LogLease { server: String::new(), nonce: String::new(), fence: 0 });
    let number = db.done(take(&none, "one")).await;
    let event = &db.store.leaves(0, number - 1, 1).await.unwrap()[0];
    let text = String::from_utf8(event.bytes.clone()).unwrap();
    assert!(text.contains("\"kind\":\"log.taken\"") && text.contains("\"fence\":1"), "{text}");
    let first = LogLease { server: "test".into(), nonce: "one".into(), fence: 1 };
    assert_eq!(db.store.log_lease().await.unwrap(), first);
    assert_eq!(db.refused(take(&none, "two")).await, Refusal::Stale);
    assert_eq!(db.refused(take(&LogLease { nonce: "other".into(), ..first.clone() }, "two")).await, Refusal::Stale);
    db.done(take(&first, "two")).await;
    assert_eq!(db.refused(Fact::LeaveLog(LeaveLog { fence: 1 })).await, Refusal::Stale);
    db.done(Fact::LeaveLog(LeaveLog { fence: 2 })).await;
    assert_eq!(db.refused(Fact::LeaveLog(LeaveLog { fence: 2 })).await, Refusal::Stale);
    let left = db.store.log_lease().await.unwrap();
    assert_eq!(left, LogLease { server: String::new(), nonce: String::new(), fence: 2 });
    assert_eq!(taken(&db, "three").await, 3);
}

async fn of_two_that_take_the_log_at_once_one_has_it(db: Bench) {
    let second = Store::open(&db.url, "second").await.unwrap();
    let lease = db.store.log_lease().await.unwrap();
    let (one, two) = tokio::join!(db.store.commit(take(&lease, "one")), second.commit(take(&lease, "two")));
    let outcomes = [one.unwrap(), two.unwrap()];
    let done = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count();
    assert!(done == 1 && outcomes.contains(&Outcome::Refused(Refusal::Stale)), "{outcomes:?}");
    assert_eq!(db.store.log_lease().await.unwrap().fence, 1);
    second.close().await;
}

async fn a_checkpoint_is_stored_only_over_the_one_before_it(db: Bench) {
    grown(&db, 30).await;
    let fence = taken(&db, "one").await;
    assert_eq!(last(&db).await, None);
    assert_eq!(refused(&db.store, checkpoint(fence, Some(5), 10)).await, Refusal::CheckpointOther);
    db.done_or_nothing(checkpoint(fence, None, 10)).await;
    let stored = last(&db).await.unwrap();
    assert_eq!((stored.epoch, stored.size, stored.root), (0, 10, vec![10; 32]));
    for lost in [checkpoint(fence, None, 20), checkpoint(fence, Some(9), 20), checkpoint(fence, Some(10), 10)] {
        assert_eq!(refused(&db.store, lost).await, Refusal::CheckpointOther);
    }
    // The same size with another root is another checkpoint.
    db.sql("UPDATE checkpoints SET root = note").await;
    assert_eq!(refused(&db.store, checkpoint(fence, Some(10), 20)).await, Refusal::CheckpointOther);
    db.sql("DELETE FROM checkpoints").await;
    assert_eq!(refused(&db.store, checkpoint(fence, Some(10), 20)).await, Refusal::CheckpointOther);
    // Nobody signs what is not there, nor for another epoch.
    let end = db.store.log_end().await.unwrap();
    assert_eq!(refused(&db.store, checkpoint(fence, None, end.number as u64 + 2)).await, Refusal::Stale);
    let epoch = |epoch| StoreCheckpoint { fence, epoch, before: None, head: head(10), note: Vec::new() };
    assert_eq!(refused(&db.store, Fact::StoreCheckpoint(epoch(1))).await, Refusal::Stale);
}

async fn a_signer_whose_lease_is_over_stores_nothing(db: Bench) {
    let second = Store::open(&db.url, "second").await.unwrap();
    let stale = taken(&db, "one").await;
    db.done_or_nothing(checkpoint(stale, None, 1)).await;
    let fence = taken(&db, "two").await;
    assert_eq!(refused(&second, checkpoint(stale, Some(1), 2)).await, Refusal::Stale);
    assert_eq!(last(&db).await.unwrap().size, 1);
    second.commit(checkpoint(fence, Some(1), 2)).await.unwrap().done().unwrap();
    assert_eq!(last(&db).await.unwrap().size, 2);
    second.close().await;
}

async fn of_two_checkpoints_stored_at_once_one_is(db: Bench) {
    let second = Store::open(&db.url, "second").await.unwrap();
    let fence = taken(&db, "one").await;
    db.done_or_nothing(checkpoint(fence, None, 1)).await;
    let (one, two) =
        tokio::join!(db.store.commit(checkpoint(fence, Some(1), 2)), second.commit(checkpoint(fence, Some(1), 3)));
    let outcomes = [one.unwrap(), two.unwrap()];
    assert!(outcomes.contains(&Outcome::Refused(Refusal::CheckpointOther)), "{outcomes:?}");
    let size = last(&db).await.unwrap().size;
    assert_eq!(size, if matches!(outcomes[0], Outcome::Done { .. }) { 2 } else { 3 });
    second.close().await;
}

async fn old_checkpoints_make_room_but_for_one_in_so_many_events(db: Bench) {
    grown(&db, 8300).await;
    let fence = taken(&db, "one").await;
    let sizes = [10, 4095, 4096, 5000, 8191, 8192, 8300];
    for (at, size) in sizes.iter().enumerate() {
        db.done_or_nothing(checkpoint(fence, at.checked_sub(1).map(|before| sizes[before]), *size)).await;
    }
    let kept = db.store.checkpoints(0, -1, 100).await.unwrap();
    assert_eq!(kept.iter().map(|c| c.size).collect::<Vec<_>>(), [4095, 8191, 8300]);
    assert_eq!(db.store.checkpoints(0, 4095, 1).await.unwrap()[0].size, 8191);
}

async fn the_record_is_read_by_epoch_with_every_column(db: Bench) {
    grown(&db, 12).await;
    let rows = db.store.record(0, 8, 2).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [9, 10]);
    let leaves = db.store.leaves(0, 8, 2).await.unwrap();
    for (row, leaf) in rows.iter().zip(&leaves) {
        assert_eq!((&row.bytes, row.hash.as_slice(), row.epoch), (&leaf.bytes, leaf.hash.as_slice(), 0));
        let json: serde_json::Value = serde_json::from_slice(&row.bytes).unwrap();
        assert_eq!((json["kind"].as_str(), json["server"].as_str()), (Some(&*row.kind), Some(&*row.server)));
        assert_eq!((json["subject"].as_str(), json["at"].as_i64()), (Some(&*row.subject), Some(row.at)));
    }
    assert!(db.store.record(1, -1, 10).await.unwrap().is_empty());
    assert_eq!(db.store.next_epoch(-1).await.unwrap(), Some(0));
    assert_eq!(db.store.next_epoch(0).await.unwrap(), None);
    // A hash of another length is shown as it is.
    db.sql(
        "INSERT INTO events (epoch, number, at, server, kind, subject, bytes, hash) \
            SELECT 7, 3, at, server, kind, subject, bytes, bytes FROM events WHERE number = 1",
    )
    .await;
    assert_eq!(db.store.next_epoch(0).await.unwrap(), Some(7));
    assert_eq!(db.store.record(7, -1, 10).await.unwrap()[0].hash, rows_bytes(&db, 1).await);
    db.sql("DELETE FROM events WHERE epoch = 7").await;
}

async fn rows_bytes(db: &Bench, number: i64) -> Vec<u8> {
    db.store.leaves(0, number - 1, 1).await.unwrap().remove(0).bytes
}
