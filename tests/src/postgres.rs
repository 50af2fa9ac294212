//! A private PostgreSQL for tests: one cluster per test process, one database per test.
//!
//! `TEST_POSTGRES_URL` names a running server instead. The cluster listens on a UNIX socket only and ends with
//! its parent. PostgreSQL refuses to run as root, so root runs it as `postgres`.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

/// From nothing to the first connection takes half a second; a loaded machine may need much longer.
const READY: Duration = Duration::from_secs(60);

/// `$1` = folder of the binaries, `$2` = our folder. The shell outlives the server only to remove the folder.
/// fsync is off: what is tested is what the store asks of the database, not the database.
const SCRIPT: &str = r#"
"$1/initdb" -D "$2/data" -U chancery -A trust --no-sync --no-instructions -E UTF8 --no-locale >&2 || exit 1
setpriv --pdeathsig INT "$1/postgres" -D "$2/data" -c listen_addresses= -c unix_socket_directories="$2" \
    -c max_connections=200 -c fsync=off &
server=$!
trap 'kill -INT $server' TERM INT
wait $server
wait $server
rm -rf "$2"
"#;

/// Makes an empty database and answers its URL.
///
/// # Panics
/// Where PostgreSQL is neither installed nor named by `TEST_POSTGRES_URL`.
pub async fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = server_url();
    let name = format!("chancery_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(server).await.expect("the server answers");
    let create = format!("DROP DATABASE IF EXISTS {name}; ");
    raw_sql(AssertSqlSafe(create)).execute(&mut admin).await.expect("may drop databases");
    raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("may create databases");
    with_database(server, &name)
}

/// URL of the server's `postgres` database; starts the cluster on the first call.
fn server_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| start()))
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let slash = base.find("//").and_then(|at| base[at + 2..].find('/').map(|next| at + 2 + next));
    let base = &base[..slash.unwrap_or(base.len())];
    query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}"))
}

fn start() -> String {
    let binaries = binaries();
    let root = rustix::process::geteuid().is_root();
    // A socket's path is limited to about 107 bytes: the folder is directly under the temporary one.
    let folder = tempfile::Builder::new().prefix("chancery-pg").tempdir().expect("a temporary folder").keep();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).expect("the folder is ours");
    let mut command = if root {
        let given = Command::new("chown").arg("postgres:postgres").arg(&folder).status();
        assert!(given.is_ok_and(|s| s.success()), "user postgres is missing: install postgresql");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "setpriv"]);
        command
    } else {
        Command::new("setpriv")
    };
    command.args(["--pdeathsig", "TERM", "sh", "-c", SCRIPT, "sh"]).arg(binaries).arg(&folder);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    run(command);
    format!("postgresql://chancery@localhost/postgres?host={}", folder.display())
}

/// The newest installed version's folder.
fn binaries() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().filter_map(|v| version_folder(&v.path())).collect())
        .unwrap_or_default();
    found.sort();
    found.pop().expect("install postgresql, or set TEST_POSTGRES_URL").1
}

fn version_folder(path: &Path) -> Option<(u32, PathBuf)> {
    Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
}

/// The death signal is tied to the thread that spawns, so this one stays until the server ends.
fn run(mut command: Command) {
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        let mut child = command.spawn().expect("setpriv of util-linux is installed");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut log = String::new();
        for line in lines.map_while(Result::ok) {
            if line.contains("ready to accept connections") {
                let _ = ready.send(Ok(()));
            }
            log = log + &line + "\n";
        }
        let _ = ready.send(Err(log));
        let _ = child.wait();
    });
    match wait.recv_timeout(READY) {
        Ok(Ok(())) => {}
        Ok(Err(log)) => panic!("PostgreSQL ended:\n{log}"),
        Err(_) => panic!("PostgreSQL was not ready after {} s", READY.as_secs()),
    }
}
