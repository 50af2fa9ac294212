use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{Attest, Authority, Binaries, Options, START_WITHIN, authority::free_address, program::Program, token};
use crate::{
    process::{Process, until},
    swtpm::{Manufacturer, Swtpm},
};

/// A node of a playground: an attestor, and a software TPM or token where it attests by one.
pub struct Machine {
    process: Option<Process>,
    program: Program,
    log: PathBuf,
    /// The servers of the CA.
    doors: Vec<SocketAddr>,
    /// Address of the attestor's `/metrics`.
    pub metrics: SocketAddr,
    /// Its TPM; `None` where it attests without one.
    pub tpm: Option<Swtpm>,
    /// The ID it has after attestation.
    pub spiffe_id: String,
    /// SPIFFE Workload API.
    pub workload_socket: PathBuf,
    /// The operator's socket.
    pub admin_socket: PathBuf,
    /// The attestor's configuration file.
    pub config: PathBuf,
    /// The attestor's state.
    pub data_dir: PathBuf,
}

impl Machine {
    /// Makes TPM, configuration and enrolment of node `index`; nothing runs yet but the TPM.
    pub(super) fn prepare(
        dir: &Path,
        index: usize,
        bin: &Binaries,
        authority: &Authority,
        doors: &[SocketAddr],
        options: &Options,
    ) -> Result<Self, String> {
        let folder = dir.join(format!("node{index}"));
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut this = Self {
            process: None,
            program: Program::new(bin.path("chancery-attestor")),
            log: dir.join(format!("node{index}.log")),
            doors: doors.to_vec(),
            metrics: free_address()?,
            tpm: None,
            spiffe_id: String::new(),
            workload_socket: folder.join("workload.sock"),
            admin_socket: folder.join("admin.sock"),
            config: folder.join("attestor.toml"),
            data_dir: folder.join("data"),
        };
        match options.attest {
            Attest::JoinToken => this.enrol_by_token(&folder, authority, options)?,
            Attest::Pkcs11 | Attest::Pkcs11Certified => this.enrol_by_token_key(&folder, authority, options)?,
            Attest::Tpm => this.enrol_by_tpm(dir, &folder, authority, options)?,
        }
        Ok(this)
    }

    fn enrol_by_token(&mut self, folder: &Path, authority: &Authority, options: &Options) -> Result<(), String> {
        let answer = authority.cli(&["token", "generate", "--ttl", "10m", "--output", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("token generate: {e}"))?;
        let token = answer["value"].as_str().ok_or("token generate: no value")?;
        let file = folder.join("join-token");
        chancery_daemon::file::write_atomic(&file, token.as_bytes(), 0o600).map_err(|e| e.to_string())?;
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        self.spiffe_id = format!("spiffe://{}/spire/agent/join_token/{}", options.trust_domain, hex::encode(hash));
        self.write_config(authority, options, &format!("node_attestor = \"join_token\"\njoin_token_file = {file:?}\n"))
    }

    /// A SoftHSM2 token of its own; the TLS key is in it too.
    fn enrol_by_token_key(&mut self, folder: &Path, authority: &Authority, options: &Options) -> Result<(), String> {
        let site = token::make(&folder.join("token"), "node")?;
        let table = token::table(&site, &mut self.program);
        let certificate = folder.join("token.pem");
        let vouched = match authority.enrolment() {
            Some(_) => format!("certificate_file = {certificate:?}\n"),
            None => String::new(),
        };
        self.write_config(
            authority,
            options,
            &format!(
                "node_attestor = \"pkcs11\"\n\n[pkcs11]\nsvid_key = \"token\"\n{vouched}\n[pkcs11.token]\n{table}"
            ),
        )?;
        let config = self.config.display().to_string();
        let answer = self.program.run(&["key", "--config", &config, "--output", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("key: {e}"))?;
        let told = |what: &str| answer["attestation_key"][what].as_str().ok_or_else(|| format!("key: no {what}"));
        let hash = told("hash")?;
        match authority.enrolment() {
            Some(ca) => fs::write(&certificate, ca.certify(told("public_key")?)?)
                .map_err(|e| format!("{}: {e}", certificate.display()))?,
            None => drop(authority.cli(&["node", "enrol", "--key", hash])?),
        }
        self.spiffe_id = format!("spiffe://{}/spire/agent/pkcs11/{hash}", options.trust_domain);
        Ok(())
    }

    fn enrol_by_tpm(
        &mut self,
        dir: &Path,
        folder: &Path,
        authority: &Authority,
        options: &Options,
    ) -> Result<(), String> {
        let manufacturer = Manufacturer::new(&dir.join("manufacturer"))?;
        let state = folder.join("tpm");
        manufacturer.make(&state)?;
        let tpm = Swtpm::start(&state)?;
        let lines = format!("node_attestor = \"tpm\"\n\n[tpm]\ntcti = {:?}\n", tpm.tcti());
        self.tpm = Some(tpm);
        self.write_config(authority, options, &lines)?;
        // swtpm's EK certificates name IBM as the manufacturer.
        let issuer = manufacturer.issuer_pem().display().to_string();
        authority.cli(&["anchor", "import", &issuer, "--manufacturer", "id:00001014"])?;
        let config = self.config.display().to_string();
        let answer = self.program.run(&["ek", "--config", &config, "--output", "json"])?;
        let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|e| format!("ek: {e}"))?;
        let hash = preferred_ek(&answer)?;
        authority.cli(&["node", "enrol", "--ek", hash])?;
        self.spiffe_id = format!("spiffe://{}/spire/agent/tpm/{hash}", options.trust_domain);
        Ok(())
    }

    fn write_config(&self, authority: &Authority, options: &Options, node: &str) -> Result<(), String> {
        let text = format!(
            "trust_domain = {:?}\nca_address = {:?}\ntrust_bundle = {:?}\ndata_dir = {:?}\nworkload_socket = {:?}\n\
             admin_socket = {:?}\nmetrics_listen = \"{}\"\nsync_interval = \"1s\"\nca_ping_interval = \"10s\"\n{node}",
            options.trust_domain,
            self.doors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            authority.bundle_pem,
            self.data_dir,
            self.workload_socket,
            self.admin_socket,
            self.metrics,
        );
        fs::write(&self.config, text).map_err(|e| format!("{}: {e}", self.config.display()))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&self.config, private).map_err(|e| format!("{}: {e}", self.config.display()))
    }

    /// Starts the attestor.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self) -> Result<(), String> {
        let config = self.config.display().to_string();
        let process = self.program.start("chancery-attestor", &["run", "--config", &config], &self.log);
        self.process = Some(process.map_err(|e| e.to_string())?);
        Ok(())
    }

    /// Waits until the Workload API answers and the node is attested.
    ///
    /// # Errors
    /// The end of the attestor's log.
    pub fn wait_until_serving(&mut self) -> Result<(), String> {
        let socket = self.workload_socket.display().to_string();
        until(START_WITHIN, || {
            if let Err(e) = self.check_running() {
                return Ok(Err(e));
            }
            self.program.run(&["healthcheck", "--socket", &socket]).map(|_| Ok(()))
        })
        .map_err(|e| format!("{e}; the attestor's log ends:\n{}", crate::process::tail(&self.log)))?
    }

    /// Process id of the attestor; 0 while it is stopped.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// What the attestor has written.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The attestor's process, for signals.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// TCTI string of the TPM.
    pub fn tcti(&self) -> Option<String> {
        self.tpm.as_ref().map(Swtpm::tcti)
    }

    pub(super) fn check_running(&mut self) -> Result<(), String> {
        if let Some(tpm) = &mut self.tpm {
            tpm.check_running()?;
        }
        self.process.as_mut().map_or(Ok(()), Process::check_running)
    }
}

/// The hash an operator enrols, from what `chancery-attestor ek --output json` printed.
///
/// # Errors
/// No key is preferred.
pub fn preferred_ek(answer: &serde_json::Value) -> Result<&str, String> {
    let keys = answer["endorsement_keys"].as_array().into_iter().flatten();
    let preferred = keys.filter(|key| key["preferred"] == true).find_map(|key| key["hash"].as_str());
    preferred.ok_or_else(|| "ek: no preferred endorsement key".into())
}
