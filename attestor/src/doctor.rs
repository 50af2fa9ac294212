//! What this machine has, what it lacks, and what that costs: for `chancery-attestor doctor` and `ek`.
//!
//! Looks only; changes nothing, and shows no secret.

use std::{os::unix::net::UnixStream, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use nix::sys::socket::{getsockopt, sockopt};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::{
    ca::{Dialer, x509_bundle},
    config::{Config, Enrolment, Pkcs11},
    pkcs11::{NodeToken, NodeTokenError},
    run::bootstrap,
    state::Folder,
    tpm::{Options, Tpm, TpmError},
};

/// CAP_SYS_PTRACE (linux/capability.h).
const CAP_SYS_PTRACE: u32 = 19;

/// One thing looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name, for example `tpm`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the attestor cannot do its work without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// What the lack of it costs, and what to do; empty where nothing lacks.
    pub cost: String,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, required: false, found: found.into(), cost: String::new() }
    }

    fn lack(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Self {
        Self { name, ok: false, required: false, found: found.into(), cost: cost.into() }
    }

    /// A lack that nothing makes up for.
    fn fatal(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Self {
        Self { required: true, ..Self::lack(name, found, cost) }
    }
}

/// One endorsement key, as an operator enrols it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct EndorsementKey {
    /// `p384`, `p256` or `rsa2048`.
    pub kind: &'static str,
    /// Lower-case hex SHA-256 of the SubjectPublicKeyInfo: what `chancery-ca node enrol --ek` takes.
    pub hash: String,
    /// Whether the manufacturer left a certificate in the TPM.
    pub has_certificate: bool,
    /// The one this node attests with.
    pub preferred: bool,
}

/// The endorsement keys of the TPM, the preferred one first. Blocks.
///
/// # Errors
/// [`TpmError`], one line.
pub fn endorsement_keys(options: Options) -> Result<Vec<EndorsementKey>, TpmError> {
    let all = Tpm::open(options)?.endorsements()?;
    let listed = all.iter().enumerate().map(|(place, ek)| EndorsementKey {
        kind: ek.kind.as_str(),
        hash: ek.hash(),
        has_certificate: ek.certificate.is_some(),
        preferred: place == 0,
    });
    Ok(listed.collect())
}

/// Everything `doctor` looks at, in the order it prints it.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![peer_pidfd(config), ptrace(), data_dir(config)];
    if config.node_attestor == Enrolment::Tpm {
        findings.push(tpm(config).await);
        findings.push(event_log(&config.tpm.event_log));
    }
    if let Some(table) = &config.pkcs11 {
        findings.push(token(config, table).await);
    }
    if config.node_attestor == Enrolment::JoinToken {
        findings.push(Finding::lack(
            "tpm",
            "not used: node_attestor = \"join_token\"",
            "nothing proves the hardware: classes begin here only with --allow-unproven-nodes",
        ));
    }
    findings.extend(ca(config).await);
    findings
}

fn peer_pidfd(config: &Config) -> Finding {
    const NAME: &str = "peer-pidfd";
    let supported = UnixStream::pair().is_ok_and(|(one, _other)| getsockopt(&one, sockopt::PeerPidfd).is_ok());
    if supported {
        return Finding::good(NAME, "the kernel hands out the caller's pidfd (SO_PEERPIDFD)");
    }
    const FOUND: &str = "the kernel lacks SO_PEERPIDFD";
    if config.require_peer_pidfd {
        let cost = "every caller is refused, since require_peer_pidfd = true: use Linux 6.5 or later";
        return Finding::fatal(NAME, FOUND, cost);
    }
    let cost = "callers are found by number and start time, which a recycled pid can beat: use Linux 6.5 or later";
    Finding::lack(NAME, FOUND, cost)
}

fn ptrace() -> Finding {
    const NAME: &str = "ptrace";
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if bits & (1 << CAP_SYS_PTRACE) != 0 {
        return Finding::good(NAME, "CAP_SYS_PTRACE");
    }
    Finding::lack(
        NAME,
        "no CAP_SYS_PTRACE",
        "the executables of other users' processes cannot be read: unix:path and unix:sha256 are known for our own user only; run as root or grant the capability",
    )
}

fn data_dir(config: &Config) -> Finding {
    const NAME: &str = "data_dir";
    let path = config.data_dir.display();
    match Folder::look(&config.data_dir) {
        Ok(true) => Finding::good(NAME, format!("{path} is private")),
        Ok(false) => Finding::good(NAME, format!("{path} is not there yet; the attestor makes it")),
        Err(error) => Finding::fatal(NAME, error.to_string(), "the attestor does not start"),
    }
}

async fn tpm(config: &Config) -> Finding {
    const NAME: &str = "tpm";
    const COST: &str = "the attestor does not start";
    let options = match Options::from_config(config) {
        Ok(options) => options,
        Err(error) => return Finding::fatal(NAME, error.to_string(), COST),
    };
    let tcti = options.tcti.to_string();
    match tokio::task::spawn_blocking(move || endorsement_keys(options)).await {
        Ok(Ok(keys)) if keys.iter().any(|key| key.has_certificate) => {
            Finding::good(NAME, format!("{tcti}, EK certificates: {}", kinds(&keys)))
        }
        Ok(Ok(_)) => Finding::lack(
            NAME,
            format!("{tcti}, no EK certificate"),
            "no manufacturer vouches for it: enrol the hash that `chancery-attestor ek` prints, on trust",
        ),
        Ok(Err(error)) => Finding::fatal(NAME, error.to_string(), COST),
        Err(error) => Finding::fatal(NAME, error.to_string(), COST),
    }
}

async fn token(config: &Config, table: &Pkcs11) -> Finding {
    const NAME: &str = "pkcs11";
    const COST: &str = "the attestor does not start, or does not attest";
    let (asked, config) = (table.clone(), config.clone());
    let seen = tokio::task::spawn_blocking(move || token_key(&asked, &config)).await;
    match seen {
        Ok(Ok(key)) if table.certificate_file.is_some() || !table.vendor.is_empty() => {
            Finding::good(NAME, format!("{} key {} in {}", key.kind, key.hash, key.token))
        }
        Ok(Ok(key)) => Finding::lack(
            NAME,
            format!("{} key {} in {}, nobody vouches for it", key.kind, key.hash, key.token),
            "it proves possession only: enrol the hash; classes begin here only with --allow-unproven-nodes or beside a TPM",
        ),
        Ok(Err(error)) => Finding::lack(NAME, error.to_string(), COST),
        Err(error) => Finding::lack(NAME, error.to_string(), COST),
    }
}

/// A token's attestation key, as an operator enrols it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AttestationKey {
    /// `ec-p256`, `rsa-2048` and so on.
    pub kind: String,
    /// Lower-case hex SHA-256 of the SubjectPublicKeyInfo: what `chancery-ca node enrol --key` takes.
    pub hash: String,
    /// What the token says of itself.
    pub token: String,
    /// The public key, PEM: what an enrolment CA certifies.
    pub public_key: String,
}

/// The attestation key, made where there is none yet. Blocks.
///
/// # Errors
/// [`NodeTokenError`], one line.
pub fn token_key(table: &Pkcs11, config: &Config) -> Result<AttestationKey, NodeTokenError> {
    let token = NodeToken::open(table, &config.trust_domain, &config.data_dir)?;
    let key = token.attestation_key()?;
    let body = STANDARD.encode(key.spki());
    let lines: Vec<&str> = (0..body.len()).step_by(64).filter_map(|at| body.get(at..body.len().min(at + 64))).collect();
    Ok(AttestationKey {
        kind: key.key_type().to_string(),
        hash: hex::encode(digest(&SHA256, key.spki())),
        token: token.name(),
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")),
    })
}

fn kinds(keys: &[EndorsementKey]) -> String {
    keys.iter().filter(|key| key.has_certificate).map(|key| key.kind).collect::<Vec<_>>().join(", ")
}

fn event_log(path: &Path) -> Finding {
    const NAME: &str = "event-log";
    match std::fs::read(path) {
        Ok(bytes) => Finding::good(NAME, format!("{}, {} bytes", path.display(), bytes.len())),
        Err(error) => Finding::lack(
            NAME,
            format!("{}: {error}", path.display()),
            "the CA sees PCR values without what they are made of: policies that need the log deny this node; mount securityfs",
        ),
    }
}

/// One finding for each server; the node can do with one of them.
async fn ca(config: &Config) -> Vec<Finding> {
    const NAME: &str = "ca";
    let bundle = bootstrap::load(config)
        .map_err(|e| e.to_string())
        .and_then(|file| x509_bundle(&config.trust_domain, &file.bundle.x509_authorities));
    let dials = config.ca_address.list().into_iter().map(|address| {
        let bundle = bundle.clone();
        async move {
            let dialled = async {
                let dialer =
                    Dialer::new(&config.trust_domain, vec![address.clone()], bundle?).map_err(|e| e.to_string())?;
                dialer.pinned().await.map(drop).map_err(|e| e.to_string())
            };
            dialled.await.map(|()| format!("{address} answers as the trust bundle says"))
        }
    });
    let dialled = join_all(dials).await;
    let any = dialled.iter().any(Result::is_ok);
    let finding = |dialled| match dialled {
        Ok(found) => Finding::good(NAME, found),
        Err(problem) if any => Finding::lack(NAME, problem, "another server is asked; one less may fail"),
        Err(problem) => Finding::fatal(NAME, problem, "the node gets no identity until this is solved"),
    };
    dialled.into_iter().map(finding).collect()
}

/// What the attestor that runs here says of the time without the CA.
pub(crate) fn outage_budget(what: &str, id: &str, seconds_left: i64) -> Finding {
    const NAME: &str = "outage";
    let found = format!("agents keep working for {seconds_left} s without the CA; then the {what} of {id} ends");
    match seconds_left {
        0 => Finding::lack(NAME, found, "agents are without identity until a server of the CA can be asked"),
        _ => Finding::good(NAME, found),
    }
}
