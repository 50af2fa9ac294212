use std::sync::{Arc, Mutex};

use chancery_ca::store::{DisputeLog, Fact, Outcome, Refusal, ServerStarted, Store};
use chancery_core::log::proof::Head;

use crate::{
    bench::{Bench, check, json, on_both},
    sample,
};

on_both! {
    numbers_are_gap_free_under_eight_writers
    numbers_are_gap_free_with_two_servers
    the_checker_sees_a_planted_gap
    the_checker_sees_a_changed_byte
    a_refused_fact_disturbs_no_other_of_its_batch
    an_sql_error_of_one_fact_disturbs_no_other_of_its_batch
    a_fact_outlives_its_caller
    acknowledged_events_outlive_a_sudden_end
    the_newest_number_is_told
    events_are_paged
    clear_values_are_kept_apart_and_erasable
    a_checkpoint_that_a_node_refuses_is_in_the_record
}

fn started(n: usize) -> Fact {
    Fact::ServerStarted(ServerStarted { version: n.to_string() })
}

/// 8 writers with 50 facts each; answers the numbers they were told.
async fn write(stores: &[Store]) -> Vec<i64> {
    let writers = (0..8usize).map(|w| {
        let store = stores[w % stores.len()].clone();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for n in 0..50 {
                told.push(store.commit(started(w * 1000 + n)).await.unwrap().done().unwrap());
            }
            told
        })
    });
    let told = futures_util::future::join_all(writers).await;
    told.into_iter().flat_map(Result::unwrap).collect()
}

async fn numbers_are_gap_free_under_eight_writers(db: Bench) {
    let first = db.events().await.len() as i64;
    let mut told = write(std::slice::from_ref(&db.store)).await;
    told.sort_unstable();
    assert_eq!(told, (first..first + 400).collect::<Vec<_>>());
    check(&db.events().await).unwrap();
}

async fn numbers_are_gap_free_with_two_servers(db: Bench) {
    let first = db.events().await.len() as i64;
    let second = Store::open(&db.url, "second").await.unwrap();
    let mut told = write(&[db.store.clone(), second]).await;
    told.sort_unstable();
    assert_eq!(told, (first..first + 400).collect::<Vec<_>>());
    let servers: std::collections::BTreeSet<_> =
        db.events().await.iter().map(|e| json(e)["server"].as_str().unwrap().to_string()).collect();
    assert_eq!(servers.into_iter().collect::<Vec<_>>(), ["second", "test"]);
}

async fn the_checker_sees_a_planted_gap(db: Bench) {
    write(std::slice::from_ref(&db.store)).await;
    let mut events = db.events().await;
    let taken = events.remove(100);
    assert_eq!(check(&events), Err("place 100 holds number 101".to_string()));
    db.sql("DELETE FROM events WHERE number = 100").await;
    assert_eq!(check(&db.events().await), Err("place 100 holds number 101".to_string()));
    let blob = |bytes: &[u8]| match db.url.starts_with("postgres") {
        true => format!("'\\x{}'::bytea", hex::encode(bytes)),
        false => format!("x'{}'", hex::encode(bytes)),
    };
    let (bytes, hash) = (blob(&taken.bytes), blob(&taken.hash));
    db.sql(&format!(
        "INSERT INTO events (epoch, number, at, server, kind, subject, bytes, hash) \
         VALUES (0, 100, 0, '', '', '', {bytes}, {hash})"
    ))
    .await;
}

async fn the_checker_sees_a_changed_byte(db: Bench) {
    db.done(started(1)).await;
    let mut events = db.events().await;
    let last = events.last_mut().unwrap();
    last.bytes = String::from_utf8(last.bytes.clone()).unwrap().replace("server.started", "server.stopped").into();
    assert!(check(&events).unwrap_err().contains("is not of its bytes"));
}

async fn a_refused_fact_disturbs_no_other_of_its_batch(db: Bench) {
    let gone = || Fact::RecordX509(sample::svid(1, "gone"));
    let facts = [
        started(1),
        gone(),
        Fact::CreateEntry(sample::entry("e1")),
        Fact::CreateEntry(sample::entry("e1")),
        started(2),
    ];
    // Polled in order within one task, so they reach the committer together and in order.
    let outcomes = futures_util::future::join_all(facts.map(|f| db.store.commit(f))).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(matches!(outcomes[0], Outcome::Done { .. }));
    assert_eq!(outcomes[1], Outcome::Refused(Refusal::NodeNotGood));
    assert!(matches!(outcomes[2], Outcome::Done { .. }));
    assert_eq!(outcomes[3], Outcome::Refused(Refusal::AlreadyExists(Some("e1".into()))));
    assert!(matches!(outcomes[4], Outcome::Done { .. }));
    assert_eq!(db.store.entries("", 1000).await.unwrap().len(), 1);
}

async fn an_sql_error_of_one_fact_disturbs_no_other_of_its_batch(db: Bench) {
    let mut poison = sample::entry("bad");
    // Neither database takes it: PostgreSQL refuses a zero byte in a text; the trigger below does it for SQLite.
    poison.hint = "\0".into();
    if !db.url.starts_with("postgres") {
        db.sql("CREATE TRIGGER no BEFORE INSERT ON entries WHEN NEW.id = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END")
            .await;
    }
    let mut facts: Vec<_> = (0..20).map(started).collect();
    facts.insert(10, Fact::CreateEntry(poison));
    let outcomes = futures_util::future::join_all(facts.into_iter().map(|f| db.store.commit(f))).await;
    assert!(outcomes[10].is_err());
    let done = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Done { .. }))).count();
    assert_eq!(done, 20);
    assert_eq!(db.store.entries("", 1000).await.unwrap(), []);
}

async fn a_fact_outlives_its_caller(db: Bench) {
    let mut last = db.store.last_number();
    let before = *last.borrow_and_update();
    let store = db.store.clone();
    let caller = tokio::spawn(async move {
        let mut fact = Box::pin(store.commit(started(1)));
        // The first poll hands the fact over; then the caller is gone.
        let _ = futures_util::poll!(&mut fact);
    });
    caller.await.unwrap();
    last.wait_for(|number| *number > before).await.unwrap();
}

/// The runtime of the store is torn down in the middle of its work, as by a kill; only what was acknowledged counts.
async fn acknowledged_events_outlive_a_sudden_end(db: Bench) {
    let url = db.url.clone();
    let told = Arc::new(Mutex::new(Vec::new())); // numbers acknowledged so far
    let (enough, wait) = tokio::sync::oneshot::channel();
    let (told_by, enough) = (told.clone(), Arc::new(Mutex::new(Some(enough))));
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = runtime.block_on(Store::open(&url, "doomed")).unwrap();
        for w in 0..8 {
            let (store, told, enough) = (store.clone(), told_by.clone(), enough.clone());
            runtime.spawn(async move {
                for n in 0.. {
                    let number = store.commit(started(w * 100_000 + n)).await.unwrap().done().unwrap();
                    let mut told = told.lock().unwrap();
                    told.push(number);
                    if told.len() == 300 {
                        enough.lock().unwrap().take().unwrap().send(()).unwrap();
                    }
                }
            });
        }
        runtime.block_on(wait).unwrap();
        drop(store);
        runtime.shutdown_background();
    });
    tokio::task::block_in_place(|| thread.join().unwrap());
    let reopened = Store::open(&db.url, "next").await.unwrap();
    reopened.commit(started(1)).await.unwrap();
    let events = reopened.events(None, u32::MAX).await.unwrap();
    check(&events).unwrap();
    let told = told.lock().unwrap().clone();
    assert!(told.len() >= 300);
    for number in told {
        assert_eq!(json(&events[number as usize])["server"], "doomed");
    }
}

async fn the_newest_number_is_told(db: Bench) {
    let number = db.done(started(1)).await;
    assert_eq!(*db.store.last_number().borrow(), number);
    let again = Store::open(&db.url, "second").await.unwrap();
    assert_eq!(*again.last_number().borrow(), number);
}

async fn events_are_paged(db: Bench) {
    for n in 0..5 {
        db.done(started(n)).await;
    }
    let numbers = async |after, limit| -> Vec<i64> {
        db.store.events(after, limit).await.unwrap().iter().map(|e| e.number).collect()
    };
    assert_eq!(numbers(None, 2).await, [0, 1]);
    assert_eq!(numbers(Some(1), 3).await, [2, 3, 4]);
    assert_eq!(numbers(Some(1000), 3).await, [0i64; 0]);
}

async fn clear_values_are_kept_apart_and_erasable(db: Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    let mut with_source = db.events().await;
    db.sql("DELETE FROM event_clear WHERE value = '192.0.2.1'").await;
    assert_eq!(std::mem::take(&mut with_source), db.events().await);
}

async fn a_checkpoint_that_a_node_refuses_is_in_the_record(db: Bench) {
    let kept = Some((0, Head { size: 7, root: [9; 32] }));
    let dispute = DisputeLog { node: sample::node_id(1), why: "cut", verdict: "unproven", kept, refused: None };
    let number = db.done(Fact::DisputeLog(dispute)).await;
    let event = json(&db.events().await[usize::try_from(number).unwrap()]);
    let root = hex::encode([9; 32]);
    assert_eq!(
        event["fields"],
        serde_json::json!({ "kept": { "epoch": 0, "root": root, "size": 7 }, "verdict": "unproven", "why": "cut" })
    );
    assert_eq!((&event["kind"], &event["subject"]), (&"log.disputed".into(), &sample::node_id(1).as_str().into()));
    check(&db.events().await).unwrap();
}
