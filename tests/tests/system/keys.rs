//! `kill -9` of the CA between each pair of states of a key's life: no key is orphaned, lost or made twice.
//!
//! `CHANCERY_KEY_KILLS` = rounds (`make soak`: 55). A debug build stops at the named point and says so in a file; then
//! it is killed. Keys are on disk, the journal in SQLite or PostgreSQL.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use chancery_tests::{
    playground::Binaries,
    process::{Process, run, until},
};
use serde_json::Value;

use crate::support::{SOON, postgres_database};

/// Where the CA stops, each between two states of the journal or between a state and the key store.
const POINTS: [&str; 11] = [
    "planned",
    "generating",
    "made",
    "generated",
    "prepared",
    "active",
    "condemned",
    "condemned-due",
    "deleted",
    "tainted",
    "revoked",
];

/// A CA without nodes.
struct Ca {
    folder: PathBuf,
    program: PathBuf,
    process: Option<Process>,
}

impl Ca {
    fn new(folder: &Path, database: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let program = Binaries::find().unwrap().path("chancery-ca");
        let this = Self { folder: folder.into(), program, process: None };
        let text = format!(
            "trust_domain = \"keys.test\"\ndata_dir = {:?}\ndatabase = {database:?}\nlisten = \"127.0.0.1:0\"\n\
             admin_socket = {:?}\nnode_attestors = [\"join_token\"]\n\n[keys]\ndestroy_after = \"0s\"\n",
            folder.join("data"),
            folder.join("admin.sock"),
        );
        std::fs::write(this.config(), text).unwrap();
        run(&this.program, &["migrate", "--config", &this.config().display().to_string()]).unwrap();
        this
    }

    fn config(&self) -> PathBuf {
        self.folder.join("ca.toml")
    }

    fn stop_file(&self) -> PathBuf {
        self.folder.join("stopped-at")
    }

    /// Starts it; it will stop at `point`.
    fn start(&mut self, point: &str) {
        let _ = std::fs::remove_file(self.stop_file());
        let (at, file) =
            (format!("CHANCERY_STOP_AT={point}"), format!("CHANCERY_STOP_FILE={}", self.stop_file().display()));
        let (program, config) = (self.program.display().to_string(), self.config().display().to_string());
        let args = [at.as_str(), &file, &program, "run", "--config", &config];
        let log = self.folder.join("ca.log");
        self.process = Some(Process::start("chancery-ca", Path::new("/usr/bin/env"), &args, &log).unwrap());
    }

    fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    fn serve(&mut self) {
        self.start("");
        let healthy = until(SOON, || {
            if let Err(ended) = self.process.as_mut().unwrap().check_running() {
                return Ok(Err(ended));
            }
            self.cli(&["healthcheck"]).map(Ok)
        });
        healthy.and_then(|h| h).unwrap_or_else(|e| panic!("{e}"));
    }

    fn args<'a>(&'a self, args: &[&'a str], socket: &'a str) -> Vec<&'a str> {
        args.iter().copied().chain(["--socket", socket, "--output", "json"]).collect()
    }

    fn cli(&self, args: &[&str]) -> Result<Value, String> {
        let socket = self.folder.join("admin.sock").display().to_string();
        let text = run(&self.program, &self.args(args, &socket))?;
        serde_json::from_str(&text).map_err(|e| format!("{text}: {e}"))
    }

    fn show(&self) -> Value {
        self.cli(&["authority", "show"]).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Whether the CA came to its point.
    fn stopped(&self) -> bool {
        self.stop_file().exists()
    }

    /// A command that may hang because the CA stopped; `None` then, or where it was refused.
    fn try_cli(&self, args: &[&str]) -> Option<Value> {
        let socket = self.folder.join("admin.sock").display().to_string();
        let mut command = Command::new(&self.program);
        command.args(self.args(args, &socket)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let ended = until(SOON, || match child.try_wait().unwrap() {
            Some(status) => Ok(status.success()),
            None if self.stopped() => Ok(false),
            None => Err(format!("{args:?} hangs and the CA did not stop")),
        });
        let done = ended.unwrap_or_else(|e| panic!("{e}"));
        if done { serde_json::from_str(&said(child)).ok() } else { ended_child(child) }
    }

    /// Takes X.509 authorities through their whole life, again and again, until the CA stops.
    fn work_until_it_stops(&mut self, point: &str) {
        let end = Instant::now() + SOON * 2;
        while !self.stopped() {
            assert!(Instant::now() < end, "the CA never came to '{point}'");
            if let Err(ended) = self.process.as_mut().unwrap().check_running() {
                panic!("{ended}");
            }
            // Three are published at most: what earlier rounds left goes first.
            let Some(show) = self.try_cli(&["authority", "show"]) else { continue };
            for old in with(&show, "x509", "old") {
                self.try_cli(&["authority", "taint", &old]);
                self.try_cli(&["authority", "revoke", &old, "--yes"]);
            }
            // The first of the two is given up for the second, so its key is condemned and destroyed.
            self.try_cli(&["authority", "prepare", "x509"]);
            let Some(made) = self.try_cli(&["authority", "prepare", "x509"]) else { continue };
            let id = made["prepared_authority"]["authority_id"].as_str().unwrap().to_owned();
            self.try_cli(&["authority", "activate", &id, "--now"]);
        }
    }

    /// Labels of the key files.
    fn files(&self) -> BTreeSet<String> {
        let list = std::fs::read_dir(self.folder.join("data/keys")).unwrap();
        let names = list.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// What must hold after every recovery.
    fn check(&self) -> Result<(), String> {
        let show = self.show();
        let server = show["server"].as_str().unwrap();
        let own = || rows(&show).filter(|row| row["server"] == server);
        let labels = |states: &[&str]| -> BTreeSet<String> {
            let in_state = own().filter(|row| states.contains(&row["key_state"].as_str().unwrap()));
            in_state.map(|row| row["key_label"].as_str().unwrap().replace('/', "-") + ".key").collect()
        };
        let present = labels(&["generated", "condemned"]);
        if self.files() != present {
            return Err(format!("key store {:?}, journal {present:?}", self.files()));
        }
        for state in ["generating", "lost"] {
            let left = labels(&[state]);
            if !left.is_empty() {
                return Err(format!("{state}: {left:?}"));
            }
        }
        if show["orphans"].as_array().is_none_or(|list| !list.is_empty()) {
            return Err(format!("orphans: {}", show["orphans"]));
        }
        for kind in ["x509", "jwt"] {
            let of = |state: &str| own().filter(|r| r["kind"] == kind && r["state"] == state).count();
            let (active, published) = (of("active"), of("active") + of("prepared") + of("old"));
            if active != 1 || published > 3 {
                return Err(format!("{kind}: {active} active, {published} published"));
            }
        }
        let keys: Vec<_> = own().map(|r| r["spki_sha256"].as_str().unwrap()).filter(|s| !s.is_empty()).collect();
        let distinct: BTreeSet<_> = keys.iter().collect();
        if distinct.len() == keys.len() { Ok(()) } else { Err(format!("a key has two rows: {keys:?}")) }
    }
}

fn said(child: Child) -> String {
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

fn ended_child(mut child: Child) -> Option<Value> {
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn rows(show: &Value) -> impl Iterator<Item = &Value> {
    show["authorities"].as_array().unwrap().iter()
}

/// IDs of the answering server's authorities of a kind in a state.
fn with(show: &Value, kind: &str, state: &str) -> Vec<String> {
    let server = &show["server"];
    let found = rows(show).filter(|r| r["kind"] == kind && r["state"] == state && r["server"] == *server);
    found.map(|r| r["authority_id"].as_str().unwrap().to_owned()).collect()
}

fn rounds() -> usize {
    std::env::var("CHANCERY_KEY_KILLS").map_or(POINTS.len(), |text| text.parse().unwrap())
}

fn kill_at_every_point(database: impl FnOnce(&Path) -> String) {
    let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
    let database = database(folder.path());
    let mut ca = Ca::new(&folder.path().join("ca"), &database);
    for round in 0..rounds() {
        let point = POINTS[round % POINTS.len()];
        ca.start(point);
        ca.work_until_it_stops(point);
        ca.kill();
        ca.serve();
        until(SOON, || ca.check()).unwrap_or_else(|e| panic!("round {round}, killed at '{point}': {e}"));
        ca.kill();
    }
    ca.serve();
    until(SOON, || ca.check()).unwrap();
    let show = ca.show();
    println!(
        "{} kills at {} points: {} keys in the journal, {} in the key store, none orphaned, lost or doubled",
        rounds(),
        POINTS.len(),
        rows(&show).count(),
        ca.files().len()
    );
}

#[test]
fn no_key_is_orphaned_lost_or_doubled_by_kills_on_sqlite() {
    kill_at_every_point(|folder| folder.join("ca.sqlite3").display().to_string());
}

#[test]
fn no_key_is_orphaned_lost_or_doubled_by_kills_on_postgres() {
    if let Some(url) = postgres_database("key_kills") {
        kill_at_every_point(|_| url);
    }
}

#[test]
fn servers_of_one_database_have_keys_of_their_own_and_bury_each_others_dead() {
    let Some(url) = postgres_database("two_servers") else { return };
    let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
    let mut cas = ["one", "two"].map(|name| Ca::new(&folder.path().join(name), &url));
    for ca in &mut cas {
        ca.serve();
    }
    let [one, mut two] = cas;
    let both = one.show();
    let active: Vec<_> = rows(&both).filter(|r| r["state"] == "active").collect();
    let distinct = |what: &str| active.iter().map(|r| r[what].as_str().unwrap()).collect::<BTreeSet<_>>().len();
    assert_eq!((distinct("spki_sha256"), distinct("server"), distinct("key_label")), (4, 2, 4), "{both}");
    one.check().unwrap();
    two.check().unwrap();

    // The second server dies; its authority signed until then, and is tainted and revoked from the first.
    let [dead]: [String; 1] = with(&two.show(), "x509", "active").try_into().unwrap();
    two.kill();
    let refused = one.cli(&["authority", "taint", &dead]).unwrap_err();
    assert!(refused.contains("--yes"), "{refused}");
    let early = one.cli(&["authority", "revoke", &dead, "--yes"]).unwrap_err();
    assert!(early.contains("not tainted"), "{early}");
    one.cli(&["authority", "taint", &dead, "--yes"]).unwrap();
    let tainted = one.cli(&["bundle", "show"]).unwrap();
    let flags = |bundle: &Value| -> Vec<bool> {
        bundle["x509_authorities"].as_array().unwrap().iter().map(|a| a["tainted"].as_bool().unwrap()).collect()
    };
    assert_eq!(flags(&tainted).iter().filter(|t| **t).count(), 1, "{tainted}");
    one.cli(&["authority", "revoke", &dead, "--yes"]).unwrap();
    assert_eq!(flags(&one.cli(&["bundle", "show"]).unwrap()), [false]);
    // Our own active one is not for that.
    let [mine]: [String; 1] = with(&one.show(), "x509", "active").try_into().unwrap();
    let refused = one.cli(&["authority", "taint", &mine, "--yes"]).unwrap_err();
    assert!(refused.contains("prepare and activate another one first"), "{refused}");

    // It comes back with an authority of its own that nobody mistrusts.
    two.serve();
    until(SOON, || two.check()).unwrap();
    assert!(!with(&two.show(), "x509", "active").contains(&dead));
}
