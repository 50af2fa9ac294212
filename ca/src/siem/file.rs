//! JSON lines in a file, on the disk before the cursor moves. May be moved away at any time: each page opens it anew.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::form::Form;
use crate::store::StoredEvent;

/// The file.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
}

impl Lines {
    pub(super) fn open(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) async fn deliver(&self, form: &Form, events: &[StoredEvent]) -> Result<(), String> {
        let text: String = events.iter().map(|event| form.write(event).line + "\n").collect();
        let path = self.path.clone();
        let told = self.path.display().to_string();
        let written = tokio::task::spawn_blocking(move || append(&path, text.as_bytes())).await;
        written.map_err(|died| died.to_string())?.map_err(|e| format!("{told}: {e}"))
    }
}

fn append(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    // What a crash or a full disk left of a line is ended, so that the next one is whole.
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(text)?;
    file.sync_data()
}
