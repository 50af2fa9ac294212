//! The attestor's configuration: one TOML file, unknown keys refused, secrets named by path.

mod file;
mod unix;

pub use file::{Addresses, Config, Enrolment, Pkcs11, SvidKey, Tpm, VendorEvidence};
pub use unix::Unix;
