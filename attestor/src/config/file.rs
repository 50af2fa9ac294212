use std::{net::SocketAddr, path::PathBuf};

use chancery_core::log::note::VerifierKey;
use chancery_daemon::{config::Span, key_type::KeyType, pkcs11::TokenConfig, telemetry::LogFormat};
use chancery_sdk::id::TrustDomain;
use serde::{Deserialize, Deserializer, de};

use super::Unix;

/// The attestor's configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trust domain this node joins.
    #[serde(deserialize_with = "trust_domain")]
    pub trust_domain: TrustDomain,
    /// `"127.0.0.1:8081"`, or a list of such: the servers of one CA. Each node asks one of them, by chance.
    pub ca_address: Addresses,
    /// PEM certificates or a SPIFFE bundle document; what the first dial trusts.
    pub trust_bundle: PathBuf,
    /// Where the node's SVID, key and bundle are kept; made 0700 when missing.
    pub data_dir: PathBuf,
    /// Socket of the SPIFFE Workload API.
    pub workload_socket: PathBuf,
    /// Socket for the operator on this machine.
    pub admin_socket: PathBuf,
    /// How the node proves itself.
    pub node_attestor: Enrolment,
    /// File with the one-use token, for `node_attestor = "join_token"`.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// Table `[tpm]`.
    #[serde(default)]
    pub tpm: Tpm,
    /// Table `[pkcs11]`; with `node_attestor = "tpm"` the token proves itself beside the TPM.
    #[serde(default)]
    pub pkcs11: Option<Pkcs11>,
    /// How often the CA is asked for changes.
    #[serde(default = "default_sync_interval")]
    pub sync_interval: Span,
    /// How often a quiet connection to the CA is probed end to end.
    #[serde(default = "default_ca_ping_interval")]
    pub ca_ping_interval: Span,
    /// Public keys that sign the CA's record; none: those that the CA names at first sight.
    #[serde(default, deserialize_with = "verifier_keys")]
    pub log_keys: Vec<VerifierKey>,
    /// Refuses callers whose pidfd did not come from the kernel with the connection (Linux 6.5).
    #[serde(default)]
    pub require_peer_pidfd: bool,
    /// Gives every local process the trust domain's own bundles, with or without an identity of its own.
    #[serde(default)]
    pub allow_unauthenticated_verifiers: bool,
    /// Address for Prometheus, for example `"127.0.0.1:9981"`; absent = no metrics.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter.
    #[serde(default = "default_log_level")]
    pub log_level: String,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Table `[unix]`.
    #[serde(default)]
    pub unix: Unix,
}

/// Most servers of a CA: each that is away costs a new connection 0.7 s at worst.
const MAX_SERVERS: usize = 16;

/// One address or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Addresses {
    /// `"host:port"`.
    One(String),
    /// `["host:port", ...]`.
    Several(Vec<String>),
}

/// How the node proves itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Enrolment {
    /// A one-use secret; proves nothing about the hardware.
    JoinToken,
    /// A key in a PKCS#11 token.
    Pkcs11,
    /// TPM 2.0.
    Tpm,
}

/// Table `[tpm]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tpm {
    /// `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.
    pub tcti: String,
    /// File with the auth value of the endorsement hierarchy, where the host sets one.
    pub endorsement_auth_file: Option<PathBuf>,
    /// File with the auth value of the owner hierarchy, where the host sets one.
    pub owner_auth_file: Option<PathBuf>,
    /// The measured-boot log; absent is fine.
    pub event_log: PathBuf,
}

/// Table `[pkcs11]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11 {
    /// Table `[pkcs11.token]`: module, token, PIN.
    pub token: TokenConfig,
    /// Label of the attestation key; absent: made of the trust domain. Name one for each node where several share a token.
    #[serde(default)]
    pub label: Option<String>,
    /// Kind of the attestation key, where it is made.
    #[serde(default = "default_key_type")]
    pub key_type: KeyType,
    /// Where the keys of the node's SVIDs are.
    #[serde(default)]
    pub svid_key: SvidKey,
    /// PEM: the operator's certificate for the attestation key, then its intermediates.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// What the maker of the device says of the attestation key.
    #[serde(default)]
    pub vendor: Vec<VendorEvidence>,
}

/// Where the keys of the node's SVIDs are. Nobody is told: no selector says it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum SvidKey {
    /// In memory, and in the state file (0600).
    #[default]
    Memory,
    /// In the token; every handshake with the CA waits for it.
    Token,
}

/// A file of vendor evidence.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorEvidence {
    /// `yubihsm2` or `sc-hsm`.
    pub kind: String,
    /// As the device's own tools write it.
    pub file: PathBuf,
}

fn default_key_type() -> KeyType {
    KeyType::EcP256
}

impl Default for Tpm {
    fn default() -> Self {
        Self {
            tcti: "device:/dev/tpmrm0".into(),
            endorsement_auth_file: None,
            owner_auth_file: None,
            event_log: "/sys/kernel/security/tpm0/binary_bios_measurements".into(),
        }
    }
}

fn default_sync_interval() -> Span {
    Span::secs(5)
}

fn default_ca_ping_interval() -> Span {
    Span::secs(60)
}

fn default_log_level() -> String {
    "info".into()
}

fn verifier_keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<VerifierKey>, D::Error> {
    let keys = Vec::<String>::deserialize(d)?;
    keys.iter().map(|key| key.parse().map_err(|e| de::Error::custom(format!("log_keys: {key:?}: {e}")))).collect()
}

fn trust_domain<'de, D: Deserializer<'de>>(d: D) -> Result<TrustDomain, D::Error> {
    TrustDomain::new(&String::deserialize(d)?).map_err(de::Error::custom)
}

impl Addresses {
    /// All of them, in the order given.
    pub fn list(&self) -> Vec<String> {
        match self {
            Self::One(address) => vec![address.clone()],
            Self::Several(addresses) => addresses.clone(),
        }
    }
}

impl Config {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// One line naming the key.
    pub fn check(&self) -> Result<(), String> {
        let addresses = self.ca_address.list();
        if addresses.is_empty() {
            return Err("ca_address: name at least one address, for example \"127.0.0.1:8081\"".into());
        }
        if let Some(bad) = addresses.iter().find(|address| !is_host_and_port(address)) {
            return Err(format!("ca_address: '{bad}' is not of the form host:port"));
        }
        if addresses.len() > MAX_SERVERS {
            return Err(format!("ca_address: {} addresses are more than {MAX_SERVERS}", addresses.len()));
        }
        if let Some(twice) = addresses
            .iter()
            .enumerate()
            .find(|(at, address)| addresses.iter().take(*at).any(|before| before == *address))
        {
            return Err(format!("ca_address: '{}' is named twice", twice.1));
        }
        if self.sync_interval < Span::millis(100) {
            return Err(format!("sync_interval: {} is below 100ms", self.sync_interval));
        }
        if !(Span::secs(5)..=Span::secs(600)).contains(&self.ca_ping_interval) {
            return Err(format!("ca_ping_interval: {} is not between 5s and 10m", self.ca_ping_interval));
        }
        match (&self.pkcs11, self.node_attestor) {
            (None, Enrolment::Pkcs11) => return Err("pkcs11: node_attestor = \"pkcs11\" needs this table".into()),
            (Some(_), Enrolment::JoinToken) => {
                return Err("pkcs11: a token proves itself alone or beside a TPM, not beside a join token".into());
            }
            (Some(token), _) => drop(token.token.check().map_err(|e| format!("pkcs11.token: {e}"))?),
            (None, _) => {}
        }
        if self.node_attestor == Enrolment::JoinToken && self.join_token_file.is_none() {
            return Err("join_token_file: node_attestor = \"join_token\" needs it".into());
        }
        Ok(())
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
        trust_domain = "td.test"
        ca_address = "127.0.0.1:8081"
        trust_bundle = "/b.pem"
        data_dir = "/d"
        workload_socket = "/w.sock"
        admin_socket = "/a.sock"
        node_attestor = "tpm"
    "#;

    fn with(line: &str) -> Result<Config, String> {
        let config: Config = chancery_daemon::config::parse(&format!("{SAMPLE}{line}\n"))?;
        config.check().map(|()| config)
    }

    #[test]
    fn a_short_file_has_sound_defaults() {
        let config = with("").unwrap();
        assert_eq!((config.sync_interval, config.tpm.tcti.as_str()), (Span::secs(5), "device:/dev/tpmrm0"));
    }

    #[test]
    fn unknown_keys_are_named() {
        assert!(with("tmp = 1").unwrap_err().contains("`tmp`"));
        assert!(with("[tpm]\ntctii = \"x\"").unwrap_err().contains("`tctii`"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        assert!(with("sync_interval = \"1ms\"").unwrap_err().starts_with("sync_interval"));
        for wrong in ["4s", "11m"] {
            let text = format!("ca_ping_interval = \"{wrong}\"");
            assert!(with(&text).unwrap_err().starts_with("ca_ping_interval"), "{wrong}");
        }
        let token = SAMPLE.replace("\"tpm\"", "\"join_token\"");
        let config: Config = chancery_daemon::config::parse(&token).unwrap();
        assert!(config.check().unwrap_err().starts_with("join_token_file"));
        let token = SAMPLE.replace("\"tpm\"", "\"pkcs11\"");
        let alone: Config = chancery_daemon::config::parse(&token).unwrap();
        assert!(alone.check().unwrap_err().starts_with("pkcs11"));
        let table = "[pkcs11]\n[pkcs11.token]\nmodule = \"/m.so\"\nuri = \"pkcs11:object=x\"\n";
        let config: Config = chancery_daemon::config::parse(&format!("{token}{table}")).unwrap();
        assert!(config.check().unwrap_err().starts_with("pkcs11.token"));
        assert!(with(&table.replace("object=x", "token=x")).is_ok(), "beside a TPM");
        let several = SAMPLE.replace("\"127.0.0.1:8081\"", "[\"a:1\", \"b\"]");
        let config: Config = chancery_daemon::config::parse(&several).unwrap();
        assert!(config.check().unwrap_err().contains("'b'"));
        let twice = SAMPLE.replace("\"127.0.0.1:8081\"", "[\"a:1\", \"b:1\", \"a:1\"]");
        let config: Config = chancery_daemon::config::parse(&twice).unwrap();
        assert!(config.check().unwrap_err().contains("'a:1' is named twice"));
    }
}
