//! What a look into the key store means for a key of the journal. Pure; time is an argument.
//!
//! Run at start and every minute, never while a key is being made. Nothing here deletes a key that has no row, and
//! nothing gives up a key before it was missing for a while: a token that is half up shows no keys either.
//! Source: docs/decisions/0020.

use chancery_daemon::key_type::KeyType;
use chancery_sdk::time::UnixTime;

use crate::store::{KeyRecord, KeyState};

/// What the key store shows under a label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// Nothing, for less than the patience.
    Absent,
    /// Nothing, time and again.
    Gone,
    /// One key that signs: its public half and kind.
    Here(Vec<u8>, KeyType),
    /// A key with another public half than the journal's.
    Other,
    /// Several keys, half a pair, one that does not sign, or no answer: why.
    Unclear(String),
}

/// What is to be done about a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// It was never made.
    Abandon,
    /// Out of use for ever.
    Condemn(&'static str),
    /// Its time in the key store is over.
    Destroy,
    /// People are told; nothing is done.
    Fault(String),
    /// It is there again.
    Find,
    /// It is not there.
    Lose,
    /// It was made, and the journal does not know its public half yet.
    Record(Vec<u8>),
    /// Its authority is not to be trusted any more.
    Taint,
}

/// The action for one key; `None` where all is as the journal says.
pub(super) fn action(key: &KeyRecord, look: &Look, now: UnixTime) -> Option<Action> {
    match key.state {
        KeyState::Condemned => condemned(key, look, now),
        KeyState::Destroyed => late(key, look),
        KeyState::Generated => generated(key, look),
        KeyState::Generating => generating(key, look),
        KeyState::Lost => match look {
            Look::Here(spki, _) if key.spki.as_ref() == Some(spki) => Some(Action::Find),
            Look::Here(..) | Look::Other => fault(key, "another key is under the label of a lost one"),
            Look::Absent | Look::Gone | Look::Unclear(_) => None,
        },
        KeyState::Planned => match look {
            // Nobody asked the key store for it yet, so it is not ours to use or to delete.
            Look::Here(..) | Look::Other => fault(key, "a key is under the label of one that was not made yet"),
            Look::Absent | Look::Gone | Look::Unclear(_) => None,
        },
    }
}

fn generating(key: &KeyRecord, look: &Look) -> Option<Action> {
    match look {
        // The next one gets a label of its own: should this one turn up late, `late` knows it.
        Look::Absent | Look::Gone => Some(Action::Abandon),
        Look::Here(_, kind) if *kind != key.key_type => Some(Action::Condemn("made with another type than planned")),
        Look::Here(spki, _) => Some(Action::Record(spki.clone())),
        Look::Other => fault(key, "its public half changed while it was looked at"),
        Look::Unclear(what) => fault(key, what),
    }
}

fn generated(key: &KeyRecord, look: &Look) -> Option<Action> {
    match look {
        Look::Gone => Some(Action::Lose),
        // From before the journal.
        Look::Here(spki, _) if key.spki.is_none() => Some(Action::Record(spki.clone())),
        Look::Other => Some(Action::Taint),
        Look::Absent | Look::Here(..) | Look::Unclear(_) => None,
    }
}

fn condemned(key: &KeyRecord, look: &Look, now: UnixTime) -> Option<Action> {
    let due = key.keep_until.is_none_or(|until| now >= until);
    match look {
        Look::Other => fault(key, "not destroyed: its public half is not the recorded one"),
        Look::Unclear(_) => None,
        Look::Absent | Look::Gone | Look::Here(..) => due.then_some(Action::Destroy),
    }
}

/// A key that was given up before it was recorded, and that its slow store made after all: never used by anybody.
fn late(key: &KeyRecord, look: &Look) -> Option<Action> {
    match look {
        Look::Here(..) if key.spki.is_none() => Some(Action::Condemn("made after it was given up")),
        Look::Absent | Look::Gone | Look::Here(..) | Look::Other | Look::Unclear(_) => None,
    }
}

/// Each fault is told once.
fn fault(key: &KeyRecord, what: &str) -> Option<Action> {
    (key.note != what).then(|| Action::Fault(what.into()))
}

#[cfg(test)]
mod tests;
