use chancery_tests::playground::{Attest, Options, Playground};

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
        let id = format!("spiffe://{}{path}", self.playground.trust_domain);
        let parent = self.playground.machines[node].spiffe_id.clone();
        let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
        self.ca(&["entry", "create", "--parent-id", &parent, "--spiffe-id", &id, "--selector", &uid]);
        id
    }

    /// The Workload API address of a node, as clients want it.
    pub fn endpoint(&self, node: usize) -> String {
        format!("unix:{}", self.playground.machines[node].workload_socket.display())
    }
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
