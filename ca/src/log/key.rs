//! The key that signs checkpoints: Ed25519, in a file of its own, never in the database and never a CA's.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use chancery_core::log::{
    checkpoint::Checkpoint,
    note::{self, NoteError, VerifierKey},
};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::file::{self, FileError};

/// Why there is no key.
#[derive(Debug, Error)]
pub enum LogKeyError {
    /// The file cannot be read or made.
    #[error("log.key_file: {0}")]
    File(#[from] FileError),
    /// It holds something else.
    #[error(
        "log.key_file = {0:?}: no Ed25519 key in PKCS#8 form (PEM `PRIVATE KEY`); move the file away for a new one"
    )]
    Malformed(PathBuf),
    /// The system yields none.
    #[error("the system yields no randomness")]
    Randomness,
}

/// Signs checkpoints.
pub struct LogKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl LogKey {
    /// The key in the file; `None` where there is no file.
    ///
    /// # Errors
    /// [`LogKeyError`].
    pub fn read(path: &Path) -> Result<Option<Self>, LogKeyError> {
        let system = |source| FileError::System { path: path.into(), source };
        let mode = match std::fs::metadata(path) {
            Ok(meta) => meta.mode() & 0o7777,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(system(e).into()),
        };
        if mode & 0o077 != 0 {
            return Err(FileError::Open { path: path.into(), mode }.into());
        }
        let pem = file::bytes(path)?;
        let malformed = || LogKeyError::Malformed(path.into());
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| malformed())?;
        let pkcs8 = Zeroizing::new(pkcs8.secret_pkcs8_der().to_vec());
        Self::parse(&pkcs8).ok_or_else(malformed).map(Some)
    }

    /// The key in the file, which is made where there is none.
    ///
    /// # Errors
    /// [`LogKeyError`].
    pub fn open(path: &Path) -> Result<Self, LogKeyError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| LogKeyError::Randomness)?;
        let pem = Zeroizing::new(file::pem("PRIVATE KEY", pkcs8.as_ref()));
        file::write_new(path, pem.as_bytes(), 0o600)?;
        Self::parse(pkcs8.as_ref()).ok_or_else(|| LogKeyError::Malformed(path.into()))
    }

    fn parse(pkcs8: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The public half under a log's name, as verifiers are told it.
    ///
    /// # Errors
    /// [`NoteError::Key`]: no name.
    pub fn verifier(&self, origin: &str) -> Result<VerifierKey, NoteError> {
        VerifierKey::new(origin, self.public)
    }

    /// Signs a checkpoint under its log's name.
    ///
    /// # Errors
    /// [`NoteError::Key`]: no name.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<Vec<u8>, NoteError> {
        let (text, key) = (checkpoint.text(), self.verifier(&checkpoint.origin)?);
        let signature = self.pair.sign(text.as_bytes());
        let signature = signature.as_ref().try_into().map_err(|_| NoteError::Key)?;
        Ok(note::write(&text, &key, &signature).into_bytes())
    }
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogKey").field("public", &hex::encode(self.public)).finish_non_exhaustive()
    }
}
