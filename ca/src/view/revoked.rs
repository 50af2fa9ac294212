//! What is not to be accepted, as the log tells it: whoever follows keeps the same list.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use chancery_sdk::time::UnixTime;
use serde::Deserialize;

use crate::store::{Certificate, Logged, Revoked, What};

/// Rows from which on the list is looked through for those that have ended.
const TIDY_FROM: usize = 1024;

/// The list, in an order of its own.
#[derive(Debug, Default)]
pub(super) struct List {
    rows: BTreeSet<Arc<Revoked>>,
    certificates: HashSet<Certificate>,
    /// How long it is when it is looked through next.
    tidy_at: usize,
}

impl List {
    pub(super) fn of(rows: Vec<Revoked>) -> Self {
        let mut list = Self { tidy_at: TIDY_FROM.max(rows.len()), ..Self::default() };
        rows.into_iter().for_each(|row| list.put(Arc::new(row)));
        list
    }

    /// Twice is as once.
    pub(super) fn put(&mut self, row: Arc<Revoked>) {
        if let What::Certificate(certificate) = &row.what {
            self.certificates.insert(certificate.clone());
        }
        self.rows.insert(row);
        if self.rows.len() > self.tidy_at {
            self.tidy(chancery_daemon::clock::now());
        }
    }

    pub(super) fn names(&self, certificate: &Certificate) -> bool {
        self.certificates.contains(certificate)
    }

    /// What is valid by itself at `now`.
    pub(super) fn at(&self, now: UnixTime) -> Vec<Arc<Revoked>> {
        self.rows.iter().filter(|row| row.expires_at > now).map(Arc::clone).collect()
    }

    /// Lets go of what has ended; so the work for each row that comes stays the same however many there are.
    fn tidy(&mut self, now: UnixTime) {
        self.rows.retain(|row| row.expires_at > now);
        let certificate = |row: &Arc<Revoked>| match &row.what {
            What::Certificate(certificate) => Some(certificate.clone()),
            What::All | What::Tokens { .. } => None,
        };
        self.certificates = self.rows.iter().filter_map(certificate).collect();
        self.tidy_at = TIDY_FROM.max(self.rows.len() * 2);
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    expires_at: i64,
    #[serde(borrow)]
    authority: Option<Cow<'a, str>>,
    #[serde(borrow)]
    serial: Option<Cow<'a, str>>,
    issued_until: Option<i64>,
}

/// When the event was committed.
pub(super) fn committed_at(logged: &Logged) -> Option<UnixTime> {
    #[derive(Deserialize)]
    struct At {
        at: i64,
    }
    serde_json::from_slice::<At>(&logged.bytes).ok().map(|event| UnixTime(event.at))
}

/// What the event puts on the list, if anything.
pub(super) fn told(logged: &Logged) -> Option<Revoked> {
    if !matches!(logged.kind.as_str(), "instance.revoked" | "svid.revoked" | "tokens.revoked") {
        return None;
    }
    let Told { fields } = serde_json::from_slice(&logged.bytes).ok()?;
    let what = match logged.kind.as_str() {
        "instance.revoked" => What::All,
        "tokens.revoked" => What::Tokens { issued_until: UnixTime(fields.issued_until?) },
        _ => What::Certificate(Certificate {
            authority: fields.authority?.into_owned(),
            serial: fields.serial?.into_owned(),
        }),
    };
    Some(Revoked { subject: logged.subject.clone(), what, expires_at: UnixTime(fields.expires_at) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(serial: usize, expires_at: i64) -> Arc<Revoked> {
        let certificate = Certificate { authority: "aa".into(), serial: serial.to_string() };
        let subject = "spiffe://td/x".into();
        Arc::new(Revoked { subject, what: What::Certificate(certificate), expires_at: UnixTime(expires_at) })
    }

    #[test]
    fn what_has_ended_is_let_go_and_what_has_not_stays() {
        let now = chancery_daemon::clock::now();
        let mut list = List::of(Vec::new());
        for n in 0..3 * TIDY_FROM {
            let end = if n % 3 == 0 { now.plus(600).0 } else { now.plus(-1).0 };
            list.put(row(n, end));
        }
        assert!(list.rows.len() < 2 * TIDY_FROM + TIDY_FROM, "{} rows", list.rows.len());
        assert_eq!(list.at(now).len(), TIDY_FROM);
        let named = |n: usize| list.names(&Certificate { authority: "aa".into(), serial: n.to_string() });
        assert!((0..3 * TIDY_FROM).step_by(3).all(named));
        assert!(!named(1), "it has ended");
    }
}
