//! A trace out of the record: two scans of it by pages, beside a running CA and never in its way.
//!
//! Nothing is indexed for it, so that issuing pays nothing; what it costs is about that of `audit verify`, twice. Proofs are
//! made from the tiles of the log's folder.

use std::collections::BTreeMap;

use chancery_core::{
    log::{checkpoint::Checkpoint, proof},
    trace::{
        Collector, Finder, Place, Role, Seen, Target,
        bundle::{Bundle, Clear, Proved, VERSION},
    },
};
use serde_json::Value;
use thiserror::Error;

use crate::{
    config::Config,
    log::{
        files::Folder,
        key::{LogKey, LogKeyError},
        origin, trusted,
    },
    store::{ClearValue, RecordRow, Store, StoreError},
};

/// Rows read at once.
const PAGE: u32 = 4096;

/// Why there is no trace.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The log's key.
    #[error(transparent)]
    Key(#[from] LogKeyError),
    /// Nothing in the record has that name.
    #[error("the record has nothing of {0}")]
    Nothing(String),
    /// The database.
    #[error("database: {}", crate::run::chain(.0))]
    Store(#[from] StoreError),
}

/// What is kept of an event.
struct Found {
    role: Role,
    bytes: Vec<u8>,
    clear: Vec<ClearValue>,
}

/// Reads the record twice. `progress` is told how many events were read.
///
/// # Errors
/// [`TraceError`].
pub async fn trace(
    store: &Store,
    config: &Config,
    target: Target,
    asked: &str,
    mut progress: impl FnMut(u64),
) -> Result<Bundle, TraceError> {
    // Before the scan: what it covers was committed before.
    let folders = folders(store, config).await?;
    let wants_clear = matches!(target, Target::Process { .. });
    let needle = target.needle().to_owned();
    let mut finder = Finder::new(target);
    let mut read = 0;
    let mut scan = Scan::default();
    while let Some(rows) = scan.next(store).await? {
        let clear = if wants_clear { clear_of(store, &rows).await? } else { Vec::new() };
        for row in rows.iter().filter(|row| contains(&row.bytes, &needle)) {
            look(row, &clear, |seen| finder.take(seen));
        }
        read += rows.len() as u64;
        progress(read);
    }
    let mut collector = finder.collector().ok_or_else(|| TraceError::Nothing(asked.to_owned()))?;
    let mut kept = BTreeMap::new();
    let mut scan = Scan::default();
    while let Some(rows) = scan.next(store).await? {
        collect(store, &mut collector, &rows, &mut kept).await?;
        read += rows.len() as u64;
        progress(read);
    }
    let cut = collector.is_cut();
    let roles = collector.end();
    kept.retain(|place, found: &mut Found| roles.get(place).is_some_and(|role| *role == found.role));
    Ok(bundle(asked, cut, kept, &folders))
}

/// Takes what belongs to the trace out of a page.
async fn collect(
    store: &Store,
    collector: &mut Collector,
    rows: &[RecordRow],
    kept: &mut BTreeMap<Place, Found>,
) -> Result<(), TraceError> {
    let mut places = Vec::new();
    for row in rows {
        look(row, &[], |seen| {
            if collector.take(seen) {
                places.push(row);
            }
        });
    }
    if places.is_empty() {
        return Ok(());
    }
    let mut clear = clear_of(store, rows).await?;
    let roles = collector.roles();
    for row in places {
        let place = (row.epoch, row.number);
        let Some(role) = roles.get(&place).copied() else { continue };
        let (own, others) = clear.into_iter().partition(|value: &ClearValue| value.number == row.number);
        clear = others;
        kept.insert(place, Found { role, bytes: row.bytes.clone(), clear: own });
    }
    Ok(())
}

/// Clear values of a page of one epoch.
async fn clear_of(store: &Store, rows: &[RecordRow]) -> Result<Vec<ClearValue>, StoreError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    store.clear_values(first.epoch, first.number - 1, last.number).await
}

/// Shows an event, unless somebody else wrote it: `audit verify` names those.
fn look(row: &RecordRow, clear: &[ClearValue], see: impl FnOnce(&Seen<'_>)) {
    let Ok(json) = serde_json::from_slice::<Value>(&row.bytes) else { return };
    let own = clear.iter().filter(|value| value.number == row.number);
    let clear: Vec<_> = own.map(|value| (value.field.clone(), value.value.clone())).collect();
    see(&Seen { place: (row.epoch, row.number), json: &json, clear: &clear });
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains(needle))
}

/// The record from its first event, a page of one epoch at a time.
#[derive(Default)]
struct Scan {
    at: Option<Place>,
}

impl Scan {
    async fn next(&mut self, store: &Store) -> Result<Option<Vec<RecordRow>>, StoreError> {
        if let Some((epoch, after)) = self.at {
            let rows = store.record(epoch, after, PAGE).await?;
            if let Some(last) = rows.last() {
                self.at = Some((epoch, last.number));
                return Ok(Some(rows));
            }
        }
        let Some(epoch) = store.next_epoch(self.at.map_or(-1, |(epoch, _)| epoch)).await? else { return Ok(None) };
        self.at = Some((epoch, -1));
        // An epoch of checkpoints alone has no events: the one after it.
        Box::pin(self.next(store)).await
    }
}

/// By epoch: its tiles, and the checkpoint that they are of.
type Folders = BTreeMap<i64, (Folder, Vec<u8>, Checkpoint)>;

async fn folders(store: &Store, config: &Config) -> Result<Folders, TraceError> {
    let own = LogKey::read(&config.log_key_file())?.map(|key| key.public());
    let keys: Vec<_> = own.into_iter().chain(trusted(config)).collect();
    let (mut folders, mut last) = (Folders::new(), -1);
    while let Some(epoch) = store.next_epoch(last).await? {
        last = epoch;
        let folder = Folder::new(&config.log_dir(), epoch);
        let Ok(Some(note)) = folder.checkpoint() else { continue };
        if let Ok(checkpoint) = Checkpoint::open(&note, &origin(config, epoch), &keys) {
            folders.insert(epoch, (folder, note, checkpoint));
        }
    }
    Ok(folders)
}

fn bundle(asked: &str, cut: bool, kept: BTreeMap<Place, Found>, folders: &Folders) -> Bundle {
    let used: std::collections::BTreeSet<i64> = kept.keys().map(|(epoch, _)| *epoch).collect();
    let notes = folders.iter().filter(|(epoch, _)| used.contains(epoch));
    let checkpoints = notes.map(|(_, (_, note, _))| String::from_utf8_lossy(note).into_owned()).collect();
    let events = kept.into_iter().map(|(place, found)| proved(place, found, folders)).collect();
    Bundle { version: VERSION, asked: asked.to_owned(), cut, checkpoints, events }
}

fn proved((epoch, number): Place, found: Found, folders: &Folders) -> Proved {
    let proof = folders.get(&epoch).and_then(|(folder, _, checkpoint)| {
        let index = u64::try_from(number).ok()?;
        proof::inclusion(index, checkpoint.head.size, |tile| folder.read(tile)).ok()
    });
    let clear = found.clear.into_iter().map(|clear| Clear {
        field: clear.field,
        salt: hex::encode(clear.salt),
        value: clear.value,
    });
    Proved {
        role: found.role.as_str().into(),
        event: String::from_utf8_lossy(&found.bytes).into_owned(),
        proof: proof.map(|hashes| hashes.iter().map(hex::encode).collect()),
        clear: clear.collect(),
    }
}
