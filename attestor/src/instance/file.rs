use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use chancery_core::class::ClassName;
use chancery_daemon::file::write_atomic;
use chancery_sdk::id::SpiffeId;
use serde::{Deserialize, Serialize};

use crate::peer::StartToken;

/// Largest file read; 10,000 instances of 300 bytes fit.
const MAX_BYTES: u64 = 8 << 20;

/// What survives the attestor: which process is which instance. No key, no SVID.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Where to look for the process.
    pub pid: i32,
    /// Which process it must be; 64 hex digits.
    pub start_token: String,
    /// Its SPIFFE ID.
    pub instance_id: SpiffeId,
    /// Its class.
    pub class: String,
}

impl Record {
    pub(super) fn token(&self) -> Option<StartToken> {
        StartToken::from_hex(&self.start_token)
    }

    pub(super) fn class(&self) -> Option<ClassName> {
        ClassName::new(&self.class).ok()
    }
}

#[derive(Default, Deserialize, Serialize)]
struct Content {
    live: Vec<Record>,
}

/// The file of live instances, mode 0600, replaced by rename.
pub struct StateFile {
    path: PathBuf,
    /// Guards the file: a copy of the list is taken and written under it, so that an older one never comes last.
    writing: Mutex<()>,
}

impl StateFile {
    /// The file at `path`; it need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path, writing: Mutex::default() }
    }

    /// The records of an earlier run; none where there is no file. Blocks.
    ///
    /// # Errors
    /// The file system's, or `InvalidData` for a file that is not ours.
    pub fn read(&self) -> io::Result<Vec<Record>> {
        let size = match std::fs::metadata(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?.len(),
        };
        if size > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{size} bytes exceed {MAX_BYTES} bytes")));
        }
        let content: Content = serde_json::from_slice(&std::fs::read(&self.path)?)?;
        Ok(content.live)
    }

    /// Replaces the records by what `list` gives. Blocks.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, list: impl FnOnce() -> Vec<Record>) -> io::Result<()> {
        let _guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = serde_json::to_vec(&Content { live: list() })?;
        write_atomic(&self.path, &bytes, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn records_read_back_from_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path().join("instances.json"));
        assert_eq!(file.read().unwrap(), []);
        let record = Record {
            pid: 7,
            start_token: "00".repeat(32),
            instance_id: "spiffe://example.org/agent/a/x".parse().unwrap(),
            class: "a".into(),
        };
        file.write(|| vec![record.clone()]).unwrap();
        assert_eq!(file.read().unwrap(), [record]);
        assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn file_that_is_not_ours_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path().join("instances.json"));
        std::fs::write(&file.path, "{\"live\":[{\"pid\":1}]}").unwrap();
        assert!(file.read().is_err());
    }
}
