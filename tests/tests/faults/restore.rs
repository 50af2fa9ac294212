//! The drill of docs/RUNBOOK.md: a backup taken from a running server, a loss, a restore, `restore-accept`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chancery_tests::{
    postgres::binaries,
    process::{run, until},
};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, raw_sql};

use crate::{
    cluster::Cluster,
    report::ran,
    server::Server,
    stage::{Stage, folder, servers},
};

const SOON: Duration = Duration::from_secs(30);
/// SVIDs that are lost with the database: after the backup.
const LOST: usize = 40;

/// Runs a statement on a SQLite file, as `sqlite3 FILE "..."` would.
pub async fn sqlite(file: &Path, sql: &str) {
    let url = format!("sqlite:{}", file.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Backs up, goes on, loses everything, restores; then the server refuses until the loss is accepted.
fn drill(stage: &mut Stage, backup: impl Fn(), restore: impl Fn(&mut Server), fault: &str) {
    let load = stage.load();
    load.go_on(LOST, SOON);
    backup();
    load.go_on(LOST, SOON);
    let received = load.end(&stage.runtime);
    let nodes: Vec<String> = stage.nodes.iter().map(|node| node.id.clone()).collect();
    let server = &mut stage.servers[0];
    // Ended in order, it wrote down how far it had come.
    server.stop();
    restore(server);

    server.spawn();
    let ended = until(SOON, || server.process().check_running().err().ok_or_else(|| "it serves".to_owned())).unwrap();
    assert!(ended.contains("restore-accept"), "{ended}");
    let said = server.offline("restore-accept").unwrap();
    assert!(said.contains("Epoch 1 begins"), "{said}");
    assert!(said.contains(&format!("{} nodes must attest again", nodes.len())), "{said}");
    server.start();

    let ledger = server.cli(&["audit", "list"]).unwrap();
    let first: serde_json::Value = serde_json::from_str(ledger.lines().next().unwrap()).unwrap();
    assert_eq!((&first["kind"], &first["number"]), (&"epoch.begun".into(), &0.into()));
    assert!(first["fields"]["seen_number"].as_i64() > first["fields"]["restored_next"].as_i64(), "{first}");
    let refused = stage.runtime.block_on(stage.nodes[0].issue(0));
    assert!(refused.is_err(), "a node of before is still let in");
    let joined = stage.nodes.len();
    stage.more_nodes(1);
    let serial = stage.runtime.block_on(stage.nodes[joined].issue(0)).unwrap();
    let figures = format!(
        "{} SVIDs before, {} were lost and said so, {serial} after",
        received.got.len(),
        first["fields"]["seen_number"].as_i64().unwrap() + 1 - first["fields"]["restored_next"].as_i64().unwrap()
    );
    ran(fault, &figures);
}

#[test]
fn a_sqlite_backup_taken_while_serving_is_restored_and_accepted() {
    let folder = folder();
    let (database, copy) = (folder.path().join("ca.sqlite3"), folder.path().join("backup.sqlite3"));
    let servers = servers(folder.path(), 1, &database.display().to_string());
    let mut stage = Stage::raise(folder, servers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backup = || runtime.block_on(sqlite(&database, &format!("VACUUM INTO '{}'", copy.display())));
    let restore = |_: &mut Server| {
        for side in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(PathBuf::from(format!("{}{side}", database.display())));
        }
        std::fs::copy(&copy, &database).unwrap();
    };
    drill(&mut stage, backup, restore, "backup and restore, SQLite (VACUUM INTO)");
}

#[test]
fn a_postgres_dump_taken_while_serving_is_restored_and_accepted() {
    let (cluster, fresh) = (Cluster::start(&[]), Cluster::start(&[]));
    let folder = folder();
    let dump = folder.path().join("backup.dump").display().to_string();
    let servers = servers(folder.path(), 1, &cluster.url());
    let mut stage = Stage::raise(folder, servers);
    let tool = |name: &str, args: &[&str]| drop(run(&binaries().join(name), args).unwrap_or_else(|e| panic!("{e}")));
    let backup = || tool("pg_dump", &["--format=custom", "--file", &dump, &cluster.url()]);
    let restore = |server: &mut Server| {
        tool("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &fresh.url(), &dump]);
        server.configure(&fresh.url(), "");
    };
    drill(&mut stage, backup, restore, "backup and restore, PostgreSQL (pg_dump)");
}
