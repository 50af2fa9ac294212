//! `audit verify`: the database, the tiles and the checkpoints against each other, without a running CA.
//!
//! Streaming: pages of the record are read ahead while the ones before are judged, each event once, in order. It stops at
//! the first difference of each epoch and names it. What it proves and what not: docs/RECORD.md.

mod heads;
mod walk;

use std::{io, path::PathBuf};

use chancery_core::log::{
    checkpoint::{Checkpoint, CheckpointError},
    note::{Note, NoteError},
    proof::Head,
};
use thiserror::Error;

use self::{heads::Heads, walk::Walk};
use super::{
    files::Folder,
    key::{LogKey, LogKeyError},
    origin, trusted,
};
use crate::{
    config::Config,
    store::{LastTree, Store, StoreError},
};

/// Rows read at once.
const PAGE: u32 = 4096;

/// Why nothing was verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// A file of ours.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log's key.
    #[error(transparent)]
    Key(#[from] LogKeyError),
    /// No key is known.
    #[error("no key to verify checkpoints with: {0} is not there, and log.trusted_keys is empty")]
    NoKey(PathBuf),
    /// The checkpoint to compare with is not one of ours.
    #[error("--since: {0}")]
    Since(CheckpointError),
    /// The database.
    #[error("database: {}", crate::run::chain(.0))]
    Store(#[from] StoreError),
    /// The thread that verifies ended without a word.
    #[error("verifying ended without an answer")]
    Died,
}

/// A difference: the first of its epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The log.
    pub epoch: i64,
    /// The event, where it is one.
    pub event: Option<i64>,
    /// What is wrong.
    pub what: String,
}

/// An epoch that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Epoch {
    /// The log.
    pub epoch: i64,
    /// Events judged.
    pub events: u64,
    /// The newest checkpoint by a key that is trusted here; its events are vouched for.
    pub vouched: u64,
    /// Checkpoints compared.
    pub checkpoints: usize,
}

/// What `audit verify` came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The epochs, in order.
    pub epochs: Vec<Epoch>,
    /// What differs; empty: nothing.
    pub findings: Vec<Finding>,
    /// What can not be seen, and what is no fault.
    pub notes: Vec<String>,
}

/// What is verified with.
struct Judge {
    config: Config,
    keys: Vec<[u8; 32]>,
    /// The trees that an operator gave up for a restored database.
    given_up: Vec<LastTree>,
}

/// A checkpoint whose form holds.
struct Opened {
    head: Head,
    /// Who signed it, where that is nobody trusted here.
    stranger: Option<String>,
}

impl Judge {
    fn open(&self, note: &[u8], epoch: i64) -> Result<Opened, CheckpointError> {
        match Checkpoint::open(note, &origin(&self.config, epoch), &self.keys) {
            Ok(checkpoint) => Ok(Opened { head: checkpoint.head, stranger: None }),
            Err(CheckpointError::Note(NoteError::Untrusted(by))) => {
                let claimed = Checkpoint::parse(Note::parse(note)?.unverified_text())?;
                Ok(Opened { head: claimed.head, stranger: Some(by) })
            }
            Err(other) => Err(other),
        }
    }
}

/// Verifies every epoch. `since`: a checkpoint kept elsewhere. `progress` is told how many events are done.
///
/// # Errors
/// [`VerifyError`]: nothing is known then.
pub async fn verify(
    store: &Store,
    config: &Config,
    since: Option<&[u8]>,
    progress: impl Fn(u64),
) -> Result<Report, VerifyError> {
    let own = LogKey::read(&config.log_key_file())?.map(|key| key.public());
    let keys: Vec<_> = own.into_iter().chain(trusted(config)).collect();
    if keys.is_empty() {
        return Err(VerifyError::NoKey(config.log_key_file()));
    }
    let judge = Judge { config: config.clone(), keys, given_up: given_up(store).await? };
    let since = since.map(|note| since_of(&judge, note)).transpose()?;
    let (mut report, mut last, mut done) = (Report::default(), -1, 0);
    while let Some(epoch) = store.next_epoch(last).await? {
        one(store, &judge, epoch, since, &mut report, |events| progress(done + events)).await?;
        done += report.epochs.last().map_or(0, |epoch| epoch.events);
        last = epoch;
    }
    if let Some((epoch, head)) = since.filter(|(epoch, _)| report.epochs.iter().all(|seen| seen.epoch != *epoch)) {
        let what = format!("the whole epoch is gone: the checkpoint of --since is of {} of its events", head.size);
        report.findings.push(Finding { epoch, event: None, what });
    }
    if since.is_none() {
        report.notes.push(
            "without --since, a checkpoint kept elsewhere, it cannot be seen whether the newest events were dropped together \
             with their checkpoints"
                .into(),
        );
    }
    Ok(report)
}

/// The trees that first events of epochs name: their loss was accepted with `restore-accept`.
async fn given_up(store: &Store) -> Result<Vec<LastTree>, VerifyError> {
    let (mut trees, mut last) = (Vec::new(), -1);
    while let Some(epoch) = store.next_epoch(last).await? {
        let first = store.record(epoch, -1, 1).await?.pop();
        trees.extend(first.and_then(|row| tree_in(&row.bytes)).filter(|tree| tree.epoch < epoch));
        last = epoch;
    }
    Ok(trees)
}

fn tree_in(event: &[u8]) -> Option<LastTree> {
    let json: serde_json::Value = serde_json::from_slice(event).ok()?;
    let fields = json.get("fields")?;
    let root = hex::decode(fields.get("log_root")?.as_str()?).ok()?.try_into().ok()?;
    let head = Head { size: fields.get("log_size")?.as_u64()?, root };
    Some(LastTree { epoch: fields.get("log_epoch")?.as_i64()?, head })
}

/// Whose epoch a checkpoint is of, and what it says; only one of a trusted key is worth anything.
fn since_of(judge: &Judge, note: &[u8]) -> Result<(i64, Head), VerifyError> {
    let claimed =
        Note::parse(note).map_err(CheckpointError::from).and_then(|note| Checkpoint::parse(note.unverified_text()));
    let claimed = claimed.map_err(VerifyError::Since)?;
    let epoch = claimed.origin.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok()).unwrap_or(0);
    let opened = Checkpoint::open(note, &origin(&judge.config, epoch), &judge.keys).map_err(VerifyError::Since)?;
    Ok((epoch, opened.head))
}

async fn one(
    store: &Store,
    judge: &Judge,
    epoch: i64,
    since: Option<(i64, Head)>,
    report: &mut Report,
    progress: impl Fn(u64),
) -> Result<(), VerifyError> {
    // In this order: beside a running CA each of these is newer than the one before.
    let folder = Folder::new(&judge.config.log_dir(), epoch);
    let shown = folder.checkpoint().map_err(|source| VerifyError::File { path: folder.path().into(), source })?;
    let mut heads = Heads::gather(store, judge, epoch, shown.as_deref()).await?;
    // What is committed from here on is not looked at.
    let end = store.log_end().await?;
    let until = (end.epoch == epoch).then_some(end.number);
    if let Some((_, head)) = since.filter(|(of, _)| *of == epoch) {
        heads.expect(head, "the checkpoint of --since");
    }
    let (checkpoints, vouched, notes) = (heads.count(), heads.vouched(), heads.take_notes());
    let mut finding = heads.take_finding();
    let mut walk = Walk::new(epoch, heads, folder);
    if finding.is_none() {
        (walk, finding) = walked(store, walk, epoch, until, progress).await?;
    }
    let events = walk.events();
    if finding.is_none() {
        finding = walk.finish(until);
    }
    if finding.is_none()
        && let Some(until) = until
    {
        finding = beyond(store, epoch, until).await?;
    }
    report.notes.extend(notes.into_iter().map(|note| format!("epoch {epoch}: {note}")));
    if finding.is_none() && events > vouched {
        let (first, last) = (vouched, events - 1);
        report.notes.push(format!(
            "epoch {epoch}: events {first} to {last} are after the last checkpoint: nothing vouches for them yet"
        ));
    }
    report.epochs.push(Epoch { epoch, events, vouched: vouched.min(events), checkpoints });
    report.findings.extend(finding.map(|(event, what)| Finding { epoch, event, what }));
    Ok(())
}

/// A number of an event, and what is wrong with it; or with the epoch.
type Fault = (Option<i64>, String);

/// Follows the rows, the next page on its way while one is judged.
async fn walked(
    store: &Store,
    mut walk: Walk,
    epoch: i64,
    until: Option<i64>,
    progress: impl Fn(u64),
) -> Result<(Walk, Option<Fault>), VerifyError> {
    let page = |after: i64| {
        let store = store.clone();
        tokio::spawn(async move {
            let rows = store.record(epoch, after, PAGE).await?;
            let last = rows.last().map_or(after, |row| row.number);
            let clear = store.clear_values(epoch, after, last).await?;
            Ok::<_, StoreError>((rows, clear))
        })
    };
    let mut coming = page(-1);
    loop {
        let (mut rows, clear) = coming.await.map_err(|_| VerifyError::Died)??;
        let Some(last) = rows.last().map(|row| row.number) else { return Ok((walk, None)) };
        if let Some(until) = until {
            rows.retain(|row| row.number <= until);
        }
        let at_end = until.is_some_and(|until| last >= until);
        coming = page(last);
        let judged = tokio::task::spawn_blocking(move || {
            let fault = walk.take(&rows, &clear);
            (walk, fault)
        });
        let fault;
        (walk, fault) = judged.await.map_err(|_| VerifyError::Died)?;
        progress(walk.events());
        if fault.is_some() || at_end {
            coming.abort();
            return Ok((walk, fault));
        }
    }
}

/// A row that no server wrote: its number is none that the counter gave away.
async fn beyond(store: &Store, epoch: i64, until: i64) -> Result<Option<Fault>, VerifyError> {
    // Rows first: what a running server commits meanwhile is below the counter that is read after them.
    let Some(row) = store.record(epoch, until, PAGE).await?.pop() else { return Ok(None) };
    let end = store.log_end().await?;
    let planted = end.epoch == epoch && row.number > end.number;
    Ok(planted.then(|| (Some(row.number), format!("planted: the last number that was given away is {}", end.number))))
}
