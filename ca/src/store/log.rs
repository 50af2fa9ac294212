//! Who signs the record's checkpoints, and what was signed: see `crate::log`.

use chancery_core::log::proof::Head;
use chancery_sdk::id::SpiffeId;

/// Who signs, as the database has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLease {
    /// The server; empty: none.
    pub server: String,
    /// Its run, as in its claim.
    pub nonce: String,
    /// Grows with every new holder.
    pub fence: i64,
}

/// A signed checkpoint, as the database has it: nothing of it is to be believed before its note was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredCheckpoint {
    /// The log.
    pub epoch: i64,
    /// Its events.
    pub size: i64,
    /// Hash of the tree; 32 bytes unless somebody else wrote it.
    pub root: Vec<u8>,
    /// The signed note.
    pub note: Vec<u8>,
}

/// A run of a server signs from now on. Refused: `Stale` (the lease changed since it was read).
#[derive(Clone, Debug)]
pub struct TakeLog {
    /// The lease that it replaces.
    pub over: LogLease,
    /// The server.
    pub server: String,
    /// Its run.
    pub nonce: String,
    /// The key it signs with, for the record.
    pub key: String,
}

/// The run signs no more. Refused: `Stale` (it has the lease no more).
#[derive(Clone, Debug)]
pub struct LeaveLog {
    /// Its number in the lease.
    pub fence: i64,
}

/// A checkpoint, before anybody is shown it.
///
/// Refused: `Stale` (another lease or epoch), `CheckpointOther` (the last one is not `before`).
#[derive(Clone, Debug)]
pub struct StoreCheckpoint {
    /// The signer's number in the lease.
    pub fence: i64,
    /// The log.
    pub epoch: i64,
    /// The last one stored; `None`: the first of its epoch.
    pub before: Option<Head>,
    /// The new one, of more events, and of no more than there are.
    pub head: Head,
    /// The signed note.
    pub note: Vec<u8>,
}

/// A node refuses a checkpoint. Never refused.
#[derive(Clone, Debug)]
pub struct DisputeLog {
    /// Who.
    pub node: SpiffeId,
    /// Its reason, of a closed set.
    pub why: &'static str,
    /// What we make of it.
    pub verdict: &'static str,
    /// What it keeps: the log and its tree.
    pub kept: Option<(i64, Head)>,
    /// What it refuses.
    pub refused: Option<(i64, Head)>,
}

/// The last tree of an epoch's log that somebody still knows of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LastTree {
    /// The log.
    pub epoch: i64,
    /// Its tree.
    pub head: Head,
}

/// The clear value of a fact about a person, as it is.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct ClearValue {
    /// Of which event.
    pub number: i64,
    /// The fact.
    pub field: String,
    /// Goes before the value into the digest.
    pub salt: Vec<u8>,
    /// The value.
    pub value: String,
}

/// A row of the record as it is, whatever it is.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct RecordRow {
    /// The log.
    pub epoch: i64,
    /// Its place.
    pub number: i64,
    /// Seconds since 1970.
    pub at: i64,
    /// Who wrote it.
    pub server: String,
    /// What happened.
    pub kind: String,
    /// To whom.
    pub subject: String,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// The leaf.
    pub hash: Vec<u8>,
}

/// Where names occur in a stretch of the log, which begins where the last one ended.
#[derive(Clone, Debug)]
pub struct IndexLog {
    /// Epoch and first number that was in none.
    pub after: (i64, i64),
    /// Epoch of the stretch, and the first number that is not in it.
    pub until: (i64, i64),
    /// Its first number.
    pub first: i64,
    /// Rows, by shard.
    pub rows: Vec<IndexRow>,
}

/// A shard of a stretch.
#[derive(Clone, Debug)]
pub struct IndexRow {
    /// 0 to 63: the upper bits of a name's hash.
    pub shard: i64,
    /// When the last of what its events issued ends; 0 = nothing.
    pub ends_at: i64,
    /// Hashes with the places of their events, 10 bytes each.
    pub places: Vec<u8>,
}
