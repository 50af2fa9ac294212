//! What every row of the record must be: the next number, canonical bytes, their hash, and columns that say the same.
//!
//! Whoever can write to the database can make a row that passes; then its leaf is another one, and the tree says so.

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use super::Hash;
use crate::{
    crypto::sha256,
    event::{SCHEMA, leaf_hash},
};

/// Seconds by which a server's clock may have been set back between two of its events.
pub const SKEW_SECS: i64 = 60;
/// Most servers of one epoch whose clocks are remembered.
const MAX_SERVERS: usize = 65_536;
/// The keys of an event's JSON.
const KEYS: [&str; 8] = ["at", "epoch", "fields", "kind", "number", "schema", "server", "subject"];

/// A row as the database has it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The log it belongs to.
    pub epoch: i64,
    /// Its place.
    pub number: i64,
    /// Seconds since 1970.
    pub at: i64,
    /// Who wrote it.
    pub server: &'a str,
    /// What happened.
    pub kind: &'a str,
    /// To whom.
    pub subject: &'a str,
    /// Canonical JSON.
    pub bytes: &'a [u8],
    /// The leaf.
    pub hash: &'a [u8],
}

/// What is wrong with a row.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RowFault {
    /// Its time lies before that of an earlier event of the same server.
    #[error(
        "back-dated: its time {at} is {secs} s before that of event {before}, of the same server {server}; \
         {SKEW_SECS} s are allowed", secs = earlier - at
    )]
    BackDated {
        /// Its time.
        at: i64,
        /// The other one's number.
        before: i64,
        /// And time.
        earlier: i64,
        /// The server.
        server: String,
    },
    /// A column says something else than the bytes.
    #[error("edited: its column {0} differs from its bytes")]
    Column(&'static str),
    /// Numbers are missing before it.
    #[error("missing: the next one there is {found}")]
    Gap {
        /// The number of the row found instead.
        found: i64,
    },
    /// The hash is not that of the bytes.
    #[error("edited: its hash is not that of its bytes")]
    Hash,
    /// The bytes are not what a server writes.
    #[error("edited: its bytes are not canonical JSON of an event")]
    NotCanonical,
    /// A version this program does not know.
    #[error("written with version {0} of the schema, which this program does not know; use a newer one")]
    Schema(u64),
    /// More servers than there ever are.
    #[error("edited: more than {MAX_SERVERS} servers wrote to this epoch")]
    Servers,
}

/// Follows the rows of one epoch in their order.
#[derive(Clone, Debug)]
pub struct Chain {
    epoch: i64,
    next: i64,
    /// By server: the latest time, and the event it is of.
    latest: BTreeMap<String, (i64, i64)>,
}

impl Chain {
    /// Of the epoch, from its first row.
    pub fn new(epoch: i64) -> Self {
        Self { epoch, next: 0, latest: BTreeMap::new() }
    }

    /// The number that the next row must have.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Judges the next row; its leaf.
    ///
    /// # Errors
    /// [`RowFault`], of the event that [`Chain::next`] says.
    pub fn follow(&mut self, row: Row<'_>) -> Result<Hash, RowFault> {
        if row.number != self.next || row.epoch != self.epoch {
            return Err(RowFault::Gap { found: row.number });
        }
        let leaf = leaf_hash(row.bytes);
        if leaf != *row.hash {
            return Err(RowFault::Hash);
        }
        columns(row)?;
        self.clock(row)?;
        self.next += 1;
        Ok(leaf)
    }

    fn clock(&mut self, row: Row<'_>) -> Result<(), RowFault> {
        let Some(latest) = self.latest.get_mut(row.server) else {
            if self.latest.len() == MAX_SERVERS {
                return Err(RowFault::Servers);
            }
            self.latest.insert(row.server.to_owned(), (row.at, row.number));
            return Ok(());
        };
        let (earlier, before) = *latest;
        if row.at < earlier.saturating_sub(SKEW_SECS) {
            return Err(RowFault::BackDated { at: row.at, before, earlier, server: row.server.to_owned() });
        }
        if row.at >= earlier {
            *latest = (row.at, row.number);
        }
        Ok(())
    }
}

/// Compares the columns with the bytes, which must be canonical.
fn columns(row: Row<'_>) -> Result<(), RowFault> {
    let json: Value = serde_json::from_slice(row.bytes).map_err(|_| RowFault::NotCanonical)?;
    // Keys in order and once, no blanks, one form of each number and string: docs/decisions/0004.
    if json.to_string().as_bytes() != row.bytes {
        return Err(RowFault::NotCanonical);
    }
    let Some(object) = json.as_object() else { return Err(RowFault::NotCanonical) };
    let value = |name: &str| object.get(name).unwrap_or(&Value::Null);
    if !object.keys().map(String::as_str).eq(KEYS) || !value("fields").is_object() {
        return Err(RowFault::NotCanonical);
    }
    match value("schema").as_u64() {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => return Err(RowFault::Schema(schema)),
        None => return Err(RowFault::NotCanonical),
    }
    let numbers = [("number", row.number), ("epoch", row.epoch), ("at", row.at)];
    let texts = [("kind", row.kind), ("server", row.server), ("subject", row.subject)];
    let other_number =
        numbers.iter().find(|(name, expected)| value(name).as_i64() != Some(*expected)).map(|(name, _)| *name);
    let other_text =
        texts.iter().find(|(name, expected)| value(name).as_str() != Some(*expected)).map(|(name, _)| *name);
    other_number.or(other_text).map_or(Ok(()), |name| Err(RowFault::Column(name)))
}

/// Whether a clear value is the one whose salted digest is in the event: it may be erased, and not altered.
#[must_use]
pub fn is_clear_value(event: &[u8], field: &str, salt: &[u8], value: &str) -> bool {
    let Ok(json) = serde_json::from_slice::<Value>(event) else { return false };
    let digest = json.get("fields").and_then(|fields| fields.get(field)?.get("salted_sha256")?.as_str());
    digest == Some(hex::encode(sha256(&[salt, value.as_bytes()])).as_str())
}

#[cfg(test)]
mod tests;
