//! Key stores: where signing keys live. A key never leaves its store; a [`Signer`] uses it.
//!
//! The label of a key is chosen and written down before the key exists; the public half tells whether what is found
//! under it is the key that was written down.

mod disk;
pub(crate) mod file;
pub mod label;
mod memory;
mod pkcs11;
mod software;
pub mod token_key;

use std::{fmt, io, path::PathBuf, sync::Arc};

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Health, Identity, State, TokenError},
};
use thiserror::Error;

pub use self::{disk::DiskKeys, memory::MemoryKeys, pkcs11::TokenKeys};
use crate::config::{Config, KeyStoreKind};

/// A key that may sign. Synchronous: called only where blocking is allowed.
pub trait Signer: fmt::Debug + Send + Sync {
    /// SubjectPublicKeyInfo, DER.
    fn spki(&self) -> &[u8];

    /// Its kind, and with it its one signature algorithm.
    fn key_type(&self) -> KeyType;

    /// Signs `message`: ECDSA (DER ECDSA-Sig-Value) or RSA PKCS #1 v1.5, over SHA-256 (P-256, RSA) or SHA-384 (P-384).
    ///
    /// # Errors
    /// [`KeyError`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// A place that makes, keeps and deletes keys under labels (see [`label`]).
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Makes a key.
    ///
    /// # Errors
    /// [`KeyError::Exists`] where the label is taken; [`KeyError`] otherwise, and nothing half-made stays.
    fn generate(&self, label: &str, kind: KeyType) -> Result<Arc<dyn Signer>, KeyError>;

    /// The key of that label; `None` when it is not here. `spki` is the public half it must have, where it is known.
    ///
    /// # Errors
    /// [`KeyError::OtherKey`]; [`KeyError`] when it is here and cannot be used.
    fn open(&self, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError>;

    /// Deletes the key of that label and public half; fine when it is not here.
    ///
    /// # Errors
    /// [`KeyError::OtherKey`], and nothing was deleted; [`KeyError`].
    fn delete(&self, label: &str, spki: &[u8]) -> Result<(), KeyError>;

    /// Labels of the keys here, in no order. A token may hold other servers' keys too.
    ///
    /// # Errors
    /// [`KeyError`].
    fn labels(&self) -> Result<Vec<String>, KeyError>;

    /// Whether keys outlive the process.
    fn persistent(&self) -> bool;

    /// How the token does that holds the keys; `None` where there is no token.
    fn token(&self) -> Option<TokenReport> {
        None
    }
}

/// How a token does.
#[derive(Clone, Debug)]
pub struct TokenReport {
    /// What it says of itself.
    pub identity: Identity,
    /// How it does.
    pub health: Health,
    /// How often its module was initialised.
    pub generation: u64,
    /// Calls that wait for it.
    pub waiting: usize,
}

impl TokenReport {
    /// Whether keys in it can sign.
    pub fn signs(&self) -> bool {
        match self.health.state {
            State::Degraded | State::Up => true,
            State::AuthFailed | State::Down | State::Hung => false,
        }
    }
}

/// Why a key cannot be made, found or used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// No key of that label, where one must be.
    #[error("token: no key is labelled {0}; name the label of a key that is in this token")]
    Absent(String),
    /// The label is taken.
    #[error("a key labelled {0} exists already; nothing was made")]
    Exists(String),
    /// No label of ours.
    #[error("{0:?} is no label of a key: use 1 to {max} of letters, digits, '-', '_', '/'", max = label::MAX_BYTES)]
    Label(String),
    /// The file holds no key of a known kind.
    #[error("{path}: no P-256, P-384 or RSA key in PKCS#8 form", path = .0.display())]
    Malformed(PathBuf),
    /// The key in the token is not the one that the certificate is for.
    #[error(
        "token: the key labelled {0} is not the certificate's; name the label of its key, or the certificate of this key"
    )]
    NotCertified(String),
    /// A token is to hold the keys and none is named.
    #[error("keys.pkcs11: keys.store = \"pkcs11\" needs this table with module and uri")]
    NoToken,
    /// The public half is not the one written down.
    #[error(
        "the key labelled {0} has another public half than the one on record; it is not used. Put the recorded key back, or retire its authority"
    )]
    OtherKey(String),
    /// The generator of random numbers fails.
    #[error("no randomness")]
    Randomness,
    /// The key does not sign.
    #[error("signing fails")]
    Sign,
    /// The place of the keys cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Store {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token that holds the keys.
    #[error(transparent)]
    Token(TokenError),
}

impl KeyError {
    /// Whether the same call may work later without anybody doing anything: the key is not lost.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Token(error) if error.is_transient())
    }
}

/// The key store that the configuration names.
///
/// # Errors
/// [`KeyError::Store`] when its folder cannot be made, [`KeyError::Token`] when the token cannot be used.
pub fn open(config: &Config) -> Result<Arc<dyn KeyStore>, KeyError> {
    match config.keys.store {
        KeyStoreKind::Disk => Ok(Arc::new(DiskKeys::open(config.data_dir.join("keys"))?)),
        KeyStoreKind::Memory => Ok(Arc::new(MemoryKeys::default())),
        KeyStoreKind::Pkcs11 => {
            let token = config.keys.pkcs11.as_ref().ok_or(KeyError::NoToken)?;
            Ok(Arc::new(TokenKeys::open(token, &config.data_dir)?))
        }
    }
}

/// The key found under `label`, if it is the one that was asked for.
fn same_key(label: &str, key: Arc<dyn Signer>, spki: Option<&[u8]>) -> Result<Arc<dyn Signer>, KeyError> {
    match spki {
        Some(spki) if spki != key.spki() => Err(KeyError::OtherKey(label.into())),
        Some(_) | None => Ok(key),
    }
}
