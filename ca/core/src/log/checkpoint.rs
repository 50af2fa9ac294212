//! Checkpoints: what a log says of its tree, in three lines.
//!
//! Source: C2SP tlog-checkpoint. Our logs write no extension lines, and none are taken: a line that nobody here
//! understands could say anything.

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use super::{
    Hash, MAX_SIZE,
    note::{Note, NoteError, VerifierKey},
    proof::Head,
};

/// Longest origin.
const MAX_ORIGIN_BYTES: usize = 512;

/// Why a checkpoint is not taken.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum CheckpointError {
    /// Its text is not of the three lines.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It is another log's.
    #[error("of the log {found}, not of {wanted}")]
    Origin {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
}

/// What a log says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Which log: `<trust domain>/<epoch>`.
    pub origin: String,
    /// Its tree.
    pub head: Head,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, STANDARD.encode(self.head.root))
    }

    /// Reads a note's text; only the one form that [`Checkpoint::text`] writes is one.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Malformed("fewer than three lines"));
        };
        if origin.is_empty() || origin.len() > MAX_ORIGIN_BYTES {
            return Err(CheckpointError::Malformed("no origin, or one of more than 512 bytes"));
        }
        let size = size.parse().ok().filter(|size| *size <= MAX_SIZE);
        let size = size.ok_or(CheckpointError::Malformed("the second line is no size up to 2^53"))?;
        let root: Option<Hash> = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok());
        let root = root.ok_or(CheckpointError::Malformed("the third line is no hash in base64"))?;
        let checkpoint = Self { origin: origin.into(), head: Head { size, root } };
        match checkpoint.text() == text {
            true => Ok(checkpoint),
            false => Err(CheckpointError::Malformed("more than three lines, or a size in another form")),
        }
    }

    /// Reads a signed checkpoint of the log `origin`, signed by one of `trusted` under that name.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(note: &[u8], origin: &str, trusted: &[[u8; 32]]) -> Result<Self, CheckpointError> {
        let keys: Result<Vec<_>, _> = trusted.iter().map(|public| VerifierKey::new(origin, *public)).collect();
        let note = Note::parse(note)?;
        // Whose it is comes first: another log's signatures are of no key of this one.
        let claimed = Self::parse(note.unverified_text())?;
        if claimed.origin != origin {
            return Err(CheckpointError::Origin { found: claimed.origin, wanted: origin.into() });
        }
        note.verify(&keys?)?;
        Ok(claimed)
    }
}

/// Name of the log of an epoch.
pub fn origin(trust_domain: &str, epoch: i64) -> String {
    format!("{trust_domain}/{epoch}")
}

#[cfg(test)]
mod tests;
