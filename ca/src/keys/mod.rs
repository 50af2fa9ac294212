//! Key stores: where signing keys live. A key never leaves its store; a [`Signer`] uses it.

mod disk;
mod memory;
mod p256;

use std::{fmt, io, path::PathBuf, sync::Arc};

use thiserror::Error;

pub use self::{disk::DiskKeys, memory::MemoryKeys};
use crate::config::{Config, KeyStoreKind};

/// A P-256 key that may sign. Synchronous: called only where blocking is allowed.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public key as an uncompressed point, 65 bytes.
    fn point(&self) -> &[u8];

    /// Signs SHA-256 of `message` with ECDSA; ASN.1 DER.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// A place that makes, keeps and deletes P-256 keys. Names are of `a-z 0-9 -`.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Makes a key; its name is `name(point)`.
    ///
    /// # Errors
    /// [`KeyError`]; nothing half-written stays.
    fn generate(&self, name: &dyn Fn(&[u8]) -> String) -> Result<Arc<dyn Signer>, KeyError>;

    /// The key of that name; `None` when it is not here.
    ///
    /// # Errors
    /// [`KeyError`] when it is here and cannot be used.
    fn open(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, KeyError>;

    /// Deletes the key of that name; fine when it is not here.
    ///
    /// # Errors
    /// [`KeyError::Store`].
    fn delete(&self, name: &str) -> Result<(), KeyError>;
}

/// Why a key cannot be made, found or used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file holds no P-256 key.
    #[error("{path}: no P-256 key in PKCS#8 form", path = .0.display())]
    Malformed(PathBuf),
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
}

/// The key store that the configuration names.
///
/// # Errors
/// [`KeyError::Store`] when its folder cannot be made.
pub fn open(config: &Config) -> Result<Arc<dyn KeyStore>, KeyError> {
    match config.keys.store {
        KeyStoreKind::Disk => Ok(Arc::new(DiskKeys::open(config.data_dir.join("keys"))?)),
        KeyStoreKind::Memory => Ok(Arc::new(MemoryKeys::default())),
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    /// What every key store must do.
    fn conformance(store: &dyn KeyStore) {
        let name = |point: &[u8]| hex::encode(&point[1..9]);
        let key = store.generate(&name).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point().to_vec());
        public.verify(b"m", &key.sign(b"m").unwrap()).unwrap();
        let label = name(key.point());
        let again = store.open(&label).unwrap().unwrap();
        assert_eq!(again.point(), key.point());
        public.verify(b"m", &again.sign(b"m").unwrap()).unwrap();
        assert!(store.open("absent").unwrap().is_none());
        store.delete(&label).unwrap();
        store.delete(&label).unwrap();
        assert!(store.open(&label).unwrap().is_none());
    }

    #[test]
    fn memory_keys_meet_the_contract() {
        conformance(&MemoryKeys::default());
    }

    #[test]
    fn disk_keys_meet_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        conformance(&DiskKeys::open(dir.path().join("keys")).unwrap());
    }

    #[test]
    fn disk_keys_are_for_the_owner_only_and_broken_ones_are_named() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let store = DiskKeys::open(dir.path().join("keys")).unwrap();
        store.generate(&|_| "k".into()).unwrap();
        let file = dir.path().join("keys/k.key");
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(dir.path().join("keys")).unwrap().mode() & 0o777, 0o700);
        std::fs::write(&file, b"x").unwrap();
        assert!(store.open("k").unwrap_err().to_string().contains("k.key"));
    }
}
