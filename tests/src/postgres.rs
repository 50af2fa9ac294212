//! A private PostgreSQL for tests: one cluster per test run, one database per test.
//!
//! `TEST_POSTGRES_URL` names a running server instead. The cluster listens on a UNIX socket only and ends with
//! the run: nextest's where it runs us (a process per test), else ours. PostgreSQL refuses to run as root, so root
//! runs it as `postgres`.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
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

/// `$1` = folder of the binaries, `$2` = our folder, `$3` = process to end with, where that is not our parent.
/// The shell outlives the server only to remove the folder.
const SCRIPT: &str = r#"
"$1/initdb" -D "$2/data" -U chancery -A trust --no-sync --no-instructions -E UTF8 --no-locale >&2 || exit 1
setpriv --pdeathsig INT "$1/postgres" -D "$2/data" -c listen_addresses= -c unix_socket_directories="$2" \
    -c max_connections=200 &
server=$!
trap 'kill -INT $server' TERM INT
if [ -n "$3" ]; then
    tail --pid="$3" -f /dev/null
    kill -INT $server
fi
wait $server
wait $server
rm -rf "$2" "$2.lock"
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
    drop_finished(&mut admin).await;
    raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("may create databases");
    with_database(server, &name)
}

/// Drops what tests of ended processes left, at 8 MB each; a database that another test just dropped is no matter.
async fn drop_finished(admin: &mut PgConnection) {
    let names = "SELECT datname FROM pg_database WHERE datname LIKE 'chancery\\_%\\_%'";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut *admin).await.expect("may list databases");
    for name in names {
        let owner = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = raw_sql(AssertSqlSafe(drop)).execute(&mut *admin).await;
        }
    }
}

/// URL of the server's `postgres` database; starts the cluster on the first call.
fn server_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| match (std::env::var("TEST_POSTGRES_URL"), std::env::var("NEXTEST_RUN_ID")) {
        (Ok(url), _) => url,
        (Err(_), Ok(run)) => shared(&run),
        (Err(_), Err(_)) => {
            // A socket's path is limited to about 107 bytes: the folder is directly under the temporary one.
            let folder = tempfile::Builder::new().prefix("chancery-pg").tempdir().expect("a temporary folder").keep();
            start(&folder, None);
            url(&folder)
        }
    })
}

/// The cluster of a nextest run: whoever comes first starts it, the others wait for the lock.
fn shared(run: &str) -> String {
    let folder = std::env::temp_dir().join(format!("chancery-pg-{run}"));
    let lock = File::options().create(true).append(true).mode(0o600).open(folder.with_extension("lock"));
    let lock = lock.expect("the temporary folder takes a lock file");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a file may be locked");
    if std::fs::create_dir(&folder).is_ok() {
        // The shell that removes the lock with the folder runs as `postgres`.
        let _ = Command::new("chown").arg("postgres:postgres").arg(folder.with_extension("lock")).status();
        let nextest = std::os::unix::process::parent_id();
        start(&folder, Some(nextest));
    }
    url(&folder)
}

fn url(folder: &Path) -> String {
    format!("postgresql://chancery@localhost/postgres?host={}", folder.display())
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let slash = base.find("//").and_then(|at| base[at + 2..].find('/').map(|next| at + 2 + next));
    let base = &base[..slash.unwrap_or(base.len())];
    query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}"))
}

/// Starts a cluster in `folder` that ends with our process, or with `lifeline`.
fn start(folder: &Path, lifeline: Option<u32>) {
    let binaries = binaries();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).expect("the folder is ours");
    let mut command = Command::new("setsid");
    if rustix::process::geteuid().is_root() {
        let given = Command::new("chown").arg("postgres:postgres").arg(folder).status();
        assert!(given.is_ok_and(|s| s.success()), "user postgres is missing: install postgresql");
        command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    if lifeline.is_none() {
        command.args(["setpriv", "--pdeathsig", "TERM"]);
    }
    command.args(["sh", "-c", SCRIPT, "sh"]).arg(binaries).arg(folder);
    command.arg(lifeline.map(|pid| pid.to_string()).unwrap_or_default());
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    run(command);
}

/// The newest installed version's folder of programs.
///
/// # Panics
/// Where PostgreSQL is not installed.
pub fn binaries() -> PathBuf {
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
