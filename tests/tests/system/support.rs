use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use chancery_sdk::{source::Source, tls::system_clock, workload::Endpoint, x509};
use chancery_tests::{
    demo::agents::Agent,
    playground::{Attest, Options, Playground},
    process::until,
};
use serde_json::Value;

/// Time for something that takes a second or two on a quiet machine.
pub const SOON: Duration = Duration::from_secs(30);

/// A playground in a folder of its own that is removed afterwards.
pub struct Stage {
    pub playground: Playground,
    _folder: tempfile::TempDir,
}

/// Brings a playground up; `change` alters the defaults (one node on SQLite).
pub fn stage(attest: Attest, change: impl FnOnce(&mut Options)) -> Stage {
    let folder = tempfile::Builder::new().prefix("chy-").tempdir().unwrap();
    let mut options = Options::new(folder.path().join("pg"));
    options.attest = attest;
    change(&mut options);
    let playground = Playground::start(&options).unwrap_or_else(|problem| panic!("{problem}"));
    Stage { playground, _folder: folder }
}

impl Stage {
    /// `chancery-ca` with arguments; panics with what it printed.
    pub fn ca(&self, args: &[&str]) -> String {
        self.playground.ca(args).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// `chancery-ca --output json`, parsed.
    pub fn ca_json(&self, args: &[&str]) -> serde_json::Value {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        serde_json::from_str(&self.ca(&all)).unwrap()
    }

    /// An entry below node `node` for every process of this user; answers its SPIFFE ID.
    pub fn entry_for_us(&self, node: usize, path: &str) -> String {
        self.entry_with(node, path, &[])
    }

    /// The same with further arguments.
    pub fn entry_with(&self, node: usize, path: &str, more: &[&str]) -> String {
        let id = format!("spiffe://{}{path}", self.playground.trust_domain);
        let parent = self.playground.machines[node].spiffe_id.clone();
        let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
        let args = ["entry", "create", "--parent-id", &parent, "--spiffe-id", &id, "--selector", &uid];
        self.ca(&[&args, more].concat());
        id
    }

    /// One alias over all nodes with a TPM of ours; answers its SPIFFE ID.
    pub fn fleet(&self) -> String {
        let td = &self.playground.trust_domain;
        let (server, fleet) = (format!("spiffe://{td}/spire/server"), format!("spiffe://{td}/fleet"));
        #[rustfmt::skip]
        self.ca(&["entry", "create", "--parent-id", &server, "--spiffe-id", &fleet, "--selector", "tpm:enrolled:yes"]);
        fleet
    }

    /// A class of every process that runs `program`, one of ours; `more` are further arguments.
    pub fn class(&self, parent: &str, name: &str, program: &str, more: &[&str]) {
        let path = format!("unix:path:{}", self.playground.bin.path(program).display());
        let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
        let mut args = vec!["class", "create", "--parent-id", parent, "--name", name];
        args.extend(["--selector", &uid, "--selector", &path]);
        args.extend(more);
        self.ca(&args);
    }

    /// A class of the workload program below node 0, which has proven no hardware.
    pub fn unproven_class(&self, name: &str) {
        let parent = self.playground.machines[0].spiffe_id.clone();
        self.class(&parent, name, "workload", &["--allow-unproven-nodes"]);
    }

    /// The Workload API address of a node, as clients want it.
    pub fn endpoint(&self, node: usize) -> String {
        format!("unix:{}", self.playground.machines[node].workload_socket.display())
    }

    /// What the Workload API of a node gives this process, from the first identity on, with the keys of tokens.
    pub async fn source(&self, node: usize) -> Source {
        let endpoint = Endpoint::unix(&self.playground.machines[node].workload_socket).unwrap();
        Source::builder().endpoint(endpoint).with_jwt_bundles().connect().await.unwrap()
    }

    /// Prepares, waits for the publish delay, activates and taints what signed before; answers its ID.
    pub fn tainted_after_a_successor_signs(&self, kind: &str) -> String {
        let show = self.ca_json(&["authority", "show"]);
        let is_active = |r: &&Value| r["kind"] == kind && r["state"] == "active";
        let old = show["authorities"].as_array().unwrap().iter().find(is_active).unwrap();
        let old = old["authority_id"].as_str().unwrap().to_owned();
        let made = self.ca_json(&["authority", "prepare", kind]);
        let id = made["prepared_authority"]["authority_id"].as_str().unwrap().to_owned();
        let early = self.playground.ca(&["authority", "activate", &id]).unwrap_err();
        assert!(early.contains("--now"), "{early}");
        until(SOON, || self.playground.ca(&["authority", "activate", &id])).unwrap();
        self.ca(&["authority", "taint", &old]);
        old
    }

    /// Serial number of each node.
    pub fn node_serials(&self) -> BTreeMap<String, String> {
        let list = self.ca_json(&["node", "list"]);
        let text = |n: &Value, key: &str| n[key].as_str().unwrap().to_owned();
        list["nodes"].as_array().unwrap().iter().map(|n| (text(n, "id"), text(n, "serial_number"))).collect()
    }

    /// A new process on a node, which has not called yet.
    pub fn workload(&self, node: usize) -> Workload {
        Workload::start(&self.playground.bin.path("workload"), &self.endpoint(node))
    }

    /// A new demo agent on a node.
    pub fn agent(&self, node: usize) -> Agent {
        let program = self.playground.bin.path("demo-agent");
        Agent::start(&program, node, &self.playground.machines[node].workload_socket).unwrap()
    }

    /// IDs and standings of all instances, as `instance list` has them.
    pub fn instances(&self) -> Vec<(String, String)> {
        let list = self.ca_json(&["instance", "list"]);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        list["instances"].as_array().unwrap().iter().map(|i| (text(i, "id"), text(i, "standing"))).collect()
    }

    /// The standing of an instance.
    pub fn standing(&self, id: &str) -> String {
        let found = self.instances().into_iter().find(|(known, _)| known == id);
        found.map(|(_, standing)| standing).unwrap_or_else(|| "unknown".into())
    }

    /// Waits until an instance has a standing.
    pub fn wait_for_standing(&self, id: &str, wanted: &str) {
        let is = || match self.standing(id) {
            standing if standing == wanted => Ok(()),
            standing => Err(format!("{id} is {standing}, not {wanted}")),
        };
        until(SOON, is).unwrap();
    }
}

/// The SVID of each verifies by the bundle of each, now.
pub fn verify_everywhere(sources: &[Source]) {
    for holder in sources {
        for verifier in sources {
            let svid = holder.svid().unwrap();
            x509::verify(svid.chain(), &verifier.bundles(), system_clock()()).unwrap();
        }
    }
}

/// A process that asks for its identity when told.
pub struct Workload {
    child: Child,
    told: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Workload {
    pub fn start(program: &Path, endpoint: &str) -> Self {
        let mut command = Command::new(program);
        command.env("SPIFFE_ENDPOINT_SOCKET", endpoint).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let (told, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut this = Self { child, told, said: BufReader::new(said) };
        this.await_ready();
        this
    }

    fn await_ready(&mut self) {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The SPIFFE ID this process gets now, or why it gets none.
    pub fn x509(&mut self) -> Result<String, String> {
        self.tell("x509");
        self.answer()
    }

    /// The SPIFFE ID a child of this process gets.
    pub fn child_x509(&mut self) -> Result<String, String> {
        self.tell("child");
        self.answer()
    }

    /// The JWT-SVID this process gets now.
    pub fn jwt(&mut self, audience: &str) -> Result<String, String> {
        self.tell(&format!("jwt {audience}"));
        self.said("token")
    }

    /// The JWT-SVID a child of this process gets.
    pub fn child_jwt(&mut self, audience: &str) -> Result<String, String> {
        self.tell(&format!("child {audience}"));
        self.said("token")
    }

    /// Asks until it gets an identity.
    pub fn await_x509(&mut self) -> String {
        until(SOON, || self.x509()).unwrap()
    }

    /// Asks until it is refused; answers the words.
    pub fn await_refusal(&mut self) -> String {
        until(SOON, || match self.x509() {
            Ok(id) => Err(format!("still {id}")),
            Err(words) => Ok(words),
        })
        .unwrap()
    }

    /// Becomes another program that understands the same words.
    pub fn exec(&mut self, program: &Path) {
        self.tell(&format!("exec {}", program.display()));
        self.await_ready();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    fn answer(&mut self) -> Result<String, String> {
        self.said("id")
    }

    fn said(&mut self, key: &str) -> Result<String, String> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        said(&line, key)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a line of the workload program says.
pub fn identity(line: &str) -> Result<String, String> {
    said(line, "id")
}

fn said(line: &str, key: &str) -> Result<String, String> {
    let said: Value = serde_json::from_str(line).map_err(|e| format!("'{line}': {e}"))?;
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    text(key).ok_or_else(|| text("error").unwrap_or_else(|| line.into()))
}

/// A new database on the PostgreSQL of `TEST_POSTGRES_URL`; `None`, loudly, where there is none.
pub fn postgres_database(name: &str) -> Option<String> {
    let Some(url) = std::env::var("TEST_POSTGRES_URL").ok() else {
        eprintln!("SKIPPED on PostgreSQL: TEST_POSTGRES_URL is not set; `make test` sets it");
        return None;
    };
    let name = format!("{name}_{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&pool).await.unwrap();
    });
    Some(url.replacen("/postgres?", &format!("/{name}?"), 1))
}
