//! `witness.json`: what is kept, the keys that were pinned, and the last checkpoints of epochs that are over.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chancery_core::log::{
    checkpoint::{self, Checkpoint, CheckpointError},
    note::Note,
    proof::Head,
};
use chancery_daemon::{clock, file};
use chancery_sdk::id::TrustDomain;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::MAX_NOTE_BYTES;

/// Version of the file's form.
const VERSION: u32 = 1;
/// Epochs whose last checkpoint is kept; each is an operator's restore.
const MAX_BEFORE: usize = 16;
/// Largest file.
const MAX_BYTES: u64 = 1 << 20;

/// The newest checkpoint that was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Kept {
    pub(super) epoch: i64,
    pub(super) head: Head,
    pub(super) note: Vec<u8>,
    /// Keys that sign this log.
    pub(super) keys: Vec<[u8; 32]>,
    /// The last ones of epochs before, oldest first.
    pub(super) before: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    checkpoint: String,
    keys: Vec<String>,
    before: Vec<String>,
}

impl Kept {
    /// This one, in the place of an earlier epoch's.
    pub(super) fn after(mut self, old: &Self) -> Self {
        self.before = old.before.clone();
        self.before.push(String::from_utf8_lossy(&old.note).into_owned());
        let surplus = self.before.len().saturating_sub(MAX_BEFORE);
        self.before.drain(..surplus);
        self
    }

    fn write(&self) -> Vec<u8> {
        let form = Form {
            version: VERSION,
            checkpoint: String::from_utf8_lossy(&self.note).into_owned(),
            keys: self.keys.iter().map(hex::encode).collect(),
            before: self.before.clone(),
        };
        serde_json::to_vec_pretty(&form).unwrap_or_default()
    }

    fn read(bytes: &[u8], domain: &TrustDomain) -> Result<Self, String> {
        let form: Form = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if form.version != VERSION {
            return Err(format!("version {} is not {VERSION}", form.version));
        }
        let note = form.checkpoint.into_bytes();
        let (epoch, head) = claimed(&note, domain).map_err(|e| e.to_string())?;
        let key = |text: &String| hex::decode(text).ok().and_then(|key| key.try_into().ok());
        let keys: Option<Vec<_>> = form.keys.iter().map(key).collect();
        let keys = keys.ok_or("a key is not 64 hex digits")?;
        Ok(Self { epoch, head, note, keys, before: form.before })
    }
}

/// The log and the tree that a note of this domain claims.
pub(super) fn claimed(note: &[u8], domain: &TrustDomain) -> Result<(i64, Head), CheckpointError> {
    let claimed = Checkpoint::parse(Note::parse(note)?.unverified_text())?;
    let epoch = claimed.origin.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or(0);
    let wanted = checkpoint::origin(domain.name(), epoch);
    match claimed.origin == wanted {
        true => Ok((epoch, claimed.head)),
        false => Err(CheckpointError::Origin { found: claimed.origin, wanted }),
    }
}

/// Writes the file, apart from whoever decides: a disk that hangs must not hold back what is revoked.
#[derive(Debug)]
pub(super) struct Keeper {
    newest: watch::Sender<Option<Arc<Vec<u8>>>>,
}

impl Keeper {
    /// The keeper of a file, and what it has. A file that makes no sense is moved aside.
    pub(super) fn open(path: PathBuf, domain: &TrustDomain) -> (Self, Option<Kept>) {
        let kept = load(&path, domain).unwrap_or_else(|problem| {
            let aside = path.with_extension(format!("json.corrupt-{}", clock::now()));
            let moved = std::fs::rename(&path, &aside);
            tracing::error!(
                file = %path.display(), moved_to = %aside.display(), moved = moved.is_ok(), %problem,
                "what was witnessed of the CA's record makes no sense; this node begins anew"
            );
            None
        });
        let (newest, mut due) = watch::channel(None::<Arc<Vec<u8>>>);
        tokio::spawn(async move {
            while due.changed().await.is_ok() {
                let Some(bytes) = due.borrow_and_update().clone() else { continue };
                let to = path.clone();
                let written = tokio::task::spawn_blocking(move || file::write_atomic(&to, &bytes, 0o600)).await;
                if let Ok(Err(problem)) = written {
                    tracing::warn!(file = %path.display(), %problem, "what was witnessed is not on the disk yet");
                }
            }
        });
        (Self { newest }, kept)
    }

    /// Writes this soon; of several the last.
    pub(super) fn save(&self, kept: &Kept) {
        self.newest.send_replace(Some(Arc::new(kept.write())));
    }
}

fn load(path: &Path, domain: &TrustDomain) -> Result<Option<Kept>, String> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    if size > MAX_BYTES {
        return Err(format!("{size} bytes are more than {MAX_BYTES}"));
    }
    let kept = Kept::read(&std::fs::read(path).map_err(|e| e.to_string())?, domain)?;
    if kept.note.len() > MAX_NOTE_BYTES { Err("its note is too long".into()) } else { Ok(Some(kept)) }
}
