//! The TCG measured-boot log: parsed with limits, replayed, and believed only where a hash proves it.
//!
//! Replay proves PCR index, digest and order within one PCR. An event's type is never authenticated, its
//! data only where the data hashes to the digest; so each PCR we interpret has an expected sequence, and
//! what does not fit is refused, never skipped. Source: TCG PC Client Platform Firmware Profile 1.06, 10.

pub mod boot_apps;
pub mod event;
mod reader;
pub mod replay;
pub mod secure_boot;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{crypto::sha256, reason::Reason};

/// Largest log in bytes; real ones have 10 to 150 KiB.
pub const MAX_LOG_BYTES: usize = 1024 * 1024;
/// Most events; real logs have 30 to 600.
pub const MAX_EVENTS: usize = 4096;
/// Largest event data in bytes; dbx is the biggest known with about 25 KiB.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Why a log, or a statement in it, is not believed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LogError {
    /// No SHA-256 digests.
    #[error("the log has no SHA-256 digests")]
    Bank,
    /// Data that does not hash to its digest.
    #[error("event {0}: the data does not hash to the digest")]
    DataDigest(usize),
    /// Not parsable, or beyond a limit.
    #[error("event {at}: {what}")]
    Malformed {
        /// Number of the event, from 0 (the header).
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// An event that does not belong where it stands.
    #[error("event {at}: {what}")]
    Order {
        /// Number of the event.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl LogError {
    /// Its code where secure boot is judged.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Bank => Reason::LogBank,
            Self::DataDigest(_) => Reason::LogDataDigest,
            Self::Malformed { .. } => Reason::LogMalformed,
            Self::Order { .. } => Reason::LogSecureboot,
        }
    }
}

/// What a log says; true once `replayed` equals the quoted PCRs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFacts {
    /// SHA-256 of the log.
    pub digest: [u8; 32],
    /// SHA-256 PCRs the log leads to; PCRs without events are absent (all zero).
    pub replayed: BTreeMap<u32, [u8; 32]>,
    /// PCR 7.
    pub secure_boot: Result<secure_boot::SecureBoot, LogError>,
    /// PCR 4: Authenticode digests of what was started, in order.
    pub boot_apps: Result<Vec<[u8; 32]>, LogError>,
}

/// Parses, replays and interprets a log.
///
/// # Errors
/// [`LogError`] where the log as a whole is not readable; what one PCR says may still be an error inside.
pub fn examine(bytes: &[u8]) -> Result<LogFacts, LogError> {
    let events = event::parse(bytes)?;
    Ok(LogFacts {
        digest: sha256(&[bytes]),
        replayed: replay::replay(&events)?,
        secure_boot: secure_boot::read(&events),
        boot_apps: boot_apps::read(&events),
    })
}
