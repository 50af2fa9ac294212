//! Bad input at start: one line on standard error that says what to do, exit code 1, nothing half-written.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use chancery_tests::{
    playground::{Attest, Binaries},
    process::{Process, run, until},
};
use sqlx::Connection;

use crate::support::{SOON, stage};

/// A start that neither serves nor fails within this many seconds hangs.
const PATIENCE: &str = "30";

/// A folder with a configuration for one daemon.
struct Desk {
    folder: tempfile::TempDir,
    program: PathBuf,
    config: PathBuf,
}

/// Removes a mount when dropped.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Mounts a tmpfs; `None`, loudly, where we may not.
fn mount(at: &Path, options: &str) -> Option<Mount> {
    fs::create_dir_all(at).unwrap();
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stderr(Stdio::null());
    if rustix::process::geteuid().is_root() && command.status().is_ok_and(|status| status.success()) {
        return Some(Mount(at.into()));
    }
    eprintln!("SKIPPED with a file system of its own: only root may mount one");
    None
}

impl Desk {
    fn new(program: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
        let config = folder.path().join("config.toml");
        Self { program: Binaries::find().unwrap().path(program), config, folder }
    }

    /// A CA that has only to be migrated; `more` comes last.
    fn ca(more: &str) -> Self {
        let desk = Self::new("chancery-ca");
        desk.write_ca(&desk.path("data"), more);
        desk
    }

    fn write_ca(&self, data: &Path, more: &str) {
        self.write(&format!(
            "trust_domain = \"lines.test\"\ndata_dir = {data:?}\nlisten = \"{}\"\nadmin_socket = {:?}\n{more}\n",
            free(),
            self.path("admin.sock")
        ));
    }

    /// An attestor with a bundle and a token; `more` comes last.
    fn attestor(more: &str) -> Self {
        let desk = Self::new("chancery-attestor");
        fs::write(desk.path("bundle.pem"), some_authority()).unwrap();
        fs::write(desk.path("token"), "token").unwrap();
        let node = format!("node_attestor = \"join_token\"\njoin_token_file = {:?}\n", desk.path("token"));
        desk.write_attestor(&desk.path("data"), &format!("{node}{more}"));
        desk
    }

    fn write_attestor(&self, data: &Path, more: &str) {
        self.write(&format!(
            "trust_domain = \"lines.test\"\nca_address = \"{}\"\ntrust_bundle = {:?}\ndata_dir = {data:?}\n\
             workload_socket = {:?}\nadmin_socket = {:?}\n{more}\n",
            free(),
            self.path("bundle.pem"),
            self.path("workload.sock"),
            self.path("admin.sock")
        ));
    }

    fn write(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
        fs::set_permissions(&self.config, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn migrate(&self) {
        run(&self.program, &["migrate", "--config", &self.config.display().to_string()]).unwrap();
    }

    /// Runs `command`, which must fail by one line with every one of `words`.
    fn fails(&self, command: &str, words: &[&str]) {
        let mut timed = Command::new("timeout");
        timed.arg(PATIENCE).arg(&self.program).args([command, "--config"]).arg(&self.config);
        let out = timed.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        println!("{said}");
        assert_eq!(out.status.code(), Some(1), "exit code 124 means it hangs:\n{said}");
        // What the log told before the fault was met is the log's.
        let told = said.lines().filter(|line| !line.contains("  INFO "));
        assert_eq!(told.count(), 1, "{said}");
        for word in words {
            assert!(said.contains(word), "'{word}' is missing: {said}");
        }
        assert_eq!(String::from_utf8_lossy(&out.stdout), "");
        self.check_nothing_is_half_written();
    }

    fn check_nothing_is_half_written(&self) {
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(!name.ends_with(".new"), "{} is left behind", path.display());
                assert!(name != "admin.sock" || self.program.ends_with("chancery-attestor"), "a socket is left behind");
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
    }

    /// The cause is gone: the CA starts.
    fn starts(&self) {
        let config = self.config.display().to_string();
        let log = self.path("log");
        let mut process = Process::start("ca", &self.program, &["run", "--config", &config], &log).unwrap();
        let socket = self.path("admin.sock").display().to_string();
        until(SOON, || match process.check_running() {
            Ok(()) => run(&self.program, &["healthcheck", "--socket", &socket]).map(Ok),
            Err(ended) => Ok(Err(ended)),
        })
        .unwrap()
        .unwrap();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Some authority, PEM; nobody's here.
fn some_authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://lines.test".try_into().unwrap())];
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    Desk::ca("colour = 1").fails("run", &["config.toml", "line 5", "colour"]);
    Desk::ca("colour = 1").fails("migrate", &["config.toml", "line 5", "colour"]);
    Desk::attestor("colour = 1").fails("run", &["config.toml", "line 9", "colour"]);
}

#[test]
fn a_busy_address_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ca = Desk::ca(&format!("metrics_listen = \"{address}\""));
    ca.migrate();
    ca.fails("run", &["metrics_listen", &address.to_string(), "another address"]);
    let text = fs::read_to_string(&ca.config).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen")).unwrap();
    let busy = text.replace(listen, &format!("listen = \"{address}\"")).replace("metrics_listen", "# metrics_listen");
    ca.write(&busy);
    ca.fails("run", &["listen", &address.to_string(), "another address"]);
    drop(taken);
    ca.starts();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let attestor = Desk::attestor(&format!("metrics_listen = \"{address}\""));
    attestor.fails("run", &["metrics_listen", &address.to_string(), "another address"]);
}

#[tokio::test]
async fn a_socket_that_another_process_serves_is_not_taken() {
    let ca = Desk::ca("");
    ca.migrate();
    let path = ca.path("sockets/s");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let text = fs::read_to_string(&ca.config).unwrap();
    ca.write(&text.replace("admin.sock", "sockets/s"));
    let _served = UnixListener::bind(&path).unwrap();
    ca.fails("run", &["admin_socket", "another process serves this socket"]);
    let attestor = Desk::attestor("");
    let _served = UnixListener::bind(attestor.path("workload.sock")).unwrap();
    attestor.fails("run", &["workload.sock", "another process serves this socket"]);
}

#[test]
fn a_missing_tpm_is_named_with_its_tcti() {
    let desk = Desk::attestor("");
    for tcti in ["device:/dev/no-such-tpm".to_owned(), format!("swtpm:host=127.0.0.1,port={}", free().port())] {
        desk.write_attestor(&desk.path("data"), &format!("node_attestor = \"tpm\"\n[tpm]\ntcti = {tcti:?}"));
        for command in ["run", "ek"] {
            desk.fails(command, &[&tcti, "(os error ", "tpm.tcti"]);
        }
    }
}

#[test]
fn a_trust_bundle_that_is_none_is_named() {
    let desk = Desk::attestor("");
    let bundle = desk.path("bundle.pem");
    for (text, words) in [
        ("", "trust_bundle"),
        ("not PEM", "no readable PEM certificate"),
        ("{}", "trust_bundle"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "trust_bundle"),
    ] {
        fs::write(&bundle, text).unwrap();
        desk.fails("run", &[&bundle.display().to_string(), words]);
    }
    fs::remove_file(&bundle).unwrap();
    desk.fails("run", &[&bundle.display().to_string(), "chancery-ca bundle show"]);
}

/// Another CA's bundle, or another CA at the address: nothing is sent to it, the join token least of all.
#[test]
fn a_bundle_of_another_ca_is_named_and_nothing_is_sent() {
    let stage = stage(Attest::JoinToken, |o| o.nodes = 0);
    let desk = Desk::attestor("");
    let text = fs::read_to_string(&desk.config).unwrap().replace("lines.test", "playground.test");
    let address = text.lines().find(|line| line.starts_with("ca_address")).unwrap().to_owned();
    let grpc = stage.playground.authority.grpc.to_string();
    desk.write(&text.replace(&address, &format!("ca_address = \"{grpc}\"")));
    let bundle = desk.path("bundle.pem").display().to_string();
    desk.fails("run", &[&bundle, &grpc, "replace the file", "chancery-ca bundle show"]);
    assert_eq!(fs::read_to_string(desk.path("token")).unwrap(), "token");
    assert_eq!(stage.ca_json(&["node", "list"])["nodes"].as_array().unwrap().len(), 0);
}

#[test]
fn an_anchor_that_is_none_is_not_imported() {
    let stage = stage(Attest::JoinToken, |o| o.nodes = 0);
    let file = stage.playground.dir.join("anchor.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    for (text, words) in [("no PEM", "no CERTIFICATE block"), (leaf.as_str(), "CA")] {
        fs::write(&file, text).unwrap();
        let told = stage.playground.ca(&["anchor", "import", file.to_str().unwrap(), "--manufacturer", "id:00001014"]);
        let told = told.unwrap_err();
        assert!(told.contains("exit status: 1") && told.contains(words) && told.lines().count() == 1, "{told}");
    }
    assert_eq!(stage.ca_json(&["anchor", "list"])["anchors"].as_array().unwrap().len(), 0);
}

#[test]
fn a_database_that_is_away_is_told() {
    let port = free().port();
    let ca = Desk::ca(&format!("database = \"postgres://chancery:secret@127.0.0.1:{port}/chancery\""));
    for command in ["migrate", "run"] {
        ca.fails(command, &["database is away", "onnection refused", "look at `database`"]);
        let said = Command::new(&ca.program).args([command, "--config"]).arg(&ca.config).output().unwrap();
        assert!(!String::from_utf8_lossy(&said.stderr).contains("secret"), "the password is printed");
    }
    let ca = Desk::ca("");
    ca.fails("run", &["no such file", "chancery-ca migrate"]);
}

#[tokio::test]
async fn a_database_of_another_release_is_left_alone() {
    let ca = Desk::ca("");
    ca.migrate();
    let path = ca.path("data/ca.sqlite3");
    let mut database = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (99999999999999, 'of another release', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    ca.fails("run", &["99999999999999", "newer release"]);
    ca.fails("migrate", &["99999999999999", "newer release"]);
    assert_eq!(fs::read(&path).unwrap(), before);

    let ca = Desk::ca("");
    fs::create_dir(ca.path("data")).unwrap();
    fs::write(ca.path("data/ca.sqlite3"), "this is no database, whatever its name says\n".repeat(100)).unwrap();
    ca.fails("run", &["database"]);
    ca.fails("migrate", &["database"]);
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let ca = Desk::ca("");
    fs::write(ca.path("file"), "").unwrap();
    ca.write_ca(&ca.path("file/data"), &format!("database = {:?}", ca.path("ca.sqlite3")));
    ca.migrate();
    ca.fails("run", &["data_dir", "file/data", "choose another"]);
    let attestor = Desk::attestor("");
    let text = fs::read_to_string(&attestor.config).unwrap();
    fs::write(attestor.path("file"), "").unwrap();
    attestor.write(&text.replace("/data\"", "/file/data\""));
    attestor.fails("run", &["data_dir", "file/data", "choose another"]);

    let Some(_mount) = mount(&ca.path("locked"), "size=1m,ro") else { return };
    ca.write_ca(&ca.path("locked"), &format!("database = {:?}", ca.path("ca.sqlite3")));
    ca.fails("run", &["data_dir", "locked", "Read-only"]);
    ca.write_ca(&ca.path("locked"), "");
    ca.fails("migrate", &["locked"]);
}

#[test]
fn a_full_disk_is_told_and_the_next_start_goes_on() {
    let ca = Desk::ca("");
    let Some(_mount) = mount(&ca.path("data"), "size=2m,mode=0700") else { return };
    let filler = ca.path("data/filler");
    let fill = |leave: usize| {
        fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
        let length = fs::metadata(&filler).unwrap().len();
        fs::File::options().write(true).open(&filler).unwrap().set_len(length - leave as u64).unwrap();
    };
    fill(0);
    ca.fails("migrate", &["full"]);
    fs::remove_file(&filler).unwrap();
    ca.migrate();
    fill(0);
    ca.fails("run", &["space"]);
    fs::remove_file(&filler).unwrap();
    ca.starts();

    let attestor = Desk::attestor("");
    let Some(_mount) = mount(&attestor.path("data"), "size=1m,mode=0700") else { return };
    let filler = attestor.path("data/filler");
    fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
    attestor.fails("run", &["data_dir", "No space left", "make room"]);
    let left: Vec<_> = fs::read_dir(attestor.path("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["filler"]);
    assert_eq!(fs::read_to_string(attestor.path("token")).unwrap(), "token");
}

#[test]
fn doctor_changes_nothing_and_fails_where_something_needed_lacks() {
    let desk = Desk::attestor("");
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(desk.path(".")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    let config = desk.config.display().to_string();
    let out = Command::new(&desk.program).args(["doctor", "--config", &config]).output().unwrap();
    let (said, found) = (String::from_utf8_lossy(&out.stderr), String::from_utf8_lossy(&out.stdout));
    println!("{found}{said}");
    assert_eq!(out.status.code(), Some(1));
    assert!(said.lines().count() == 1 && said.contains("the attestor cannot work: ca"), "{said}");
    assert!(found.contains("data_dir") && found.contains("not there yet"), "{found}");
    assert_eq!(listing(), before);
}
