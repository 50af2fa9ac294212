//! What looks wrong about a running instance: it is in two places at once, or it is denied again and again.
//!
//! Pure: the time comes as an argument, what was seen is kept in bounded tables. A detector has no hands: it answers
//! [`Evidence`], and what becomes of that is decided elsewhere. Callers see to it that only calls of the instance's own
//! attested node come here, so that nobody raises suspicion against another's.

mod denials;
mod places;
mod recent;

// The type alone: nothing here opens a socket.
use core::net::IpAddr;
use std::{collections::BTreeSet, fmt, str::FromStr};

use chancery_sdk::time::UnixTime;

pub use denials::{Denials, MAX_DENIALS};
pub use places::{PLACES_WINDOW_SECS, Places};

/// After a detector has told of an instance it tells nothing of it for so long: whoever reads it needs time.
const QUIET_SECS: i64 = 300;
/// Servers' threads look at the clock before they take the table, so that times may come in another order.
const DISORDER_SECS: i64 = 60;

/// Which of the built-in detectors.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Detector {
    /// A burst of denials.
    Denials,
    /// Calls from two places by turns.
    TwoPlaces,
}

impl Detector {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Denials, Self::TwoPlaces];

    /// The word in the record, in the database and on the CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denials => "denials",
            Self::TwoPlaces => "two_places",
        }
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Detector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|one| one.name() == text).ok_or_else(|| format!("unknown detector '{text}'"))
    }
}

/// Why a detector thinks that something is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// Calls from those places, or denials.
    pub count: u64,
    /// The first of them.
    pub first: UnixTime,
    /// The last of them.
    pub last: UnixTime,
    /// Addresses it was seen at; a fact about persons. Empty where the detector does not look at them.
    pub places: BTreeSet<IpAddr>,
}

/// What an operator says of a proposal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing was wrong.
    FalseAlarm,
    /// Something was.
    Incident,
}

impl Verdict {
    /// The word in the record, in the database and on the CLI.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FalseAlarm => "false-alarm",
            Self::Incident => "incident",
        }
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [Self::FalseAlarm, Self::Incident].into_iter().find(|one| one.name() == text);
        known.ok_or_else(|| format!("unknown verdict '{text}': use incident or false-alarm"))
    }
}

/// How long an incident went on: from `began` to the first of what contained it, or to the review; as (began, end).
///
/// What contained it before it began, as a hold that lasts, makes it none.
pub fn dwell(
    began: UnixTime,
    contained: impl IntoIterator<Item = UnixTime>,
    reviewed: UnixTime,
) -> (UnixTime, UnixTime) {
    let began = began.min(reviewed);
    let end = contained.into_iter().min().unwrap_or(reviewed).min(reviewed);
    (began, end.max(began))
}

/// Whether something of `then` counts at `now`: within the window, and not from before the clock was set back.
fn counts(then: UnixTime, now: UnixTime, window_secs: i64) -> bool {
    (-DISORDER_SECS..window_secs).contains(&now.since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_ends_with_what_contained_it_first_or_with_its_review() {
        let t = UnixTime;
        for (began, contained, reviewed, want) in [
            (10, vec![], 90, (10, 90)),
            (10, vec![50, 40], 90, (10, 40)),
            (10, vec![5], 90, (10, 10)),
            (95, vec![], 90, (90, 90)),
            (10, vec![99], 90, (10, 90)),
        ] {
            let got = dwell(t(began), contained.iter().copied().map(t), t(reviewed));
            assert_eq!(got, (t(want.0), t(want.1)), "{began} {contained:?} {reviewed}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for one in Detector::ALL {
            assert_eq!(one.name().parse(), Ok(one));
        }
        for one in [Verdict::FalseAlarm, Verdict::Incident] {
            assert_eq!(one.name().parse(), Ok(one));
        }
        assert!("revoke".parse::<Verdict>().is_err() && "x".parse::<Detector>().is_err());
    }
}
