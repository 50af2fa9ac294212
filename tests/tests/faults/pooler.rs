//! A pooler between servers and PostgreSQL: by session it is transparent, by transaction it is refused at once.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use chancery_tests::{
    playground::free_address,
    process::{Process, until},
};
use tempfile::TempDir;

use crate::{
    cluster::{Cluster, as_postgres},
    ledger::Ledger,
    report::{installed, ran},
    server::Server,
    stage::{Stage, folder, servers},
};

const SOON: Duration = Duration::from_secs(20);
/// SVIDs through the pooler.
const CALM: usize = 40;

/// A running pgbouncer.
struct Pooler {
    _folder: TempDir,
    _process: Process,
    url: String,
}

impl Pooler {
    fn start(cluster: &Cluster, mode: &str) -> Self {
        let (folder, listen) = (Cluster::folder(), free_address().unwrap());
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\nchancery = host=127.0.0.1 port={} dbname=chancery user=chancery\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\n\
             default_pool_size = 40\nignore_startup_parameters = extra_float_digits,options\n",
            cluster.port(),
            listen.port()
        );
        // Readable by the user it runs as, who owns the folder.
        chancery_daemon::file::write_atomic(&file, text.as_bytes(), 0o644).unwrap();
        let (file, log) = (file.display().to_string(), folder.path().join("log"));
        let args: Vec<&str> = as_postgres().iter().copied().chain(["pgbouncer", &file]).collect();
        let process = Process::start("pgbouncer", Path::new("/usr/bin/env"), &args, &log).unwrap();
        until(SOON, || std::net::TcpStream::connect(listen).map(drop).map_err(|e| e.to_string())).unwrap();
        let url = format!("postgres://chancery@{listen}/chancery");
        Self { _folder: folder, _process: process, url }
    }
}

#[test]
fn a_pooler_by_session_is_transparent_and_one_by_transaction_is_refused() {
    let fault = "a pooler (pgbouncer)";
    if !installed(fault, "pgbouncer", "pgbouncer") {
        return;
    }
    let cluster = Cluster::start(&[]);
    let (by_session, by_transaction) = (Pooler::start(&cluster, "session"), Pooler::start(&cluster, "transaction"));
    let folder = folder();
    let refused = Server::new(folder.path(), "refused", &by_transaction.url, "").offline("migrate").unwrap_err();
    assert!(refused.contains("prepared statement"), "{refused}");

    let servers = servers(folder.path(), 2, &by_session.url);
    let stage = Stage::raise(folder, servers);
    let listening = cluster.sql("SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    assert_eq!(listening, "2");
    let load = stage.load();
    load.go_on(CALM, SOON);
    cluster.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'chancery' AND pid <> pg_backend_pid()",
    );
    let back = load.back(Instant::now(), |_| true, SOON);
    load.go_on(CALM, SOON);
    let figures = Ledger::check(&stage.servers[0], &load.end(&stage.runtime));
    ran(fault, &format!("by session; back {back:?} after every session was cut; {figures}"));
}
