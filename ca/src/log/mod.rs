//! The record as a transparency log: one server at a time follows the events, cuts them into tiles and signs.
//!
//! Behind the commit and never in its way: an SVID waits for its event, and no event waits for its leaf. The tree is
//! verified while it grows; where the record is not what it was, nothing more is signed, and `/ready` says so. Source:
//! docs/RECORD.md; docs/decisions/0080 to 0083.

mod build;
pub mod files;
pub mod key;
mod lease;
pub mod report;
pub mod serve;
mod signer;
pub mod verify;
pub mod witness;

use std::sync::{Arc, OnceLock};

use chancery_core::log::{checkpoint, proof::Head};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{config::Config, state::State, store::LastTree};

/// How the log does, and the word to its signer.
#[derive(Debug)]
pub struct LogStatus {
    /// What is wrong, for `/ready`.
    problem: watch::Sender<Option<String>>,
    /// What a node proved to be wrong, for `/ready`; until the next start.
    disputed: watch::Sender<Option<String>>,
    /// Events in the last checkpoint that was signed here and shown.
    shown: watch::Sender<u64>,
    /// The newest checkpoint in our folder, whoever signed it.
    newest: watch::Sender<Option<Arc<Shown>>>,
    /// What nodes are told of it.
    told: watch::Sender<Option<Arc<witness::Told>>>,
    /// Which nodes reported one, and when.
    reports: report::Reports,
    /// The key that this server signs with.
    own_key: OnceLock<[u8; 32]>,
    /// Said once the doors are closed: sign what there is, and end.
    last_call: CancellationToken,
    /// Whether the signer ended; true also where none runs.
    ended: watch::Sender<bool>,
}

/// A checkpoint in our folder, with its tiles.
#[derive(Debug)]
pub struct Shown {
    /// The log.
    pub epoch: i64,
    /// Its tree.
    pub head: Head,
    /// The signed note.
    pub note: Vec<u8>,
    folder: files::Folder,
}

impl Default for LogStatus {
    fn default() -> Self {
        Self {
            problem: watch::Sender::new(None),
            disputed: watch::Sender::new(None),
            shown: watch::Sender::new(0),
            newest: watch::Sender::new(None),
            told: watch::Sender::new(None),
            reports: report::Reports::default(),
            own_key: OnceLock::new(),
            last_call: CancellationToken::new(),
            ended: watch::Sender::new(true),
        }
    }
}

impl LogStatus {
    /// What is wrong with the record, or with its files for too long.
    pub fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.subscribe()
    }

    /// What is wrong, whoever found it.
    pub fn fault(&self) -> Option<String> {
        self.disputed.borrow().clone().or_else(|| self.problem.borrow().clone())
    }

    /// What a node proved to be wrong with the record.
    pub fn disputed(&self) -> watch::Receiver<Option<String>> {
        self.disputed.subscribe()
    }

    /// Public keys that sign this log: our own, and those that are configured. Sorted by nothing, each once.
    pub fn keys(&self, config: &Config) -> Vec<[u8; 32]> {
        let own = self.own_key.get().copied();
        let others = trusted(config).into_iter().filter(|key| Some(*key) != own);
        own.into_iter().chain(others).collect()
    }

    /// Events in the last checkpoint that this server signed.
    pub fn shown(&self) -> watch::Receiver<u64> {
        self.shown.subscribe()
    }

    /// Waits until the last checkpoint is signed; no event follows any more.
    pub async fn finish(&self) {
        self.last_call.cancel();
        // The sender is ours: it cannot be gone.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// Starts the signer, where the configuration wants one.
///
/// # Errors
/// [`key::LogKeyError`].
pub fn start(state: &Arc<State>) -> Result<(), key::LogKeyError> {
    if !state.config.log.enabled {
        return Ok(());
    }
    let signing_key = key::LogKey::open(&state.config.log_key_file())?;
    // The only one to set it.
    let _ = state.log.own_key.set(signing_key.public());
    state.log.ended.send_replace(false);
    tokio::spawn(witness::tell(Arc::clone(state)));
    tokio::spawn(signer::Signer::new(Arc::clone(state), signing_key).run());
    Ok(())
}

/// Name of an epoch's log.
pub fn origin(config: &Config, epoch: i64) -> String {
    checkpoint::origin(&config.trust_domain.to_string(), epoch)
}

/// The public keys whose checkpoints are believed beside our own.
pub fn trusted(config: &Config) -> Vec<[u8; 32]> {
    config.log.trusted_keys.iter().map(|key| *key.public()).collect()
}

/// The tree of the last checkpoint in the log's folder that our key signed: what a restored database may lack.
///
/// # Errors
/// Whatever the file system says, or a key that cannot be read.
pub fn last_shown(config: &Config) -> Result<Option<LastTree>, Box<dyn std::error::Error>> {
    let own = key::LogKey::read(&config.log_key_file())?.map(|key| key.public());
    let keys: Vec<_> = own.into_iter().chain(trusted(config)).collect();
    let entries = match std::fs::read_dir(config.log_dir()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut last: Option<LastTree> = None;
    for entry in entries {
        let Some(epoch) = entry?.file_name().to_str().and_then(|name| name.parse::<i64>().ok()) else { continue };
        let Some(note) = files::Folder::new(&config.log_dir(), epoch).checkpoint()? else { continue };
        // One of a stranger says nothing of us.
        let Ok(opened) = checkpoint::Checkpoint::open(&note, &origin(config, epoch), &keys) else { continue };
        if last.is_none_or(|last| last.epoch < epoch) {
            last = Some(LastTree { epoch, head: opened.head });
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests;
