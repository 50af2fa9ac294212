//! Signatures of the attestation key: TPMT_SIGNATURE with ECDSA and SHA-256.

use thiserror::Error;

use super::{
    constants::{ALG_ECDSA, ALG_SHA256},
    wire::{Reader, WireError, padded},
};

/// Largest signature structure in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 1024;

/// Why a signature is not one the attestation key can make.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SignatureError {
    /// Not ECDSA with SHA-256.
    #[error("the signature is of algorithm 0x{algorithm:04x} with hash 0x{hash:04x}, the key's is ECDSA with SHA-256")]
    Scheme {
        /// TPM_ALG_ID.
        algorithm: u16,
        /// TPM_ALG_ID.
        hash: u16,
    },
    /// Not parsable.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Parses a TPMT_SIGNATURE to its last byte: r and s, 32 bytes each.
///
/// # Errors
/// [`SignatureError`]. Source: TPM 2.0 Library, part 2, 11.3.4.
pub fn parse(bytes: &[u8]) -> Result<[u8; 64], SignatureError> {
    let mut reader = Reader::new(bytes);
    let (algorithm, hash) = (reader.u16()?, reader.u16()?);
    if (algorithm, hash) != (ALG_ECDSA, ALG_SHA256) {
        return Err(SignatureError::Scheme { algorithm, hash });
    }
    let mut out = [0; 64];
    let (r, s) = out.split_at_mut(32);
    r.copy_from_slice(&padded(reader.sized("r", 32)?).ok_or(WireError::Field("r"))?);
    s.copy_from_slice(&padded(reader.sized("s", 32)?).ok_or(WireError::Field("s"))?);
    reader.end()?;
    Ok(out)
}
