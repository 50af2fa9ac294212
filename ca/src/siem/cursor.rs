//! How far an output has come: a file of its own, replaced whole.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use chancery_daemon::file::write_atomic;
use serde::{Deserialize, Serialize};

/// The last event that the other side has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Place {
    epoch: i64,
    number: i64,
}

/// A cursor, and its file.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    place: Place,
}

impl Cursor {
    /// The cursor of that output; before the first event where there is none yet.
    ///
    /// # Errors
    /// One line: a file that makes no sense is not begun anew, because somebody has to know.
    pub(super) fn open(data_dir: &Path, name: &str) -> Result<Self, String> {
        let folder = data_dir.join("siem");
        let path = folder.join(format!("{name}.json"));
        let told = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| told(&e))?;
        let place = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| told(&format!("{e}; take it away to send the whole record once more")))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Place { epoch: 0, number: -1 },
            Err(e) => return Err(told(&e)),
        };
        Ok(Self { path, place })
    }

    /// Epoch and number of the last event that was delivered.
    pub(super) fn place(&self) -> (i64, i64) {
        (self.place.epoch, self.place.number)
    }

    /// Goes on to there.
    ///
    /// # Errors
    /// One line; then what was delivered is delivered once more.
    pub(super) fn step(&mut self, epoch: i64, number: i64) -> Result<(), String> {
        let place = Place { epoch, number };
        let told = |what: &dyn std::fmt::Display| format!("{}: {what}", self.path.display());
        let bytes = serde_json::to_vec(&place).map_err(|e| told(&e))?;
        // A hundred bytes: not worth a thread of its own.
        write_atomic(&self.path, &bytes, 0o600).map_err(|e| told(&e))?;
        self.place = place;
        Ok(())
    }
}
