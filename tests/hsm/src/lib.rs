//! PKCS#11 tokens for tests and the playground, each in a folder of its own.
//!
//! A module reads its configuration from the environment of the process that loads it, so a test with a token runs
//! itself again in a child that has it: see [`in_child`]. Never linked into a product.

mod child;
mod command;
mod kryoptic;
mod network;
mod opencryptoki;
mod softhsm;
mod tpm2;

use std::path::{Path, PathBuf};

pub use self::{
    child::{equip, given, in_child, site},
    kryoptic::kryoptic,
    network::Network,
    opencryptoki::opencryptoki,
    softhsm::{softhsm2, softhsm2_in, softhsm2_token},
    tpm2::tpm2_pkcs11,
};

/// The PIN of every token made here.
pub const PIN: &str = "12345678";
/// The security officer's.
pub const SO_PIN: &str = "87654321";

/// A token that can be used.
#[derive(Debug)]
pub struct Site {
    /// The module's file.
    pub module: PathBuf,
    /// Which token.
    pub uri: String,
    /// Holds [`PIN`], mode 0600.
    pub pin_file: PathBuf,
    /// What the process that loads the module needs in its environment.
    pub env: Vec<(String, String)>,
    /// Removed, and its processes ended, with this value.
    pub keep: Vec<Keep>,
}

/// What lives as long as a site.
#[derive(Debug)]
pub enum Keep {
    /// A folder.
    Folder(tempfile::TempDir),
    /// A process and what it started.
    Process(command::Group),
}

/// Why there is no token: the line a skipped module is reported with.
pub type Skip = String;

impl Site {
    /// A site in `folder`, which it keeps.
    fn new(folder: tempfile::TempDir, module: PathBuf, uri: String) -> Result<Self, Skip> {
        let mut site = Self::at(folder.path(), module, uri)?;
        site.keep.push(Keep::Folder(folder));
        Ok(site)
    }

    /// A site in a folder that is somebody else's.
    fn at(folder: &Path, module: PathBuf, uri: String) -> Result<Self, Skip> {
        let pin_file = folder.join("pin");
        command::secret(&pin_file, PIN)?;
        Ok(Self { module, uri, pin_file, env: Vec::new(), keep: Vec::new() })
    }

    fn with_env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A new folder for a token.
fn folder() -> Result<tempfile::TempDir, Skip> {
    tempfile::Builder::new().prefix("chancery-hsm-").tempdir().map_err(|e| e.to_string())
}

/// The first of these files that exists.
fn first_file(candidates: &[&str], package: &str) -> Result<PathBuf, Skip> {
    let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
    found.ok_or_else(|| format!("{} is missing: install {package}", candidates.join(" or ")))
}
