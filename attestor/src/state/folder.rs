use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use chancery_daemon::{clock, file};
use thiserror::Error;
use zeroize::Zeroizing;

use super::Saved;

const FILE: &str = "node.json";
/// Largest state file in bytes; a bundle of 100 authorities fits.
const MAX_BYTES: u64 = 1 << 20;

/// What is written and removed again at start: a disk that is full is told then, and not when a key is to be kept.
const PROBE: &str = "probe";
/// Room for a usual state.
const PROBE_BYTES: usize = 64 << 10;

/// Why the state cannot be kept.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("data_dir {path}: {source}; make the folder ours and writable, or choose another one", path = path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no room for the state.
    #[error("data_dir {path}: {source}; make room for 1 MiB, or choose another folder", path = path.display())]
    Full {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or change the folder.
    #[error("data_dir {path}: mode {mode:04o} lets others in; run `chmod 0700 {path}`", path = path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The folder the state file lies in.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens `path`, making it (0700) when missing.
    ///
    /// # Errors
    /// [`StateError`], one line that says what to do.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: path.into(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        Self::judge(path)?;
        Self::probe(path)?;
        Ok(Self(path.into()))
    }

    /// Nothing is left of the probe, whether it fits or not.
    fn probe(path: &Path) -> Result<(), StateError> {
        let file = path.join(PROBE);
        let tried = file::write_atomic(&file, &[0x55; PROBE_BYTES], 0o600).and_then(|()| fs::remove_file(&file));
        tried.map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StateError::Full { path: path.into(), source },
            _ => StateError::Io { path: path.into(), source },
        })
    }

    /// Whether [`Folder::open`] would find `path` there and private; changes nothing.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn look(path: &Path) -> Result<bool, StateError> {
        match Self::judge(path) {
            Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn judge(path: &Path) -> Result<(), StateError> {
        let meta = fs::metadata(path).map_err(|source| StateError::Io { path: path.into(), source })?;
        match meta.mode() & 0o777 {
            mode if mode & 0o022 != 0 => Err(StateError::Open { path: path.into(), mode }),
            _ => Ok(()),
        }
    }

    /// What was saved. A file that makes no sense is moved aside and told as nothing.
    ///
    /// # Errors
    /// [`StateError::Io`] where the file exists and cannot be read at all.
    pub fn load(&self) -> Result<Option<Saved>, StateError> {
        let path = self.0.join(FILE);
        let io = |source| StateError::Io { path: path.clone(), source };
        let size = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io)?.len(),
        };
        let parsed = if size > MAX_BYTES {
            Err(format!("{size} bytes exceed {MAX_BYTES} bytes"))
        } else {
            let bytes = Zeroizing::new(fs::read(&path).map_err(io)?);
            serde_json::from_slice::<Saved>(&bytes).map_err(|e| e.to_string())
        };
        match parsed {
            Ok(saved) if saved.is_current() => Ok(Some(saved)),
            Ok(_) => self.move_aside("it is of another release"),
            Err(problem) => self.move_aside(&problem),
        }
    }

    /// Replaces what is saved.
    ///
    /// # Errors
    /// [`StateError::Io`]; the old file is then untouched.
    pub fn save(&self, saved: &Saved) -> Result<(), StateError> {
        let path = self.0.join(FILE);
        let io = |source| StateError::Io { path: path.clone(), source };
        let bytes = Zeroizing::new(serde_json::to_vec(saved).map_err(|e| io(io::Error::other(e)))?);
        file::write_atomic(&path, &bytes, 0o600).map_err(io)
    }

    fn move_aside(&self, problem: &str) -> Result<Option<Saved>, StateError> {
        let path = self.0.join(FILE);
        let aside = self.0.join(format!("{FILE}.corrupt-{}", clock::now()));
        fs::rename(&path, &aside).map_err(|source| StateError::Io { path: path.clone(), source })?;
        tracing::warn!(
            file = %path.display(), moved_to = %aside.display(), problem,
            "the saved state makes no sense; it was moved aside and the node attests again"
        );
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chancery_sdk::id::{SpiffeId, TrustDomain};
    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::{
        identity::TrustBundle,
        state::{SavedKey, SavedSvid},
    };

    fn bundle() -> TrustBundle {
        TrustBundle {
            trust_domain: TrustDomain::new("td.test").unwrap(),
            x509_authorities: vec![CertificateDer::from(vec![1, 2, 3])],
            jwt_authorities: Vec::new(),
            tainted: Default::default(),
            sequence_number: 7,
            refresh_hint: 60,
        }
    }

    fn saved() -> Saved {
        let svid = SavedSvid {
            id: SpiffeId::parse("spiffe://td.test/spire/agent/tpm/x").unwrap(),
            chain: vec![vec![4, 5]],
            key: SavedKey::Pkcs8(Zeroizing::new(vec![6])),
            reattestable: true,
        };
        Saved::new(vec![9; 32], &bundle(), Some(svid))
    }

    #[test]
    fn what_was_saved_is_loaded_and_the_file_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("data")).unwrap();
        assert!(folder.load().unwrap().is_none());
        folder.save(&saved()).unwrap();
        let loaded = folder.load().unwrap().unwrap();
        assert_eq!(loaded.bundle.open(&bundle().trust_domain).unwrap(), bundle());
        assert_eq!(loaded.svid.unwrap().chain, [[4, 5]]);
        let mode = fs::metadata(dir.path().join("data/node.json")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_corrupt_file_is_moved_aside_and_told_as_nothing() {
        for content in ["", "{", "{\"version\":1}", "\u{0}"] {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::open(dir.path()).unwrap();
            fs::write(dir.path().join(FILE), content).unwrap();
            assert!(folder.load().unwrap().is_none(), "{content:?}");
            let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert!(left.len() == 1 && left[0].to_string_lossy().contains("corrupt"), "{left:?}");
        }
    }

    #[test]
    fn a_bundle_of_another_domain_is_not_opened() {
        let other = TrustDomain::new("other.test").unwrap();
        assert!(saved().bundle.open(&other).is_none());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(Folder::open(dir.path()), Err(StateError::Open { mode: 0o770, .. })));
    }
}
