//! Databases of earlier releases go on working.

use chancery_ca::store::{AuthorityState, KeyState, Store};
use chancery_sdk::time::UnixTime;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection, migrate::Migrator, raw_sql};

use crate::postgres;

/// Two authorities as release 0001 left them.
const ROWS: &str = "INSERT INTO authorities (id, kind, server, state, public, not_before, not_after) VALUES \
    ('aa', 'x509', 's', 'active', VALUE1, 100, 200), ('kid', 'jwt', 's', 'old', VALUE2, 100, 300)";

#[tokio::test]
async fn authorities_from_before_the_journal_keep_their_keys_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.sqlite");
    std::fs::write(&path, b"").unwrap();
    let url = path.to_str().unwrap().to_string();
    let mut connection = SqliteConnection::connect(&format!("sqlite:{url}")).await.unwrap();
    only_first(sqlx::migrate!("../migrations/sqlite")).run_direct(None, &mut connection, false).await.unwrap();
    let rows = ROWS.replace("VALUE1", "x'01'").replace("VALUE2", "x'02'");
    raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    migrated(&url).await;
}

#[tokio::test]
async fn authorities_from_before_the_journal_keep_their_keys_on_postgres() {
    let url = postgres::database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    only_first(sqlx::migrate!("../migrations/postgres")).run_direct(None, &mut connection, false).await.unwrap();
    let rows = ROWS.replace("VALUE1", "'\\x01'::bytea").replace("VALUE2", "'\\x02'::bytea");
    raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    migrated(&url).await;
}

fn only_first(mut all: Migrator) -> Migrator {
    all.migrations = all.migrations.iter().filter(|m| m.version == 1).cloned().collect();
    all
}

async fn migrated(url: &str) {
    let done = Store::migrate(url).await.unwrap();
    assert!(done.from == 1 && done.to >= 2, "{done:?}");
    let store = Store::open(url, "s").await.unwrap();
    let authorities = store.authorities().await.unwrap();
    let told: Vec<_> = authorities.iter().map(|a| (a.id.as_str(), a.label.as_str(), a.state)).collect();
    assert_eq!(told, [("aa", "aa", AuthorityState::Active), ("kid", "kid", AuthorityState::Old)]);
    assert!(authorities.iter().all(|a| a.tainted_at.is_none() && a.published_at == UnixTime(100)));
    let keys = store.keys().await.unwrap();
    let told: Vec<_> = keys.iter().map(|k| (k.label.as_str(), k.state, k.spki.as_deref())).collect();
    assert_eq!(told, [("aa", KeyState::Generated, None), ("kid", KeyState::Generated, Some([2].as_slice()))]);
    store.close().await;
}
