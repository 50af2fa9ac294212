//! This node as a witness of the CA's record: it keeps the newest checkpoint, and takes only what continues it.
//!
//! The record's log can be rewritten by whoever has the database and the log's key; not here. A checkpoint that is signed
//! by a pinned key and proved to continue the one that is kept takes its place; any other is refused, told in the log, in a
//! metric and to the CA, and agents are served all the same. Called by `sync`. Source: docs/RECORD.md; RFC 6962, 2.1.2.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use chancery_core::log::{
    Hash,
    checkpoint::{self, Checkpoint, CheckpointError},
    note::NoteError,
    proof::{Head, is_consistent},
};
use chancery_sdk::id::TrustDomain;
use thiserror::Error;

use self::file::{Keeper, Kept};
use crate::metrics::WorkloadMetrics;

/// Longest note that is taken; the CA's are of 250 bytes, and a witness adds some.
const MAX_NOTE_BYTES: usize = 8 * 1024;
/// Most keys that are pinned at first sight: a server has its own and those of the others.
const MAX_KEYS: usize = 32;
/// Most hashes of a proof: a tree of 2^53 leaves has fewer levels.
const MAX_PROOF: usize = 64;

/// A checkpoint as the CA tells it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offered {
    /// A signed note.
    pub note: Vec<u8>,
    /// Size of the tree that the proof begins from.
    pub from: u64,
    /// That the tree begins with that one.
    pub consistency: Vec<Hash>,
    /// Keys that sign this log, as the CA says.
    pub keys: Vec<[u8; 32]>,
}

/// How a node witnesses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose log.
    pub domain: TrustDomain,
    /// What is kept.
    pub file: PathBuf,
    /// The keys that an operator named; none: those of the first sight.
    pub keys: Vec<[u8; 32]>,
}

/// Why a checkpoint is refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Refusal {
    /// It is of another record.
    #[error("its first {0} events are not those that were witnessed here")]
    Another(u64),
    /// Events were taken away.
    #[error("it is of {offered} events, and {kept} were witnessed here: the newest were taken away")]
    Cut {
        /// What is kept.
        kept: u64,
        /// What came.
        offered: u64,
    },
    /// The log is an older one.
    #[error("it is of epoch {offered}, and epoch {kept} was witnessed here: the database is an older one")]
    Epoch {
        /// What is kept.
        kept: i64,
        /// What came.
        offered: i64,
    },
    /// A pinned key's signature does not verify.
    #[error("it is forged: {0}")]
    Forged(NoteError),
    /// Nobody signed it whose key is pinned.
    #[error("{0}; where the CA has a new key, name it in log_keys or take witness.json away")]
    Key(NoteError),
    /// It has no such form.
    #[error("{0}")]
    Malformed(CheckpointError),
    /// The proof does not begin from what is kept.
    #[error("the CA proves that it continues one of {from} events, and one of {kept} was witnessed here")]
    Unproven {
        /// What is kept.
        kept: u64,
        /// Where the proof begins.
        from: u64,
    },
}

impl Refusal {
    /// Its word in the report and the metric.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Another(_) => "another",
            Self::Cut { .. } => "cut",
            Self::Epoch { .. } => "epoch",
            Self::Forged(_) => "forged",
            Self::Key(_) => "key",
            Self::Malformed(_) => "malformed",
            Self::Unproven { .. } => "unproven",
        }
    }
}

/// What is told to the CA about a checkpoint that was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The note that is kept; empty for none.
    pub kept: Vec<u8>,
    /// The note that is refused.
    pub refused: Vec<u8>,
    /// [`Refusal::why`].
    pub why: &'static str,
}

/// Keeps the newest checkpoint.
#[derive(Debug)]
pub struct Witness {
    domain: TrustDomain,
    named: Vec<[u8; 32]>,
    keeper: Keeper,
    kept: Option<Kept>,
    /// A checkpoint of this stream was refused; what follows it continues that one.
    disputes: bool,
    metrics: WorkloadMetrics,
}

impl Witness {
    /// Goes on from what the file has.
    pub fn open(settings: Settings, metrics: WorkloadMetrics) -> Self {
        let Settings { domain, file, keys } = settings;
        let (keeper, kept) = Keeper::open(file, &domain);
        let this = Self { domain, named: keys, keeper, kept, disputes: false, metrics };
        this.show();
        this
    }

    /// The note that is kept, for a stream that is opened now; empty for none.
    pub fn begin(&mut self) -> Vec<u8> {
        self.disputes = false;
        self.kept.as_ref().map(|kept| kept.note.clone()).unwrap_or_default()
    }

    /// Takes what the CA tells; where it is refused, what is to be reported.
    pub fn take(&mut self, offered: Offered) -> Option<Report> {
        match self.judge(&offered) {
            Ok(None) => None,
            Ok(Some(kept)) => {
                self.disputes = false;
                self.metrics.log_disputed.set(0);
                self.keeper.save(&kept);
                self.kept = Some(kept);
                self.show();
                None
            }
            // Told already: the CA goes on from the one that was refused.
            Err(Refusal::Unproven { .. }) if self.disputes => None,
            Err(refusal) => {
                self.disputes = true;
                self.metrics.log_refused(refusal.why());
                tracing::error!(
                    why = %refusal,
                    "A CHECKPOINT OF THE CA'S RECORD IS REFUSED; the one that is kept stays, agents are served, and the CA is \
                     told: see docs/RECORD.md"
                );
                let kept = self.kept.as_ref().map(|kept| kept.note.clone()).unwrap_or_default();
                Some(Report { kept, refused: offered.note, why: refusal.why() })
            }
        }
    }

    /// What is kept instead; `None` where it is what is kept.
    fn judge(&self, offered: &Offered) -> Result<Option<Kept>, Refusal> {
        let (epoch, head) = self.read(&offered.note)?;
        let told = || offered.keys.iter().take(MAX_KEYS).copied().collect::<Vec<_>>();
        let pinned = self.kept.as_ref().map_or_else(told, |kept| kept.keys.clone());
        let keys = if self.named.is_empty() { pinned } else { self.named.clone() };
        let origin = checkpoint::origin(self.domain.name(), epoch);
        Checkpoint::open(&offered.note, &origin, &keys).map_err(|error| match error {
            CheckpointError::Note(forged @ NoteError::BadSignature(_)) => Refusal::Forged(forged),
            CheckpointError::Note(stranger @ NoteError::Untrusted(_)) => Refusal::Key(stranger),
            other => Refusal::Malformed(other),
        })?;
        let fresh = Kept { epoch, head, note: offered.note.clone(), keys, before: Vec::new() };
        let Some(kept) = &self.kept else {
            tracing::info!(epoch, size = head.size, "this node witnesses the CA's record from here on");
            return Ok(Some(fresh));
        };
        if epoch < kept.epoch {
            return Err(Refusal::Epoch { kept: kept.epoch, offered: epoch });
        }
        if epoch > kept.epoch {
            tracing::warn!(
                epoch,
                before = kept.epoch,
                size = kept.head.size,
                "the CA's record began a new epoch; if nobody restored its database, ask why: what was witnessed of the old \
                 one is kept in witness.json"
            );
            return Ok(Some(fresh.after(kept)));
        }
        continues(kept.head, head, offered)?;
        Ok((head != kept.head).then(|| Kept { before: kept.before.clone(), ..fresh }))
    }

    fn read(&self, note: &[u8]) -> Result<(i64, Head), Refusal> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(Refusal::Malformed(CheckpointError::Malformed("longer than 8 KiB")));
        }
        file::claimed(note, &self.domain).map_err(Refusal::Malformed)
    }

    fn show(&self) {
        let shown = self.kept.as_ref().map_or((0, 0), |kept| (kept.epoch, kept.head.size));
        self.metrics.log_epoch.set(shown.0);
        self.metrics.log_size.set(i64::try_from(shown.1).unwrap_or(i64::MAX));
    }
}

/// Whether what is offered begins with what is kept, of the same epoch.
fn continues(kept: Head, new: Head, offered: &Offered) -> Result<(), Refusal> {
    if new.size < kept.size {
        return Err(Refusal::Cut { kept: kept.size, offered: new.size });
    }
    if new.size > kept.size && offered.from != kept.size {
        return Err(Refusal::Unproven { kept: kept.size, from: offered.from });
    }
    let proof = if new.size == kept.size { &[] } else { offered.consistency.as_slice() };
    match proof.len() <= MAX_PROOF && is_consistent(kept, new, proof) {
        true => Ok(()),
        false => Err(Refusal::Another(kept.size)),
    }
}
