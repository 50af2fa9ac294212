//! The node's TPM 2.0, behind one thread.
//!
//! [`Tpm`] is a handle anybody may clone; its methods block and belong where blocking is allowed. One OS thread
//! owns the `tss_esapi::Context` and the handles loaded through it ([`device`]), survives resets and broken
//! transports, and never holds more than three objects in the TPM at once, since a TPM without a resource
//! manager has room for no more. Never panics on what the TPM or the CA says.

mod actor;
mod attest;
mod device;
mod endorse;
mod error;
mod key;
mod tcti;

use std::path::PathBuf;

use zeroize::Zeroizing;

pub use actor::Tpm;
pub(crate) use attest::{BANK_SHA256, BANK_SHA384};
pub use attest::{PcrValues, Signed};
pub use chancery_core::evidence::tpm::templates::EkKind;
pub use endorse::Endorsement;
pub use error::TpmError;
pub use key::{NodeKeyBlob, TpmKey};
pub use tcti::Tcti;

/// How to reach and use the TPM.
#[derive(Clone)]
pub struct Options {
    /// Where it is.
    pub tcti: Tcti,
    /// Separates the attestation keys of trust domains on one TPM.
    pub trust_domain: String,
    /// Auth value of the endorsement hierarchy; empty on most hosts.
    pub endorsement_auth: Zeroizing<Vec<u8>>,
    /// Auth value of the owner hierarchy; empty on most hosts.
    pub owner_auth: Zeroizing<Vec<u8>>,
    /// Encrypts the activation secret on its way over the bus, by a session salted to the EK.
    pub bus: Bus,
}

/// Whether somebody could listen between the processor and the TPM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bus {
    /// A chip on a board: the secret is encrypted on the bus.
    Exposed,
    /// A socket to an emulator on this machine.
    Internal,
}

impl Options {
    /// Options of a configuration; auth files are read here.
    ///
    /// # Errors
    /// One line naming the key of the configuration.
    pub fn from_config(config: &crate::config::Config) -> Result<Self, TpmError> {
        let tcti: Tcti = config.tpm.tcti.parse()?;
        let bus = if matches!(tcti, Tcti::Device(_)) { Bus::Exposed } else { Bus::Internal };
        Ok(Self {
            tcti,
            trust_domain: config.trust_domain.to_string(),
            endorsement_auth: auth("endorsement_auth_file", config.tpm.endorsement_auth_file.as_ref())?,
            owner_auth: auth("owner_auth_file", config.tpm.owner_auth_file.as_ref())?,
            bus,
        })
    }
}

fn auth(key: &str, file: Option<&PathBuf>) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let Some(file) = file else { return Ok(Zeroizing::default()) };
    let bytes = std::fs::read(file).map_err(|e| TpmError::Config(format!("tpm.{key} {}: {e}", file.display())))?;
    let mut bytes = Zeroizing::new(bytes);
    let kept = bytes.trim_ascii_end().len();
    bytes.truncate(kept);
    Ok(bytes)
}
