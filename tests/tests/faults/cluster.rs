use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use chancery_tests::{
    playground::free_address,
    postgres::binaries,
    process::{Process, run, until},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Recovery after a crash included.
const READY: Duration = Duration::from_secs(60);

/// A PostgreSQL server of our own that can be broken: on TCP, with fsync, durable.
pub struct Cluster {
    folder: TempDir,
    /// Addresses it listens on; the first is ours.
    hosts: String,
    port: u16,
    settings: Vec<String>,
    process: Option<Process>,
}

/// How a server is ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// No goodbye at all: the postmaster is killed, and its children notice.
    Kill,
    /// Sessions are cut, nothing is written, the next start recovers from the log.
    Immediate,
    /// Sessions are ended, then a checkpoint.
    Fast,
}

impl Cluster {
    /// An empty database `chancery`, started.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_at(&["127.0.0.1"], settings)
    }

    /// The same, also on other addresses of this machine, where it lets everybody in.
    pub fn start_at(hosts: &[&str], settings: &[&str]) -> Self {
        Self::start_in(Self::folder(), hosts, settings)
    }

    /// The same in a folder that is there already, and empty.
    pub fn start_in(folder: TempDir, hosts: &[&str], settings: &[&str]) -> Self {
        let mut this = Self::new(folder, free_address().unwrap().port(), settings);
        this.hosts = hosts.join(",");
        let data = this.data().display().to_string();
        let args = ["-D", &data, "-U", "chancery", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8"];
        this.tool("initdb", &args);
        let hba = this.data().join("pg_hba.conf");
        let text = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("{text}host all all 10.0.0.0/8 trust\n")).unwrap();
        this.up();
        this.sql_in("postgres", "CREATE DATABASE chancery");
        this
    }

    /// A folder that PostgreSQL takes.
    pub fn folder() -> TempDir {
        let folder = tempfile::Builder::new().prefix("chy-pg").tempdir().unwrap();
        own(folder.path());
        folder
    }

    fn new(folder: TempDir, port: u16, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        Self { folder, hosts: "127.0.0.1".into(), port, settings, process: None }
    }

    /// Starts the server and waits until it answers.
    pub fn up(&mut self) {
        until(READY, || self.try_up()).unwrap_or_else(|e| panic!("{e}"));
    }

    /// A postmaster that was killed may have children that still hold the folder: then it ends, and is started anew.
    fn try_up(&mut self) -> Result<(), String> {
        if self.process.as_mut().is_none_or(|p| p.check_running().is_err()) {
            self.spawn();
        }
        let args = ["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "chancery", "-d", "postgres"];
        run(&binaries().join("pg_isready"), &args)
            .map(drop)
            .map_err(|e| format!("{e}: {}", chancery_tests::process::tail(&self.log())))
    }

    fn spawn(&mut self) {
        let mut args: Vec<String> = as_postgres().iter().map(|s| (*s).to_owned()).collect();
        // After the change of user, which forgets it.
        args.extend(["setpriv", "--pdeathsig", "INT"].map(str::to_owned));
        args.push(binaries().join("postgres").display().to_string());
        args.extend(["-D".into(), self.data().display().to_string(), "-p".into(), self.port.to_string()]);
        let fixed = [
            format!("listen_addresses={}", self.hosts),
            format!("unix_socket_directories={}", self.folder.path().display()),
            "max_connections=60".into(),
            "wal_keep_size=64MB".into(),
        ];
        for setting in fixed.iter().chain(&self.settings) {
            args.extend(["-c".into(), setting.clone()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.process = Some(Process::start("postgres", Path::new("/usr/bin/env"), &args, &self.log()).unwrap());
    }

    /// Ends the server, and waits until it has ended.
    pub fn down(&mut self, how: End) {
        let Some(mut process) = self.process.take() else { return };
        match how {
            End::Kill => return process.kill(),
            End::Immediate => process.signal(Signal::QUIT),
            End::Fast => process.signal(Signal::INT),
        }
        let ended = until(READY, || process.check_running().map_or(Ok(()), |()| Err(format!("{how:?} takes long"))));
        ended.unwrap_or_else(|e| panic!("{e}"));
    }

    /// A copy that follows this server under `name`, started; on `port` where that is to be a known one.
    pub fn standby(&self, name: &str, port: Option<u16>) -> Self {
        let mut standby = Self::new(Self::folder(), port.unwrap_or_else(|| free_address().unwrap().port()), &[]);
        let (data, port) = (standby.data().display().to_string(), self.port.to_string());
        let conninfo = format!("host=127.0.0.1 port={port} user=chancery application_name={name}");
        let args = ["-D", &data, "-d", &conninfo, "-R", "-X", "stream", "-c", "fast", "--no-sync"];
        standby.tool("pg_basebackup", &args);
        standby.up();
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote(true, 60)"), "t");
    }

    /// Sets a parameter while it runs.
    pub fn set(&self, setting: &str) {
        self.sql(&format!("ALTER SYSTEM SET {setting}"));
        self.sql("SELECT pg_reload_conf()");
    }

    /// Takes a parameter back while the server is down.
    pub fn unset_while_down(&self, name: &str) {
        let file = self.data().join("postgresql.auto.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        let kept: String =
            text.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, kept).unwrap();
    }

    /// What a statement answers in `chancery`, as psql prints it.
    pub fn sql(&self, statement: &str) -> String {
        self.sql_in("chancery", statement)
    }

    /// The same, where it may be refused.
    pub fn try_sql(&self, statement: &str) -> Result<String, String> {
        self.try_sql_in("chancery", statement)
    }

    fn sql_in(&self, database: &str, statement: &str) -> String {
        self.try_sql_in(database, statement).unwrap_or_else(|e| panic!("{e}"))
    }

    fn try_sql_in(&self, database: &str, statement: &str) -> Result<String, String> {
        let port = self.port.to_string();
        let args =
            ["-X", "-q", "-At", "-h", "127.0.0.1", "-p", &port, "-U", "chancery", "-d", database, "-c", statement];
        run(&binaries().join("psql"), &args).map(|said| said.trim().to_owned())
    }

    /// As the CA's configuration has it.
    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    pub fn url_at(&self, host: &str) -> String {
        format!("postgres://chancery@{host}:{}/chancery", self.port)
    }

    /// Both servers in one URL.
    pub fn url_with(&self, other: &Self) -> String {
        format!("postgres://chancery@127.0.0.1:{},127.0.0.1:{}/chancery", self.port, other.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("{}.log", self.folder.path().file_name().unwrap().display()))
    }

    /// Runs one of PostgreSQL's programs as the user it wants.
    fn tool(&self, name: &str, args: &[&str]) {
        let mut command = Command::new("/usr/bin/env");
        command.args(as_postgres()).arg(binaries().join(name)).args(args).current_dir("/");
        let out = command.output().unwrap();
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::QUIT);
            process.stop();
        }
        let _ = std::fs::remove_file(self.log());
    }
}

/// Gives a folder to the user that PostgreSQL runs as.
pub fn own(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        run(Path::new("chown"), &["postgres:postgres", &folder.display().to_string()]).unwrap();
    }
}

/// PostgreSQL refuses to run as root.
pub fn as_postgres() -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"],
        false => &[],
    }
}
