use std::os::unix::fs::PermissionsExt;

use chancery_ca::store::{Fact, ServerStarted, Store, StoreError};

use crate::{
    bench::{Bench, on_both},
    postgres,
};

on_both! {
    migrating_again_changes_nothing
    a_newer_schema_is_refused_and_left_alone
    the_schema_of_the_next_release_is_worked_on_and_the_one_after_it_refused
    a_closed_store_refuses_facts
}

fn started() -> Fact {
    Fact::ServerStarted(ServerStarted { version: "1".into() })
}

async fn migrating_again_changes_nothing(db: Bench) {
    let done = Store::migrate(&db.url).await.unwrap();
    assert_eq!(done.from, done.to);
    assert!(done.to >= 1);
}

async fn a_newer_schema_is_refused_and_left_alone(db: Bench) {
    let columns = "version, description, success, checksum, execution_time";
    let values = if db.url.starts_with("postgres") { "9999, 'x', true, '', 0" } else { "9999, 'x', 1, x'', 0" };
    db.sql(&format!("INSERT INTO _sqlx_migrations ({columns}) VALUES ({values})")).await;
    for error in [Store::open(&db.url, "s").await.err().unwrap(), Store::migrate(&db.url).await.err().unwrap()] {
        assert!(matches!(error, StoreError::Schema { found: 9999, .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }
}

/// While servers are upgraded one by one, the first of the new ones migrates under those of this release.
async fn the_schema_of_the_next_release_is_worked_on_and_the_one_after_it_refused(db: Bench) {
    let newest = Store::migrate(&db.url).await.unwrap().to;
    let columns = "version, description, success, checksum, execution_time";
    let rest = if db.url.starts_with("postgres") { "'x', true, '', 0" } else { "'x', 1, x'', 0" };
    let step = |version: i64| format!("INSERT INTO _sqlx_migrations ({columns}) VALUES ({version}, {rest})");
    db.sql(&step(newest + 1)).await;
    db.done(started()).await;
    let store = Store::open(&db.url, "second").await.unwrap();
    store.commit(started()).await.unwrap();
    store.close().await;
    db.sql(&step(newest + 2)).await;
    let error = Store::open(&db.url, "third").await.err().unwrap();
    assert!(matches!(error, StoreError::Schema { found, .. } if found == newest + 2), "{error:?}");
}

async fn a_closed_store_refuses_facts(db: Bench) {
    let store = Store::open(&db.url, "second").await.unwrap();
    let clone = store.clone();
    let before = clone.commit(started());
    before.await.unwrap();
    store.close().await;
    assert!(matches!(clone.commit(started()).await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn an_empty_sqlite_database_is_refused_with_the_command_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.sqlite");
    std::fs::write(&path, b"").unwrap();
    let error = Store::open(path.to_str().unwrap(), "s").await.err().unwrap();
    assert!(matches!(error, StoreError::Schema { found: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("`chancery-ca migrate`"));
}

#[tokio::test]
async fn an_empty_postgres_database_is_refused_with_the_command_to_run() {
    let error = Store::open(&postgres::database().await, "s").await.err().unwrap();
    assert!(matches!(error, StoreError::Schema { found: 0, .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_sqlite_file_is_not_made_by_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.sqlite");
    let error = Store::open(path.to_str().unwrap(), "s").await.err().unwrap();
    assert!(matches!(error, StoreError::Away(_)), "{error:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_sqlite_file_is_readable_by_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.sqlite");
    for url in [path.to_str().unwrap().to_string(), format!("sqlite:{}", path.display())] {
        Store::migrate(&url).await.unwrap();
        let store = Store::open(&url, "s").await.unwrap();
        store.commit(started()).await.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn an_unknown_url_is_refused_without_printing_its_password() {
    let error = Store::open("mysql://root:secret@h/db", "s").await.err().unwrap();
    assert_eq!(error.to_string(), "database 'mysql:' is neither a path, sqlite:PATH nor postgres://");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_away() {
    let error = Store::open("postgresql://x@localhost/db?host=/nonexistent", "s").await.err().unwrap();
    assert!(matches!(error, StoreError::Away(_)), "{error:?}");
}
