//! Who is held, as the log tells it: nodes and peers are told, whoever's instance it is.

use std::collections::BTreeMap;

use chancery_sdk::time::UnixTime;
use serde::Deserialize;

use crate::store::Logged;

/// What the log says last of an instance.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Held {
    /// SPIFFE ID of the instance.
    pub subject: String,
    /// End of its hold; `None` = it was released.
    pub until: Option<UnixTime>,
}

/// Every hold in force, by instance; some that are over.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<String, UnixTime>);

impl Holds {
    pub(super) fn of(held: impl IntoIterator<Item = (String, UnixTime)>) -> Self {
        Self(held.into_iter().collect())
    }

    /// Takes the newest word on an instance; what is over at `now` goes: none lasts longer than 15 minutes.
    pub(super) fn put(&mut self, held: Held, now: UnixTime) {
        self.0.retain(|_, until| *until > now);
        match held.until {
            Some(until) => drop(self.0.insert(held.subject, until)),
            None => drop(self.0.remove(&held.subject)),
        }
    }

    /// End of the hold in force at `now`.
    pub(super) fn one(&self, subject: &str, now: UnixTime) -> Option<UnixTime> {
        self.0.get(subject).copied().filter(|until| *until > now)
    }

    /// What is in force at `now`, in the order of the ID.
    pub(super) fn at(&self, now: UnixTime) -> Vec<Held> {
        let held = |(subject, until): (&String, &UnixTime)| Held { subject: subject.clone(), until: Some(*until) };
        self.0.iter().filter(|(_, until)| **until > now).map(held).collect()
    }
}

#[derive(Deserialize)]
struct Told {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    until: i64,
}

/// What the event says of a hold, if anything.
pub(super) fn told(logged: &Logged) -> Option<Held> {
    let subject = logged.subject.clone();
    match logged.kind.as_str() {
        "instance.held" => {
            let Told { fields } = serde_json::from_slice(&logged.bytes).ok()?;
            Some(Held { subject, until: Some(UnixTime(fields.until)) })
        }
        "instance.released" => Some(Held { subject, until: None }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1000);

    fn held(subject: &str, secs: i64) -> Held {
        Held { subject: subject.into(), until: Some(NOW.plus(secs)) }
    }

    #[test]
    fn a_hold_is_in_force_until_its_end_its_replacement_or_its_release() {
        let mut holds = Holds::default();
        for one in [held("a", 60), held("b", 60), held("c", 1), held("a", 90)] {
            holds.put(one, NOW);
        }
        holds.put(Held { subject: "b".into(), until: None }, NOW);
        assert_eq!(holds.at(NOW), [held("a", 90), held("c", 1)]);
        assert_eq!((holds.one("a", NOW), holds.one("b", NOW)), (Some(NOW.plus(90)), None));
        assert_eq!((holds.one("c", NOW.plus(1)), holds.at(NOW.plus(90))), (None, Vec::new()));
        holds.put(held("d", 100), NOW.plus(90));
        assert_eq!(holds.0.len(), 1, "what is over takes no room");
    }
}
