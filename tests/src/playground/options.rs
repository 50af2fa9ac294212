use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// How the nodes prove themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Attest {
    /// One-use secrets; proves no hardware.
    JoinToken,
    /// A SoftHSM2 token each, its key enrolled: proves possession, no hardware.
    Pkcs11,
    /// The same, and in place of the enrolment a CA of the operator vouches for the key: device-cert.
    Pkcs11Certified,
    /// An swtpm each, with an EK certificate of a local manufacturer.
    Tpm,
}

/// Where the CA's keys are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CaKeys {
    /// Files.
    #[default]
    Disk,
    /// A SoftHSM2 token behind a `p11-kit server`, which can be killed.
    NetworkHsm,
    /// A SoftHSM2 token.
    Pkcs11,
}

/// A server of the same trust domain that signs the CA's authorities.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its mTLS door.
    pub server: SocketAddr,
    /// A Workload API whose first identity for this user is of an entry marked downstream there.
    pub workload_socket: PathBuf,
}

/// What to bring up.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Folder of everything; made, or empty; left in place on exit.
    #[arg(long)]
    pub dir: PathBuf,
    /// Number of nodes.
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
    /// Number of servers of the CA; more than one need a PostgreSQL.
    #[arg(long, default_value_t = 1)]
    pub servers: usize,
    /// How the nodes prove themselves.
    #[arg(long, value_enum, default_value_t = Attest::Tpm)]
    pub attest: Attest,
    /// Where the CA's keys are.
    #[arg(long, value_enum, default_value_t = CaKeys::Disk)]
    pub ca_keys: CaKeys,
    /// `sqlite`, or the URL of an empty PostgreSQL database.
    #[arg(long, default_value = "sqlite")]
    pub db: String,
    /// The realm.
    #[arg(long, default_value = "playground.test")]
    pub trust_domain: String,
    /// A server above the CA; `None`: its authorities sign themselves.
    #[arg(skip)]
    pub upstream: Option<Upstream>,
    /// Shorter lives than the defaults, for demos and tests.
    #[command(flatten)]
    pub lifetimes: Lifetimes,
}

/// Lifetimes other than the defaults, for example `30s`.
#[derive(Args, Clone, Debug, Default)]
pub struct Lifetimes {
    /// X509-SVIDs of instances.
    #[arg(long, value_name = "TIME")]
    pub instance_ttl: Option<String>,
    /// X509-SVIDs of entries.
    #[arg(long, value_name = "TIME")]
    pub x509_ttl: Option<String>,
    /// X509-SVIDs of nodes.
    #[arg(long, value_name = "TIME")]
    pub node_ttl: Option<String>,
    /// JWT-SVIDs.
    #[arg(long, value_name = "TIME")]
    pub jwt_ttl: Option<String>,
    /// Authorities of the CA; at least six times the longest of the others.
    #[arg(long, value_name = "TIME")]
    pub ca_ttl: Option<String>,
    /// Least time an authority is published before it signs; at most a third of --ca-ttl.
    #[arg(long, value_name = "TIME")]
    pub publish_delay: Option<String>,
    /// Nobody may ask for longer lives than those of instances, entries and tokens.
    #[arg(skip)]
    pub capped: bool,
    /// Measured-boot policies of the CA.
    #[arg(long, value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}

impl Options {
    /// Defaults for `dir`: one TPM node on SQLite.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            nodes: 1,
            servers: 1,
            attest: Attest::Tpm,
            ca_keys: CaKeys::Disk,
            db: "sqlite".into(),
            trust_domain: "playground.test".into(),
            upstream: None,
            lifetimes: Lifetimes::default(),
        }
    }
}
