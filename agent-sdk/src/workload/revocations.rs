//! Revocations as our attestor tells them, between the wire and the vocabulary.

use chancery_proto::chancery::agent::v1::{self as wire, WatchRevocationsResponse};

use crate::{
    revocation::{Hold, Revocation, Scope},
    time::UnixTime,
};

/// Rows of the list of revocations; they are added to those before.
#[derive(Clone, Debug)]
pub struct RevocationsUpdate {
    /// In the order they were told.
    pub rows: Vec<Revocation>,
    /// Holds, each the newest word on its ID.
    pub holds: Vec<Hold>,
    /// Every hold of now begins here, and goes on while `more`: those that were told before are void.
    pub holds_begin: bool,
    /// Whether more of the list as it is now follows at once.
    pub more: bool,
}

impl RevocationsUpdate {
    /// Reads a message. A row of a scope we do not know is left out: the others must not wait for it.
    pub(super) fn read(message: WatchRevocationsResponse) -> Self {
        let rows = message.revocations.into_iter().filter_map(revocation).collect();
        let holds = message.holds.into_iter().map(hold).collect();
        Self { rows, holds, holds_begin: message.holds_begin, more: message.more }
    }
}

/// Reads a row; `None` for a scope we do not know.
pub fn revocation(row: wire::Revocation) -> Option<Revocation> {
    let scope = match row.scope() {
        wire::Scope::All => Scope::All,
        wire::Scope::Certificate => {
            Scope::Certificate { authority: row.authority_id.clone(), serial: row.serial_number.clone() }
        }
        wire::Scope::Tokens => Scope::Tokens { issued_until: UnixTime(row.issued_until) },
        wire::Scope::Unspecified => {
            tracing::error!(id = row.spiffe_id, scope = row.scope, "a revocation of unknown scope is not followed");
            return None;
        }
    };
    Some(Revocation { id: row.spiffe_id, scope, expires_at: UnixTime(row.expires_at) })
}

/// Reads a hold.
pub fn hold(hold: wire::Hold) -> Hold {
    Hold { id: hold.spiffe_id, until: (hold.until != 0).then_some(UnixTime(hold.until)) }
}

/// Writes a hold.
pub fn write_hold(hold: Hold) -> wire::Hold {
    wire::Hold { spiffe_id: hold.id, until: hold.until.map_or(0, |until| until.0) }
}

/// Writes a row.
pub fn write_revocation(row: &Revocation) -> wire::Revocation {
    let mut out =
        wire::Revocation { spiffe_id: row.id.clone(), expires_at: row.expires_at.0, ..wire::Revocation::default() };
    match &row.scope {
        Scope::All => out.set_scope(wire::Scope::All),
        Scope::Certificate { authority, serial } => {
            out.set_scope(wire::Scope::Certificate);
            (out.authority_id, out.serial_number) = (authority.clone(), serial.clone());
        }
        Scope::Tokens { issued_until } => {
            out.set_scope(wire::Scope::Tokens);
            out.issued_until = issued_until.0;
        }
    }
    out
}
