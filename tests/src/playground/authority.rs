use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use chancery_hsm::Network;

use super::{Attest, Binaries, CaKeys, Options, START_WITHIN, enrolment::EnrolmentCa, program::Program, token};
use crate::process::{Process, until};

/// The CA of a playground.
pub struct Authority {
    process: Process,
    program: Program,
    hsm: Option<Network>,
    enrolment: Option<EnrolmentCa>,
    log: PathBuf,
    /// Address of the mTLS door.
    pub grpc: SocketAddr,
    /// Address of `/metrics`.
    pub metrics: SocketAddr,
    /// The operators' socket.
    pub admin_socket: PathBuf,
    /// X.509 authorities, PEM; kept current.
    pub bundle_pem: PathBuf,
    /// SPIFFE bundle document; kept current.
    pub bundle_json: PathBuf,
    /// Path or URL.
    pub database: String,
    /// Its configuration file.
    pub config: PathBuf,
}

impl Authority {
    /// Starts server number `index` of a playground in `dir`; each has a folder, keys and doors of its own.
    pub(super) fn start(dir: &Path, index: usize, bin: &Binaries, options: &Options) -> Result<Self, String> {
        let name = if index == 0 { "ca".to_owned() } else { format!("ca{}", index + 1) };
        let (folder, log) = (dir.join(&name), dir.join(format!("{name}.log")));
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let config = folder.join("ca.toml");
        let database = match options.db.as_str() {
            "sqlite" => folder.join("ca.sqlite3").display().to_string(),
            url => url.to_string(),
        };
        let (grpc, metrics) = (free_address()?, free_address()?);
        let mut program = Program::new(bin.path("chancery-ca"));
        let mut text = config_text(&folder, &database, grpc, metrics, options);
        let (keys, hsm) = keys(&folder, options.ca_keys, &mut program)?;
        text.push_str(&keys);
        let enrolment = (options.attest == Attest::Pkcs11Certified).then(|| EnrolmentCa::make(&folder)).transpose()?;
        if let Some(ca) = &enrolment {
            text.push_str(&format!("\n[pkcs11]\nenrolment_ca_file = {:?}\n", ca.file));
        }
        std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        let config_arg = config.display().to_string();
        program.run(&["migrate", "--config", &config_arg])?;
        let process = spawn(&program, &config_arg, &log)?;
        let mut this = Self {
            process,
            program,
            hsm,
            enrolment,
            log,
            grpc,
            metrics,
            admin_socket: folder.join("admin.sock"),
            bundle_pem: dir.join("bundle.pem"),
            bundle_json: dir.join("bundle.json"),
            database,
            config,
        };
        this.wait_until_serving()?;
        this.write_bundle()?;
        Ok(this)
    }

    /// Process id of the CA.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The CA's process, for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The network HSM with its keys, where it has one.
    pub fn hsm(&mut self) -> Option<&mut Network> {
        self.hsm.as_mut()
    }

    /// Process id of the network HSM.
    pub(super) fn hsm_pid(&self) -> Option<u32> {
        self.hsm.as_ref().and_then(Network::pid)
    }

    /// Who vouches for the nodes' keys, where they are not enrolled one by one.
    pub(super) fn enrolment(&self) -> Option<&EnrolmentCa> {
        self.enrolment.as_ref()
    }

    /// Starts the CA again after it was killed, and waits until it serves.
    ///
    /// # Errors
    /// The end of its log.
    pub fn restart(&mut self) -> Result<(), String> {
        self.process.kill();
        self.process = spawn(&self.program, &self.config.display().to_string(), &self.log)?;
        self.wait_until_serving()
    }

    /// Runs `chancery-ca` with arguments against the admin socket.
    ///
    /// # Errors
    /// What the command printed.
    pub fn cli(&self, args: &[&str]) -> Result<String, String> {
        let socket = self.admin_socket.display().to_string();
        let mut all = args.to_vec();
        all.extend(["--socket", &socket]);
        self.program.run(&all)
    }

    /// Waits until the bundle holds an authority of each of `servers`, and writes it.
    pub(super) fn write_bundle_of(&self, servers: usize) -> Result<(), String> {
        until(START_WITHIN, || {
            self.write_bundle()?;
            let text = std::fs::read_to_string(&self.bundle_pem).map_err(|e| e.to_string())?;
            match text.matches("BEGIN CERTIFICATE").count() {
                known if known >= servers => Ok(()),
                known => Err(format!("the bundle has {known} authorities, and there are {servers} servers")),
            }
        })
    }

    pub(super) fn check_running(&mut self) -> Result<(), String> {
        self.process.check_running()
    }

    fn wait_until_serving(&mut self) -> Result<(), String> {
        until(START_WITHIN, || {
            // An ended process is fatal: its log says why, and waiting would hide it.
            if let Err(e) = self.process.check_running() {
                return Ok(Err(e));
            }
            self.cli(&["healthcheck"]).map(|_| Ok(()))
        })?
    }

    /// Writes the bundle files anew when they differ from what the CA publishes.
    pub(super) fn write_bundle(&self) -> Result<(), String> {
        for (format, path) in [("pem", &self.bundle_pem), ("spiffe", &self.bundle_json)] {
            // The CA may be down for a moment in a test that kills it: the last files stay.
            let Ok(text) = self.cli(&["bundle", "show", "--format", format]) else { return Ok(()) };
            if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
                continue;
            }
            chancery_daemon::file::write_atomic(path, text.as_bytes(), 0o644).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn spawn(program: &Program, config: &str, log: &Path) -> Result<Process, String> {
    program.start("chancery-ca", &["run", "--config", config], log).map_err(|e| e.to_string())
}

/// The configuration's lines about the CA's keys, and the network HSM that has them.
fn keys(folder: &Path, keys: CaKeys, program: &mut Program) -> Result<(String, Option<Network>), String> {
    let (site, hsm) = match keys {
        CaKeys::Disk => return Ok((String::new(), None)),
        CaKeys::NetworkHsm => {
            let network = Network::serve(token::make(&folder.join("token"), "ca")?)?;
            (network.client()?, Some(network))
        }
        CaKeys::Pkcs11 => (token::make(&folder.join("token"), "ca")?, None),
    };
    let table = token::table(&site, program);
    Ok((format!("\n[keys]\nstore = \"pkcs11\"\n\n[keys.pkcs11]\n{table}"), hsm))
}

fn config_text(folder: &Path, database: &str, grpc: SocketAddr, metrics: SocketAddr, options: &Options) -> String {
    let attestor = match options.attest {
        Attest::JoinToken => "\"join_token\"",
        // A token may stand beside a TPM, which must be enrolled all the same.
        Attest::Pkcs11 | Attest::Pkcs11Certified => "\"pkcs11\", \"tpm\"",
        Attest::Tpm => "\"tpm\"",
    };
    let lives = &options.lifetimes;
    let mut text = format!(
        "trust_domain = {:?}\ndata_dir = {:?}\ndatabase = {database:?}\nlisten = \"{grpc}\"\nadmin_socket = {:?}\n\
         metrics_listen = \"{metrics}\"\nnode_attestors = [{attestor}]\n\n[ttl]\n",
        options.trust_domain,
        folder.join("data"),
        folder.join("admin.sock"),
    );
    let rows = [
        ("instance_svid", &lives.instance_ttl),
        ("x509_svid", &lives.x509_ttl),
        ("node_svid", &lives.node_ttl),
        ("jwt_svid", &lives.jwt_ttl),
        ("ca", &lives.ca_ttl),
        ("publish_delay", &lives.publish_delay),
    ];
    for (key, value) in rows {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {value:?}\n"));
            if lives.capped && matches!(key, "instance_svid" | "jwt_svid" | "x509_svid") {
                text.push_str(&format!("{key}_max = {value:?}\n"));
            }
        }
    }
    if let Some(policy) = &lives.policy_file {
        text.push_str(&format!("\n[tpm]\npolicy_file = {policy:?}\n"));
    }
    if let Some(above) = &options.upstream {
        let (server, socket) = (above.server, &above.workload_socket);
        let table = format!("\n[upstream]\nkind = \"nested\"\nserver = \"{server}\"\nworkload_socket = {socket:?}\n");
        text.push_str(&table);
    }
    text
}

/// A loopback address nobody listens on now.
///
/// # Errors
/// The system has no port left.
pub fn free_address() -> Result<SocketAddr, String> {
    let probe = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"))?;
    probe.local_addr().map_err(|e| format!("no free port: {e}"))
}
