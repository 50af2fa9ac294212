//! Keys as PKCS#8 files, 0600, written new and renamed.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

use chancery_daemon::key_type::KeyType;
use zeroize::Zeroizing;

use super::{KeyError, KeyStore, Signer, label, same_key, software};

/// What every file's name ends with.
const SUFFIX: &str = ".key";

/// Keys as files in one folder, mode 0700. A label's `/` is a `-` in the file's name.
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

    fn path(&self, label: &str) -> Result<PathBuf, KeyError> {
        label::check(label)?;
        Ok(self.folder.join(format!("{}{SUFFIX}", label::to_file(label))))
    }
}

impl KeyStore for DiskKeys {
    fn generate(&self, label: &str, kind: KeyType) -> Result<Arc<dyn Signer>, KeyError> {
        let path = self.path(label)?;
        if path.exists() {
            return Err(KeyError::Exists(label.into()));
        }
        let pkcs8 = software::generate(kind)?;
        let key = software::SoftwareKey::parse(&pkcs8).ok_or(KeyError::Randomness)?;
        let written = chancery_daemon::file::write_atomic(&path, &pkcs8, 0o600);
        written.map_err(|source| KeyError::Store { path, source })?;
        Ok(Arc::new(key))
    }

    fn open(&self, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let path = self.path(label)?;
        match fs::read(&path).map(Zeroizing::new) {
            Ok(pkcs8) => match software::SoftwareKey::parse(&pkcs8) {
                Some(key) => same_key(label, Arc::new(key), spki).map(Some),
                None => Err(KeyError::Malformed(path)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(KeyError::Store { path, source }),
        }
    }

    fn delete(&self, label: &str, spki: &[u8]) -> Result<(), KeyError> {
        if self.open(label, Some(spki))?.is_none() {
            return Ok(());
        }
        let path = self.path(label)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeyError::Store { path, source }),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn labels(&self) -> Result<Vec<String>, KeyError> {
        let failed = |source| KeyError::Store { path: self.folder.clone(), source };
        let mut labels = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // A name that begins with a dot is a file not yet renamed.
            let stem = name.to_str().filter(|n| !n.starts_with('.')).and_then(|n| n.strip_suffix(SUFFIX));
            labels.extend(stem.map(label::from_file));
        }
        Ok(labels)
    }

    fn persistent(&self) -> bool {
        true
    }
}
