//! The journal of signing keys: rows, and the guarded steps from one state to the next.
//!
//! A key's row is written before the key exists and stays after it is destroyed, so that a key without a row is
//! always somebody else's. Source: research of PKCS#11 modules; docs/decisions/0020.

use chancery_daemon::key_type::KeyType;
use chancery_sdk::time::UnixTime;

use super::{AuthorityKind, record::words};

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// Out of use for ever; to be destroyed once nothing it signed is valid.
    Condemned,
    /// Out of the key store, or never made.
    Destroyed,
    /// In the key store; its public half is in the journal.
    Generated,
    /// About to be made: it is in the key store or not.
    Generating,
    /// Should be in the key store and is not.
    Lost,
    /// Wanted; nothing was asked of the key store yet.
    Planned,
}

words!(KeyState, "key state":
    Condemned = "condemned", Destroyed = "destroyed", Generated = "generated", Generating = "generating",
    Lost = "lost", Planned = "planned");

/// A key, as the journal knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRecord {
    /// Its name in the key store; at most 40 bytes.
    pub label: String,
    /// What it is for.
    pub kind: AuthorityKind,
    /// The server in whose key store it is.
    pub server: String,
    /// Its algorithm.
    pub key_type: KeyType,
    /// Where it is in its life.
    pub state: KeyState,
    /// Grows with every step; a step names the version it was decided on.
    pub version: i64,
    /// SubjectPublicKeyInfo, DER; `None` before it was generated.
    pub spki: Option<Vec<u8>>,
    /// When it was planned.
    pub planned_at: UnixTime,
    /// When it came into this state.
    pub changed_at: UnixTime,
    /// Condemned: not destroyed before.
    pub keep_until: Option<UnixTime>,
    /// Why it was condemned, or what is wrong with it; for people.
    pub note: String,
}

/// A key is wanted. Refused: `AlreadyExists(None)`, `TooManyKeys`.
#[derive(Clone, Debug)]
pub struct PlanKey {
    /// Its name, chosen before it exists.
    pub label: String,
    /// What it is for.
    pub kind: AuthorityKind,
    /// The server that will make it.
    pub server: String,
    /// Its algorithm.
    pub key_type: KeyType,
}

/// A step of a key's life. Refused: `NotFound`, `Stale` (another version or state), and as each step says.
#[derive(Clone, Debug)]
pub struct MoveKey {
    /// Which key.
    pub label: String,
    /// The version it was decided on.
    pub version: i64,
    /// To where.
    pub step: KeyStep,
}

/// A step of a key's life.
#[derive(Clone, Debug)]
pub enum KeyStep {
    /// Planned or generating -> destroyed: the key store has none.
    Abandon,
    /// Any state in which the key may be in its store -> condemned. Refused: `AuthorityPublished`.
    Condemn {
        /// Not destroyed before.
        keep_until: UnixTime,
        /// Why.
        why: &'static str,
    },
    /// Condemned -> destroyed; its revoked authority's row goes with it. Refused: `TooEarly`.
    Destroy {
        /// Now.
        now: UnixTime,
    },
    /// The state stays; people are told what is wrong.
    Fault {
        /// What is wrong.
        what: String,
    },
    /// Lost -> generated: it is there again.
    Find,
    /// Planned -> generating.
    Generate,
    /// Generated -> lost: three looks in a minute did not find it.
    Lose,
    /// Generating, or from before the journal -> generated. Refused: `KeyKnown`.
    Record {
        /// SubjectPublicKeyInfo, DER.
        spki: Vec<u8>,
    },
}
