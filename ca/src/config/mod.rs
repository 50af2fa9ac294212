//! The CA's configuration: one TOML file, units in the values, secrets named by path.
//!
//! Unknown keys are errors that name the key. Every key is described in `docs/CONFIG.md`.

mod check;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use chancery_core::{instance::MAX_HOLD_SECS, log::note::VerifierKey};
use chancery_daemon::{
    config::{ConfigError, Span},
    key_type::KeyType,
    pkcs11::TokenConfig,
    telemetry::LogFormat,
};
use chancery_sdk::id::TrustDomain;
use serde::{Deserialize, Deserializer, de};

use crate::{keys::token_key::TokenKeyConfig, store::Require};

/// Default of `admin_socket`.
const ADMIN_SOCKET: &str = "/run/chancery/ca/admin.sock";

/// A whole configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The realm this CA issues for.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// Folder of keys and server id; made with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Path of a SQLite file or a `postgres://` URL, which may name several hosts; default `ca.sqlite3` in `data_dir`.
    pub database: Option<String>,
    /// What a commit must survive.
    #[serde(default)]
    pub database_requires: Require,
    /// Address of the mTLS door.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The operators' UNIX socket, mode 0600.
    #[serde(default = "default_admin_socket")]
    pub admin_socket: PathBuf,
    /// Address of `/metrics`, `/live` and `/ready`; absent: none.
    pub metrics_listen: Option<SocketAddr>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    #[serde(default = "default_log_level")]
    pub log_level: String,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Name of this server in the record; default: made once and kept in `data_dir`.
    pub server_id: Option<String>,
    /// `iss` claim of JWT-SVIDs; absent: none.
    pub jwt_issuer: Option<String>,
    /// Ways a node may prove itself.
    #[serde(default = "default_node_attestors")]
    pub node_attestors: Vec<NodeAttestor>,
    /// Lifetimes.
    #[serde(default)]
    pub ttl: Ttl,
    /// Where signing keys live.
    #[serde(default)]
    pub keys: Keys,
    /// Who signs X.509 authorities.
    #[serde(default)]
    pub upstream: Upstream,
    /// TPM attestation.
    #[serde(default)]
    pub tpm: Tpm,
    /// PKCS#11 attestation.
    #[serde(default)]
    pub pkcs11: Pkcs11,
    /// Bounds on what strangers may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// What consumers are told about the bundle.
    #[serde(default)]
    pub bundle: BundleConfig,
    /// The signed log of the record.
    #[serde(default)]
    pub log: LogConfig,
    /// Certificate revocation lists for those who take no list of ours.
    #[serde(default)]
    pub crl: CrlConfig,
    /// What looks wrong about running instances.
    #[serde(default)]
    pub detectors: Detectors,
    /// Where the record is sent on to.
    #[serde(default)]
    pub siem: Vec<Siem>,
}

/// An output of the record.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Siem {
    /// Its name among the others; names its cursor's file.
    pub name: String,
    /// How it takes events.
    pub kind: SiemKind,
    /// The file, for `jsonl`.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// `host:port`, for `syslog`.
    #[serde(default)]
    pub address: Option<String>,
    /// `https://host[:port]/v1/logs`, for `otlp`; `http` on this machine only.
    #[serde(default)]
    pub url: Option<String>,
    /// Roots that the other side's certificate leads to, PEM; needed for TLS.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Name in the other side's certificate; absent: the host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Our own certificate, PEM, where the other side wants one.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// How an output takes events.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SiemKind {
    /// JSON lines in a file.
    Jsonl,
    /// OTLP logs over HTTP.
    Otlp,
    /// RFC 5424 over TLS.
    Syslog,
}

/// A way of proving a node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum NodeAttestor {
    /// A one-use secret; proves no hardware.
    JoinToken,
    /// A key in a PKCS#11 token.
    Pkcs11,
    /// TPM 2.0.
    Tpm,
}

/// Lifetimes of what is issued.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ttl {
    /// X509-SVIDs of entries.
    pub x509_svid: Span,
    /// Most that an entry, or an operator who mints, may ask for.
    pub x509_svid_max: Span,
    /// X509-SVIDs of instances.
    pub instance_svid: Span,
    /// Most that a class may ask for.
    pub instance_svid_max: Span,
    /// X509-SVIDs of nodes.
    pub node_svid: Span,
    /// JWT-SVIDs.
    pub jwt_svid: Span,
    /// Most that an entry, or an operator who mints, may ask for.
    pub jwt_svid_max: Span,
    /// Authorities of both kinds.
    pub ca: Span,
    /// Least time an authority is published before it signs; consumers poll within it.
    pub publish_delay: Span,
}

/// Where signing keys live.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// Kind of key store.
    pub store: KeyStoreKind,
    /// Keys of X.509 authorities made from now on.
    pub x509_key_type: KeyType,
    /// Keys of JWT authorities made from now on.
    pub jwt_key_type: KeyType,
    /// The token of `store = "pkcs11"`.
    pub pkcs11: Option<TokenConfig>,
    /// Least time between condemning a key and destroying it.
    pub destroy_after: Span,
    /// Life of a key in memory that signs leaves for the X.509 authority; absent: the authority signs them itself.
    pub delegated_issuer: Option<Span>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            store: KeyStoreKind::default(),
            x509_key_type: KeyType::default(),
            jwt_key_type: KeyType::default(),
            pkcs11: None,
            destroy_after: Span::secs(86_400),
            delegated_issuer: None,
        }
    }
}

impl Keys {
    /// Seconds a key is missing before it is lost: a token that is half up shows no keys, a folder shows them all.
    pub fn missing_patience_secs(&self) -> i64 {
        match self.store {
            KeyStoreKind::Disk | KeyStoreKind::Memory => 0,
            KeyStoreKind::Pkcs11 => 60,
        }
    }
}

/// Who signs X.509 authorities.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Kind of upstream.
    pub kind: UpstreamKind,
    /// `disk`, `pkcs11`: PEM file with the CA's certificate, then those up to its root.
    pub certificate: Option<PathBuf>,
    /// `disk`: PEM file with the CA's key, mode 0600.
    pub key: Option<PathBuf>,
    /// `disk`, `pkcs11`: PEM file with the roots to publish. `offline`: with the only roots that are taken.
    pub bundle: Option<PathBuf>,
    /// `pkcs11`: the CA's key.
    pub pkcs11: Option<TokenKeyConfig>,
    /// `nested`: `host:port` of the server above.
    pub server: Option<String>,
    /// `nested`: UNIX socket of the Workload API that gives the identity to call it with.
    pub workload_socket: Option<PathBuf>,
}

/// Kinds of upstreams.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// A CA whose certificate and key are in files.
    Disk,
    /// Another server of the same trust domain.
    Nested,
    /// A ceremony: people carry requests and certificates.
    Offline,
    /// None: each authority signs itself and is in the bundle.
    #[default]
    #[serde(rename = "self")]
    Own,
    /// A CA whose certificate is in files and whose key is in a token.
    Pkcs11,
}

impl UpstreamKind {
    /// As in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Nested => "nested",
            Self::Offline => "offline",
            Self::Own => "self",
            Self::Pkcs11 => "pkcs11",
        }
    }
}

/// Kinds of key stores.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum KeyStoreKind {
    /// PKCS#8 files, mode 0600, in `data_dir/keys`.
    #[default]
    Disk,
    /// Lost with the process: every start makes new authorities.
    Memory,
    /// Made in a PKCS#11 token, and never leave it.
    Pkcs11,
}

/// TPM attestation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tpm {
    /// Measured-boot policies; absent: PCRs are quoted and no rule is applied.
    pub policy_file: Option<PathBuf>,
    /// Which genuine TPMs are ours.
    pub enrol: Enrol,
    /// EKs that never join: hex SHA-256 of their SubjectPublicKeyInfo.
    pub deny: Vec<String>,
    /// Manufacturers and models that `enrol = "open"` lets in.
    pub allow: Vec<AllowedTpm>,
}

/// Which genuine TPMs are ours.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Enrol {
    /// Only EKs an operator enrolled.
    #[default]
    Inventory,
    /// Any genuine TPM on the allow-list; yields `tpm:enrolled:no`.
    Open,
}

/// A row of the allow-list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct AllowedTpm {
    /// As in the EK certificate, for example `id:49465800`.
    pub manufacturer: String,
    /// As in the EK certificate.
    pub model: String,
}

/// PKCS#11 attestation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pkcs11 {
    /// PEM certificates of the operator's CAs that vouch for keys in tokens; absent: none.
    pub enrolment_ca_file: Option<PathBuf>,
    /// PEM CRLs of those CAs and of CAs below them; empty: none is asked. Else each certificate of a device's chain
    /// needs its issuer's, in force.
    pub enrolment_crl_files: Vec<PathBuf>,
    /// Selector values that no node may have: `spki:sha256:<hex>`, `ca:<hex>`, `subject:serial:<n>`,
    /// `<vendor>:serial:<n>`.
    pub deny: Vec<String>,
    /// What becomes of a token that attests from another address while its SVID is still good.
    pub two_hosts: TwoHosts,
    /// Makers whose evidence is taken.
    pub vendor: Vec<VendorTerms>,
}

/// What one maker's devices and keys must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorTerms {
    /// `yubihsm2` or `sc-hsm`.
    pub name: String,
    /// Serial numbers of devices that are ours: their keys need no enrolment, and no other device is taken. Empty: any
    /// genuine device, and its keys need enrolment.
    #[serde(default)]
    pub serials: Vec<String>,
    /// Least firmware, for example `2.3`.
    pub min_firmware: Option<String>,
    /// The device must state that the key cannot leave it.
    #[serde(default = "yes")]
    pub require_unexportable: bool,
    /// Takes device certificates past their end.
    #[serde(default)]
    pub allow_expired_device: bool,
    /// Further roots of the maker, DER.
    #[serde(default)]
    pub root_files: Vec<PathBuf>,
    /// Further sub-CAs of the maker, DER.
    #[serde(default)]
    pub intermediate_files: Vec<PathBuf>,
}

fn yes() -> bool {
    true
}

/// What becomes of a token that attests from another address while its SVID is still good.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum TwoHosts {
    /// Recorded, and admitted.
    #[default]
    Alert,
    /// Refused; the node's standing ends.
    Deny,
}

/// Bounds on work for callers who have proved nothing; memory and time, never a security claim.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// Open TCP connections.
    pub connections: usize,
    /// Open TCP connections of one source prefix (/24 or /64; on loopback one address).
    pub connections_per_source: usize,
    /// Attestations at once.
    pub attestations: usize,
    /// Attestations at once from one source prefix.
    pub attestations_per_source: usize,
    /// Instances of one class that may begin in a second, on each server.
    pub begins_per_class: usize,
    /// Attestations of one source that may begin in a second; 0 = no limit.
    pub attest_rate: u32,
    /// X509-SVIDs, and as many JWT-SVIDs, that one source may ask for in a second; 0 = no limit.
    pub signing_rate: u32,
    /// Time for a TLS handshake.
    pub handshake_timeout: Span,
    /// Age at which a connection is asked to close.
    pub connection_age: Span,
}

/// What consumers are told about the bundle.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BundleConfig {
    /// How often to poll.
    pub refresh_hint: Span,
}

/// The signed log of the record.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Whether this server may sign.
    pub enabled: bool,
    /// Folder of tiles and checkpoints; absent: `log` in `data_dir`.
    pub dir: Option<PathBuf>,
    /// The Ed25519 key; absent: `log_key.pem` in `data_dir`.
    pub key_file: Option<PathBuf>,
    /// Longest time between an event and its checkpoint.
    pub interval: Span,
    /// Other keys whose checkpoints are believed: other servers', and our own of before.
    #[serde(deserialize_with = "verifier_keys")]
    pub trusted_keys: Vec<VerifierKey>,
    /// Least time between two checkpoints told to one node.
    pub witness_interval: Span,
    /// Address at which the folder is served over HTTP; absent: it is not.
    pub listen: Option<SocketAddr>,
    /// How long what nodes said when they proved themselves is kept; its digest is in the record for ever.
    pub evidence_kept: Span,
}

/// Certificate revocation lists.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrlConfig {
    /// From the signature of a list to its end; the next one is signed at half of it.
    pub lifetime: Span,
    /// PEM file of every CA's list, for programs that read files; absent: none.
    pub file: Option<PathBuf>,
    /// Address of `/crl.pem` and `/crl/<issuer>.crl`, plain HTTP; absent: none.
    pub listen: Option<SocketAddr>,
}

/// Built-in detectors, and what becomes of what they find.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detectors {
    /// Where an instance's node calls from two places by turns.
    pub two_places: Response,
    /// Where what is asked for an instance is denied again and again.
    pub denials: Response,
    /// So many denials are a burst.
    pub denials_count: u32,
    /// Within so long.
    pub denials_window: Span,
    /// How long a detector holds an instance.
    pub hold_for: Span,
}

/// What becomes of what a detector finds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// A proposal, and a hold within the caps.
    Hold,
    /// Nothing: it does not look.
    Off,
    /// A proposal.
    #[default]
    Propose,
}

impl Default for Detectors {
    fn default() -> Self {
        Self {
            two_places: Response::default(),
            denials: Response::default(),
            denials_count: 10,
            denials_window: Span::secs(60),
            hold_for: Span::secs(MAX_HOLD_SECS.unsigned_abs()),
        }
    }
}

impl Default for CrlConfig {
    fn default() -> Self {
        Self { lifetime: Span::secs(3600), file: None, listen: None }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        let interval = Span::secs(1);
        let witness_interval = Span::secs(30);
        Self {
            enabled: true,
            dir: None,
            key_file: None,
            interval,
            trusted_keys: Vec::new(),
            witness_interval,
            listen: None,
            evidence_kept: Span::secs(30 * 86_400),
        }
    }
}

impl Config {
    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = chancery_daemon::config::load(path)?;
        match check::problem(&config) {
            None => Ok(config),
            Some(problem) => Err(ConfigError::Invalid { path: path.into(), problem }),
        }
    }

    /// The database, default applied.
    pub fn database(&self) -> String {
        self.database.clone().unwrap_or_else(|| self.data_dir.join("ca.sqlite3").display().to_string())
    }

    /// Folder of tiles and checkpoints, default applied.
    pub fn log_dir(&self) -> PathBuf {
        self.log.dir.clone().unwrap_or_else(|| self.data_dir.join("log"))
    }

    /// The key that signs checkpoints, default applied.
    pub fn log_key_file(&self) -> PathBuf {
        self.log.key_file.clone().unwrap_or_else(|| self.data_dir.join("log_key.pem"))
    }

    /// Whether nodes may prove themselves by `kind`.
    pub fn attests(&self, kind: NodeAttestor) -> bool {
        self.node_attestors.contains(&kind)
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self {
            x509_svid: Span::secs(3600),
            x509_svid_max: Span::secs(86_400),
            instance_svid: Span::secs(900),
            instance_svid_max: Span::secs(3600),
            node_svid: Span::secs(3600),
            jwt_svid: Span::secs(300),
            jwt_svid_max: Span::secs(3600),
            ca: Span::secs(86_400),
            publish_delay: Span::secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 4096,
            connections: 16_384,
            connections_per_source: 4096,
            attestations: 256,
            attestations_per_source: 32,
            begins_per_class: 100,
            attest_rate: 1,
            signing_rate: 500,
            handshake_timeout: Span::secs(5),
            connection_age: Span::secs(600),
        }
    }
}

impl Default for BundleConfig {
    fn default() -> Self {
        Self { refresh_hint: Span::secs(300) }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8081))
}

fn default_admin_socket() -> PathBuf {
    ADMIN_SOCKET.into()
}

fn default_log_level() -> String {
    "info".into()
}

fn default_node_attestors() -> Vec<NodeAttestor> {
    vec![NodeAttestor::Tpm]
}

fn verifier_keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<VerifierKey>, D::Error> {
    let keys = Vec::<String>::deserialize(d)?;
    let parsed =
        keys.iter().map(|key| key.parse().map_err(|e| de::Error::custom(format!("trusted_keys: {key:?}: {e}"))));
    parsed.collect()
}

fn trust_domain<'de, D: Deserializer<'de>>(d: D) -> Result<TrustDomain, D::Error> {
    TrustDomain::new(&String::deserialize(d)?).map_err(|e| de::Error::custom(format!("trust_domain: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "trust_domain = \"example.org\"\ndata_dir = \"/var/lib/chancery\"\n";

    fn problem(text: &str) -> String {
        match chancery_daemon::config::parse::<Config>(text) {
            Ok(config) => check::problem(&config).unwrap(),
            Err(problem) => problem,
        }
    }

    #[test]
    fn two_keys_are_a_whole_configuration() {
        let config: Config = chancery_daemon::config::parse(LEAST).unwrap();
        assert_eq!(check::problem(&config), None);
        assert_eq!(config.database(), "/var/lib/chancery/ca.sqlite3");
        assert!(config.attests(NodeAttestor::Tpm) && !config.attests(NodeAttestor::JoinToken));
    }

    #[test]
    fn every_fault_names_its_key() {
        for (extra, key) in [
            ("colour = 1", "colour"),
            ("[ttl]\nca = \"5\"", "5"),
            ("[ttl]\nx509_svid = \"5s\"", "ttl.x509_svid"),
            ("[ttl]\nx509_svid = \"25h\"\nca = \"30d\"", "ttl.x509_svid_max"),
            ("[ttl]\ninstance_svid_max = \"14m\"", "ttl.instance_svid_max"),
            ("[ttl]\njwt_svid_max = \"8d\"", "ttl.jwt_svid_max"),
            ("[ttl]\nnode_svid = \"19s\"", "ttl.node_svid"),
            ("[ttl]\nca = \"10m\"", "ttl.ca"),
            ("[tpm]\nenrol = \"open\"", "tpm.allow"),
            ("[limits]\nhandshakes = 0", "limits.handshakes"),
            ("[log]\ninterval = \"50ms\"", "log.interval"),
            ("[log]\nwitness_interval = \"2h\"", "log.witness_interval"),
            ("[log]\nevidence_kept = \"1s\"", "log.evidence_kept"),
            ("[[siem]]\nname = \"a/b\"\nkind = \"jsonl\"\npath = \"/p\"", "siem[].name"),
            ("[[siem]]\nname = \"a\"\nkind = \"jsonl\"", "siem[].path"),
            ("[[siem]]\nname = \"a\"\nkind = \"syslog\"\naddress = \"a:1\"", "siem[].ca_file"),
            ("[[siem]]\nname = \"a\"\nkind = \"syslog\"\nca_file = \"/c\"", "siem[].address"),
            ("[[siem]]\nname = \"a\"\nkind = \"otlp\"\nurl = \"http://collector:4318/v1/logs\"", "siem[].url"),
            ("[[siem]]\nname = \"a\"\nkind = \"otlp\"\nurl = \"https://c/v1/logs\"", "siem[].ca_file"),
            (
                "[[siem]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"/p\"\n[[siem]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"/q\"",
                "siem[].name",
            ),
            ("[detectors]\ndenials_count = 1", "detectors.denials_count"),
            ("[detectors]\ndenials_window = \"2h\"", "detectors.denials_window"),
            ("[detectors]\nhold_for = \"16m\"", "detectors.hold_for"),
            ("[detectors]\ntwo_places = \"revoke\"", "revoke"),
            ("node_attestors = []", "node_attestors"),
            ("database_requires = \"replicated\"", "database_requires"),
            ("database_requires = \"two\"", "replicated"),
            ("server_id = \"a b\"", "server_id"),
            ("[keys]\nstore = \"pkcs11\"", "keys.pkcs11"),
            ("[keys.pkcs11]\nmodule = \"/m.so\"\nuri = \"pkcs11:token=a\"", "keys.store"),
            (
                "[keys]\nstore = \"pkcs11\"\n[keys.pkcs11]\nmodule = \"/m.so\"\nuri = \"pkcs11:token=a?pin-value=1\"",
                "pin-value",
            ),
            ("[pkcs11]\nenrolment_crl_files = [\"/c\"]", "pkcs11.enrolment_crl_files"),
            ("[upstream]\nkind = \"disk\"\nkey = \"k\"", "upstream.certificate"),
            ("[upstream]\nkind = \"disk\"\ncertificate = \"c\"", "upstream.key"),
            ("[keys]\ndelegated_issuer = \"1h\"", "keys.delegated_issuer"),
            ("[keys]\ndelegated_issuer = \"2d\"", "keys.delegated_issuer"),
            ("[upstream]\nbundle = \"b\"", "upstream.kind"),
            ("[upstream]\nkind = \"offline\"\nkey = \"k\"", "upstream.kind"),
            ("[keys]\nstore = \"memory\"\n[upstream]\nkind = \"offline\"", "keys.store"),
            ("[upstream]\nkind = \"pkcs11\"\ncertificate = \"c\"", "upstream.pkcs11"),
            ("[upstream]\nkind = \"nested\"\nserver = \"ca:8081\"", "upstream.workload_socket"),
            ("[upstream]\nkind = \"nested\"\nworkload_socket = \"/s\"", "upstream.server"),
            ("[upstream]\nkind = \"nested\"\nserver = \"ca\"\nworkload_socket = \"/s\"", "upstream.server"),
            ("[upstream]\nkind = \"nested\"\nserver = \"ca:1\"\nworkload_socket = \"s\"", "upstream.workload_socket"),
            ("[upstream]\nserver = \"ca:8081\"", "upstream.server"),
            ("[upstream]\nkind = \"pkcs11\"\ncertificate = \"c\"\nkey = \"k\"", "upstream.key"),
            ("[upstream.pkcs11]\nmodule = \"/m.so\"\nuri = \"pkcs11:token=a\"\nlabel = \"k\"", "upstream.kind"),
            (
                "[upstream]\nkind = \"pkcs11\"\ncertificate = \"c\"\n[upstream.pkcs11]\nmodule = \"/m.so\"\n\
                 uri = \"pkcs11:token=a\"\nlabel = \"\"",
                "upstream.pkcs11.label",
            ),
        ] {
            let told = problem(&format!("{LEAST}{extra}\n"));
            assert!(told.contains(key), "{extra}: {told}");
        }
    }
}
