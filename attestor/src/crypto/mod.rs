//! The attestor's primitives: node keys, their CSRs, their part in a TLS handshake, randomness.
//!
//! A node key is P-256 and lives in memory or in the TPM; who uses it does not see the difference.

mod csr;
mod memory;
mod random;
mod tls;

use std::{fmt, sync::Arc};

use thiserror::Error;

pub use csr::csr;
pub use memory::MemoryKey;
pub use random::{fraction, random};
pub use tls::certified;

/// Bytes of an uncompressed SEC1 point on P-256.
pub const POINT_BYTES: usize = 65;

/// A P-256 key that signs for the node.
pub trait NodeKey: fmt::Debug + Send + Sync {
    /// SEC1 point, uncompressed.
    fn point(&self) -> &[u8; POINT_BYTES];

    /// ECDSA with SHA-256 over `message`; DER. May block for as long as a TPM takes: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`SignError`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// A node key as it is handed around.
pub type AnyNodeKey = Arc<dyn NodeKey>;

/// A key that could not sign.
#[derive(Clone, Debug, Error)]
#[error("the node key cannot sign: {0}")]
pub struct SignError(pub String);
