//! TPM 2.0 emulators with a manufacturer of their own: one process per node, never shared.
//!
//! A [`Manufacturer`] is a local CA; the TPMs it makes hold RSA-2048 and P-384 EK certificates of that CA in NV.
//! Needs the packages swtpm, swtpm-tools and tpm2-tools. Processes end with their guard, by their own id.

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    io,
    net::TcpStream,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longest wait for an emulator to come up; usually 10 ms.
const READY: Duration = Duration::from_secs(10);
/// Port pairs tried before giving up.
const PORT_ATTEMPTS: usize = 20;

/// A local CA that signs EK certificates.
pub struct Manufacturer {
    dir: PathBuf,
    /// Ends the folder with the manufacturer, where it is ours.
    _owned: Option<TempDir>,
    /// One at a time: the CA's serial file is shared.
    making: Mutex<()>,
}

/// The one of this test binary, while anybody uses it.
static SHARED: Mutex<Weak<Manufacturer>> = Mutex::new(Weak::new());

impl Manufacturer {
    /// The manufacturer of this test binary, made on first use.
    pub fn shared() -> io::Result<Arc<Self>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manufacturer) = shared.upgrade() {
            return Ok(manufacturer);
        }
        let manufacturer = Arc::new(Self::temporary()?);
        *shared = Arc::downgrade(&manufacturer);
        Ok(manufacturer)
    }

    /// Another manufacturer in a folder of its own: its TPMs are strangers to the first one's anchors.
    pub fn temporary() -> io::Result<Self> {
        let owned = tempfile::Builder::new().prefix("swtpm-ca").tempdir()?;
        Ok(Self { _owned: Some(owned.keep_path()?), ..Self::at(&owned_path()?)? })
    }

    /// A manufacturer that keeps its CA in `dir`.
    pub fn at(dir: &Path) -> io::Result<Self> {
        private_folder(dir)?;
        let ca = dir.display();
        fs::write(
            dir.join("localca.conf"),
            format!(
                "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
            ),
        )?;
        fs::write(
            dir.join("localca.options"),
            "--platform-manufacturer ACME\n--platform-version 1.0\n--platform-model TestNode\n",
        )?;
        fs::write(
            dir.join("setup.conf"),
            format!(
                "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config={ca}/localca.conf\ncreate_certs_tool_options={ca}/localca.options\n"
            ),
        )?;
        Ok(Self { dir: dir.into(), _owned: None, making: Mutex::new(()) })
    }
}
