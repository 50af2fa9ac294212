//! Keys as PKCS#8 files, 0600, written new and renamed.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

use zeroize::Zeroizing;

use super::{KeyError, KeyStore, Signer, p256};

/// Keys as files in one folder, mode 0700.
#[derive(Debug)]
pub struct DiskKeys {
    folder: PathBuf,
}

impl DiskKeys {
    /// Uses `folder`, made when missing.
    ///
    /// # Errors
    /// [`KeyError::Store`].
    pub fn open(folder: PathBuf) -> Result<Self, KeyError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| KeyError::Store { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }
}

impl KeyStore for DiskKeys {
    fn generate(&self, name: &dyn Fn(&[u8]) -> String) -> Result<Arc<dyn Signer>, KeyError> {
        let pkcs8 = p256::generate()?;
        let key = p256::P256Key::parse(&pkcs8).ok_or(KeyError::Randomness)?;
        let path = self.path(&name(key.point()));
        let written = chancery_daemon::file::write_atomic(&path, &pkcs8, 0o600);
        written.map_err(|source| KeyError::Store { path, source })?;
        Ok(Arc::new(key))
    }

    fn open(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let path = self.path(name);
        match fs::read(&path).map(Zeroizing::new) {
            Ok(pkcs8) => match p256::P256Key::parse(&pkcs8) {
                Some(key) => Ok(Some(Arc::new(key))),
                None => Err(KeyError::Malformed(path)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeyError::Store { path, source }),
        }
    }

    fn delete(&self, name: &str) -> Result<(), KeyError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeyError::Store { path, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
