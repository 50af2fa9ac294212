//! Software TPMs: real swtpm processes with EK certificates of a local manufacturer.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Duration,
};

use crate::process::{Process, run, until};

/// A manufacturer: the CA that signs the EK certificates of the TPMs it makes.
pub struct Manufacturer {
    dir: PathBuf,
    /// swtpm_localca keeps its serial number in a file: one TPM is made at a time.
    making: Mutex<()>,
}

impl Manufacturer {
    /// Sets a manufacturer up in `dir`; its CA is made with the first TPM.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(dir: &Path) -> Result<Self, String> {
        let say = |e: std::io::Error| format!("{}: {e}", dir.display());
        fs::create_dir_all(dir.join("ca")).map_err(say)?;
        let at = |name: &str| dir.join(name).display().to_string();
        let ca = at("ca");
        let localca = format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
        );
        let setup = format!(
            "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config={}\ncreate_certs_tool_options={}\n",
            at("localca.conf"),
            at("localca.options")
        );
        let options = "--platform-manufacturer ACME\n--platform-version 1.0\n--platform-model TestNode\n";
        for (name, text) in [("localca.conf", localca.as_str()), ("localca.options", options), ("setup.conf", &setup)] {
            fs::write(dir.join(name), text).map_err(say)?;
        }
        Ok(Self { dir: dir.into(), making: Mutex::new(()) })
    }

    /// The certificate that signs EK certificates, PEM: what an operator imports as anchor.
    pub fn issuer_pem(&self) -> PathBuf {
        self.dir.join("ca/issuercert.pem")
    }

    /// Makes a TPM in `state`: RSA-2048 and P-384 EK certificates, SHA-256 PCR bank only.
    ///
    /// # Errors
    /// What swtpm_setup printed.
    pub fn make(&self, state: &Path) -> Result<(), String> {
        let _one = self.making.lock().map_err(|_| "another thread failed while making a TPM")?;
        fs::create_dir_all(state).map_err(|e| format!("{}: {e}", state.display()))?;
        let (state_arg, conf) = (state.display().to_string(), self.dir.join("setup.conf").display().to_string());
        #[rustfmt::skip]
        let args = [
            "--tpm2", "--tpmstate", &state_arg, "--config", &conf, "--create-ek-cert", "--create-platform-cert",
            "--lock-nvram", "--pcr-banks", "sha256", "--overwrite", "--write-ek-cert-files", &state_arg,
        ];
        run(Path::new("swtpm_setup"), &args).map(|_| ())
    }
}

/// A running software TPM on a pair of loopback ports.
pub struct Swtpm {
    process: Process,
    port: u16,
    /// Its NV memory; copy it only while the TPM is stopped.
    pub state: PathBuf,
}

impl Swtpm {
    /// Starts the TPM whose memory is in `state`. Ports that turn out to be taken are replaced by others.
    ///
    /// # Errors
    /// The end of swtpm's log after several ports.
    pub fn start(state: &Path) -> Result<Self, String> {
        let mut last = String::new();
        for _ in 0..8 {
            match Self::start_on(state, free_pair()?) {
                Ok(tpm) => return Ok(tpm),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Starts the TPM on `port` and `port + 1`.
    ///
    /// # Errors
    /// The end of swtpm's log.
    pub fn start_on(state: &Path, port: u16) -> Result<Self, String> {
        let tpmstate = format!("dir={}", state.display());
        let server = format!("type=tcp,port={port},bindaddr=127.0.0.1");
        let control = format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1);
        #[rustfmt::skip]
        let args = [
            "socket", "--tpm2", "--tpmstate", &tpmstate, "--server", &server, "--ctrl", &control,
            "--flags", "not-need-init,startup-clear",
        ];
        let log = state.with_extension("swtpm.log");
        let mut process = Process::start("swtpm", Path::new("swtpm"), &args, &log).map_err(|e| e.to_string())?;
        until(Duration::from_secs(5), || {
            if let Err(e) = process.check_running() {
                return Ok(Err(e));
            }
            TcpStream::connect(("127.0.0.1", port + 1)).map(|_| Ok(())).map_err(|e| format!("swtpm: {e}"))
        })??;
        Ok(Self { process, port, state: state.into() })
    }

    /// The TCTI string for attestors and tpm2-tools.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Runs a tpm2-tools command against this TPM.
    ///
    /// The TPM library's sockets are not close-on-exec. A tool that inherits one keeps the TPM busy with a connection
    /// nobody uses any more, and waits for it: so it starts with the standard descriptors only.
    ///
    /// # Errors
    /// What the command printed.
    pub fn tool(&self, program: &str, args: &[&str]) -> Result<String, String> {
        const BARE: &str =
            r#"for f in /proc/$$/fd/*; do n=${f##*/}; [ "$n" -le 2 ] || eval "exec $n>&-"; done; exec "$@""#;
        let mut command = Command::new("bash");
        command.args(["-c", BARE, "bash", program]).args(args).env("TPM2TOOLS_TCTI", self.tcti());
        let out = command.output();
        let out = out.map_err(|e| format!("{program}: {e}"))?;
        if !out.status.success() {
            return Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Extends SHA-256 PCR `pcr` by `digest`.
    ///
    /// # Errors
    /// What tpm2_pcrextend printed.
    pub fn extend(&self, pcr: u32, digest: [u8; 32]) -> Result<(), String> {
        self.tool("tpm2_pcrextend", &[&format!("{pcr}:sha256={}", hex::encode(digest))]).map(|_| ())
    }

    /// An orderly reboot: resetCount grows by one.
    ///
    /// # Errors
    /// What the tools printed.
    pub fn reboot(&self) -> Result<(), String> {
        self.tool("tpm2_shutdown", &["-c"])?;
        self.power_cycle()
    }

    /// Power lost and back: resetCount grows by one and the clock is not safe.
    ///
    /// # Errors
    /// What the tools printed.
    pub fn power_cycle(&self) -> Result<(), String> {
        let control = format!("127.0.0.1:{}", self.port + 1);
        run(Path::new("swtpm_ioctl"), &["--tcp", &control, "-i"])?;
        self.tool("tpm2_startup", &["-c"]).map(|_| ())
    }

    /// Suspend and resume: restartCount grows by one.
    ///
    /// # Errors
    /// What the tools printed.
    pub fn suspend(&self) -> Result<(), String> {
        self.tool("tpm2_shutdown", &[])?;
        let control = format!("127.0.0.1:{}", self.port + 1);
        run(Path::new("swtpm_ioctl"), &["--tcp", &control, "-i"])?;
        self.tool("tpm2_startup", &[]).map(|_| ())
    }

    /// TPM2_Clear: both counters go back to 0.
    ///
    /// # Errors
    /// What tpm2_clear printed.
    pub fn clear(&self) -> Result<(), String> {
        self.tool("tpm2_clear", &["-c", "p"]).map(|_| ())
    }

    /// Stops the TPM and answers its memory's folder.
    pub fn stop(mut self) -> PathBuf {
        self.process.stop();
        self.state.clone()
    }

    /// An error when the TPM has ended by itself.
    ///
    /// # Errors
    /// The end of its log.
    pub fn check_running(&mut self) -> Result<(), String> {
        self.process.check_running()
    }
}

/// Copies a TPM's memory (stopped, or never started) to another folder.
///
/// # Errors
/// The copy fails.
pub fn copy_state(from: &Path, to: &Path) -> Result<(), String> {
    let say = |e: std::io::Error| format!("{}: {e}", to.display());
    fs::create_dir_all(to).map_err(say)?;
    for entry in fs::read_dir(from).map_err(say)? {
        let entry = entry.map_err(say)?;
        if entry.path().is_file() && entry.file_name() != ".lock" {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(say)?;
        }
    }
    Ok(())
}

/// An even port with a free neighbour.
fn free_pair() -> Result<u16, String> {
    for _ in 0..200 {
        let Ok(probe) = TcpListener::bind("127.0.0.1:0") else { continue };
        let Ok(address) = probe.local_addr() else { continue };
        let port = address.port() & !1;
        drop(probe);
        let both = (TcpListener::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port + 1)));
        if both.0.is_ok() && both.1.is_ok() {
            return Ok(port);
        }
    }
    Err("no pair of free ports".into())
}
