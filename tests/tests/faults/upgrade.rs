//! A newer release migrates the database while servers of this one run.

use std::time::Duration;

use chancery_tests::process::until;

use crate::{
    cluster::Cluster,
    ledger::Ledger,
    report::ran,
    stage::{Stage, folder, servers},
};

const SOON: Duration = Duration::from_secs(30);
/// SVIDs between two steps.
const CALM: usize = 40;

/// What a next release might add; `TRUE` and `BYTES` are the database's own.
const NEXT: &str = "BEGIN; ALTER TABLE entries ADD COLUMN of_the_next_release TEXT; \
    ALTER TABLE nodes ADD COLUMN of_the_next_release BIGINT NOT NULL DEFAULT 0; \
    CREATE TABLE of_the_next_release (id TEXT PRIMARY KEY); \
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    SELECT MAX(version) + 1, 'of the next release', TRUE, BYTES, 0 FROM _sqlx_migrations; COMMIT";
/// And the one after it.
const AFTER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    SELECT MAX(version) + 1, 'after the next release', TRUE, BYTES, 0 FROM _sqlx_migrations";

fn two_steps(stage: &mut Stage, migrate: impl Fn(&str), fault: &str) {
    let load = stage.load();
    load.go_on(CALM, SOON);
    migrate(NEXT);
    // Those that run go on, and so does one that is started now.
    load.go_on(CALM, SOON);
    let last = stage.servers.len() - 1;
    stage.servers[last].stop();
    stage.servers[last].start();
    load.go_on(CALM, SOON);
    let log = std::fs::read_to_string(stage.servers[last].log()).unwrap();
    assert!(log.contains("a newer release has migrated the database"), "{log}");
    stage.servers[0].cli(&["entry", "list"]).unwrap();
    let received = load.end(&stage.runtime);
    let figures = Ledger::check(&stage.servers[0], &received);

    migrate(AFTER);
    stage.servers[last].stop();
    let refused = stage.servers[last].offline("migrate").unwrap_err();
    assert!(refused.contains("newer release"), "{refused}");
    stage.servers[last].spawn();
    let process = stage.servers[last].process();
    let ended = until(SOON, || process.check_running().err().ok_or_else(|| "it runs".to_owned())).unwrap();
    assert!(ended.contains("run the newer release that made it"), "{ended}");
    ran(fault, &figures);
}

#[test]
fn servers_go_on_while_the_next_release_migrates_postgres_and_refuse_the_one_after_it() {
    let cluster = Cluster::start(&[]);
    let folder = folder();
    let servers = servers(folder.path(), 2, &cluster.url());
    let mut stage = Stage::raise(folder, servers);
    // As `chancery-ca migrate` does it: again where a running server is in the way.
    let migrate = |sql: &str| {
        let sql = sql.replace("TRUE", "true").replace("BYTES", "'\\x00'::bytea");
        until(SOON, || cluster.try_sql(&sql)).unwrap_or_else(|e| panic!("{e}"));
    };
    two_steps(&mut stage, migrate, "the next release migrates PostgreSQL under two servers");
}

#[test]
fn a_server_goes_on_while_the_next_release_migrates_sqlite_and_refuses_the_one_after_it() {
    let folder = folder();
    let database = folder.path().join("ca.sqlite3");
    let servers = servers(folder.path(), 1, &database.display().to_string());
    let mut stage = Stage::raise(folder, servers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let migrate = |sql: &str| {
        let sql = sql.replace("BEGIN;", "BEGIN IMMEDIATE;").replace("TRUE", "1").replace("BYTES", "x'00'");
        runtime.block_on(crate::restore::sqlite(&database, &sql));
    };
    two_steps(&mut stage, migrate, "the next release migrates SQLite under a server");
}
