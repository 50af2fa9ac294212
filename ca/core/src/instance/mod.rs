//! Instances: one run of an agent class each, never reused, never restarted.

mod decide;
mod hold;

pub use decide::{
    Bars, Begin, BeginFacts, InstanceError, Issuance, MAX_LIVE_PER_NODE, MAX_PROCESS_SELECTORS, begin,
    is_hardware_proven, jwt, renew,
};
pub use hold::{Cap, DETECTOR_REST_SECS, DetectorFacts, HoldSpan, HoldSpanError, MAX_HOLD_SECS, may_detector_hold};

use std::{fmt, str::FromStr};

use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::{class::ClassName, node::CertRef};

/// Whether an instance may act.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Its process is gone, or its node; for ever.
    Ended,
    /// Running.
    Good,
    /// An operator's act; for ever.
    Revoked,
}

impl Standing {
    /// The word in the database, in events and on the CLI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Good => "good",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Standing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ended" => Ok(Self::Ended),
            "good" => Ok(Self::Good),
            "revoked" => Ok(Self::Revoked),
            other => Err(format!("unknown standing '{other}'")),
        }
    }
}

/// An instance as the store keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// `spiffe://TD/agent/<class>/<uuidv7>`.
    pub id: SpiffeId,
    /// Its class.
    pub class: ClassName,
    /// The node it runs on.
    pub node_id: SpiffeId,
    /// SHA-256 naming the process on its node.
    pub start_token: [u8; 32],
    /// Whether it may act.
    pub standing: Standing,
    /// When it began.
    pub begun_at: UnixTime,
    /// When it ended; `None` while running.
    pub ended_at: Option<UnixTime>,
    /// `process-ended`, `reconciled`, `new-boot`, `node-silent`, `operator`, or what revoked it: `instance-revoked`,
    /// `class-closed`, `executable-revoked`, `node-revoked`, `node-banned`, `node-failed`, `node-evicted`; empty while running.
    pub end_reason: String,
    /// Its newest SVID.
    pub newest: CertRef,
    /// End of its newest hold, which may be over.
    pub held_until: Option<UnixTime>,
}

impl Instance {
    /// Until when nothing new is issued for it, where it is held at `now`.
    pub fn held(&self, now: UnixTime) -> Option<UnixTime> {
        self.held_until.filter(|until| *until > now)
    }
}
