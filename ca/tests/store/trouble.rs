//! The database misbehaves: callers get a clear error, nothing is half-written, and the store recovers.

use std::time::Duration;

use chancery_ca::store::{Fact, ServerStarted, StoreError};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection, raw_sql};

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    a_lock_held_too_long_is_an_outage_that_ends
}

fn started() -> Fact {
    Fact::ServerStarted(ServerStarted { version: "1".into() })
}

/// Takes the counter row away from the store for longer than it waits.
async fn a_lock_held_too_long_is_an_outage_that_ends(db: Bench) {
    let before = db.events().await;
    let (mut lite, mut pg) = (None, None);
    if db.url.starts_with("postgres") {
        let mut holder = PgConnection::connect(&db.url).await.unwrap();
        holder.execute("BEGIN; UPDATE counter SET next = next").await.unwrap();
        pg = Some(holder);
    } else {
        let mut holder = SqliteConnection::connect(&format!("sqlite:{}", db.url)).await.unwrap();
        holder.execute("BEGIN IMMEDIATE").await.unwrap();
        lite = Some(holder);
    }
    let facts = (0..50).map(|_| db.store.commit(started()));
    for outcome in futures_util::future::join_all(facts).await {
        assert!(matches!(outcome, Err(StoreError::Away(_))), "{outcome:?}");
    }
    assert_eq!(db.events().await, before, "reads go on, and nothing was written");
    drop((lite.take(), pg.take()));
    // The server notices the holder's end by itself; until then the store only waits for the lock.
    db.done(started()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_replaced() {
    let db = Bench::postgres().await;
    db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chancery-ca' AND datname = current_database()").await;
    // At most the first call meets the broken connection.
    if let Err(error) = db.store.commit(started()).await {
        assert!(matches!(error, StoreError::Away(_)), "{error:?}");
    }
    db.done(started()).await;
    db.store.entries("", 1000).await.unwrap();
}

/// As SQLite does by itself on a full disk: the transaction is gone before the store says rollback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_sqlite_itself_rolls_back_leaves_a_working_writer() {
    let db = Bench::sqlite().await;
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON entries BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
    db.sql(trigger).await;
    let before = db.events().await;
    let mut facts = vec![started(), Fact::CreateEntry(sample::entry("e1")), started()];
    let outcomes = futures_util::future::join_all(facts.drain(..).map(|f| db.store.commit(f))).await;
    assert!(matches!(outcomes[1], Err(StoreError::Sql(_))), "{outcomes:?}");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert_eq!(db.events().await.len(), before.len() + 2);
    db.done(started()).await;
}

#[tokio::test]
async fn a_full_disk_is_told_as_such() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    connection.execute("CREATE TABLE t (a BLOB); PRAGMA max_page_count = 2").await.unwrap();
    let fill = raw_sql(AssertSqlSafe("INSERT INTO t VALUES (zeroblob(100000))".to_string()));
    let error = StoreError::from(fill.execute(&mut connection).await.unwrap_err());
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    assert_eq!(error.to_string(), "database disk is full");
}

/// A writer that waits must not keep readers or other callers' deadlines from working.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_the_writer_waits() {
    let db = Bench::sqlite().await;
    let mut holder = SqliteConnection::connect(&format!("sqlite:{}", db.url)).await.unwrap();
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    let store = db.store.clone();
    let waiting = tokio::spawn(async move { store.commit(started()).await });
    tokio::time::timeout(Duration::from_secs(3), db.store.entries("", 1000))
        .await
        .expect("a read waits for nobody")
        .unwrap();
    holder.execute("ROLLBACK").await.unwrap();
    assert!(waiting.await.unwrap().is_ok());
}
