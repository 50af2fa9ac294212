use std::{path::PathBuf, time::Duration};

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
    /// `"127.0.0.1:8081"`, or a list of such; tried in turn.
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
    /// How often the CA is asked for changes.
    #[serde(default = "default_sync_interval", with = "span")]
    pub sync_interval: Duration,
    /// Refuses callers whose pidfd did not come from the kernel with the connection (Linux 6.5).
    #[serde(default)]
    pub require_peer_pidfd: bool,
    /// Address for Prometheus, for example `"127.0.0.1:9981"`; absent = no metrics.
    #[serde(default)]
    pub metrics_listen: Option<std::net::SocketAddr>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter.
    #[serde(default = "default_log_level")]
    pub log_level: String,
    /// Table `[unix]`.
    #[serde(default)]
    pub unix: Unix,
}

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

fn default_sync_interval() -> Duration {
    Duration::from_secs(5)
}

fn default_log_level() -> String {
    "info".into()
}

fn trust_domain<'de, D: Deserializer<'de>>(d: D) -> Result<TrustDomain, D::Error> {
    TrustDomain::new(&String::deserialize(d)?).map_err(de::Error::custom)
}

mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de};

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(d)?;
        let (digits, secs) = match text.as_bytes().last() {
            Some(b's') => (text.trim_end_matches('s'), 1),
            Some(b'm') => (text.trim_end_matches('m'), 60),
            _ => return Err(de::Error::custom("a duration looks like \"5s\" or \"1m\"")),
        };
        let count: u64 = digits.parse().map_err(de::Error::custom)?;
        Ok(Duration::from_secs(count.saturating_mul(secs)))
    }
}
