//! What is revoked before its end: certificates by issuer and serial, IDs as a whole, tokens by ID and time.
//!
//! A list of revocations is only ever added to: nothing takes one back, it ends by itself. Who is held is another matter: that
//! is a set which is replaced, for a hold ends soon and can be released. No I/O, and time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rustls_pki_types::CertificateDer;

use crate::{
    time::UnixTime,
    x509::{authority_key_id, serial_decimal},
};

/// Rows from which on a list is looked through for those that have ended.
const TIDY_FROM: usize = 256;

/// What of an ID is revoked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Scope {
    /// Everything that was ever issued for it.
    All,
    /// One certificate.
    Certificate {
        /// Lower-case hex of its issuer's key identifier.
        authority: String,
        /// Decimal.
        serial: String,
    },
    /// JWT-SVIDs issued up to this moment.
    Tokens {
        /// The last second of issuing that is hit.
        issued_until: UnixTime,
    },
}

/// One row of a list.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Revocation {
    /// The SPIFFE ID.
    pub id: String,
    /// What of it.
    pub scope: Scope,
    /// From then on it is valid no more by itself.
    pub expires_at: UnixTime,
}

/// What was told of a hold.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Hold {
    /// SPIFFE ID of the instance.
    pub id: String,
    /// Nobody is to accept it before this second; `None` = it was released.
    pub until: Option<UnixTime>,
}

/// A list, with what is needed to look somebody up.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// In the order they came.
    rows: Vec<Arc<Revocation>>,
    /// How often rows that have ended were taken out, so that places in `rows` mean something else.
    tidied: u64,
    all: HashMap<String, UnixTime>,
    /// By (authority, serial).
    certificates: HashMap<(String, String), UnixTime>,
    /// ID -> last second of issuing that is hit.
    tokens: HashMap<String, UnixTime>,
    tidy_at: usize,
    /// ID -> end of its hold; some may be over.
    held: BTreeMap<String, UnixTime>,
}

impl Revocations {
    /// Adds rows; answers those that were not there and have not ended at `now`.
    pub fn add(&mut self, rows: impl IntoIterator<Item = Revocation>, now: UnixTime) -> Vec<Arc<Revocation>> {
        let mut new = Vec::new();
        for row in rows.into_iter().filter(|row| row.expires_at > now) {
            if !self.holds(&row) {
                let row = Arc::new(row);
                self.index(&row);
                self.rows.push(Arc::clone(&row));
                new.push(row);
            }
        }
        if self.rows.len() > self.tidy_at.max(TIDY_FROM) {
            self.tidy(now);
        }
        new
    }

    /// Whether nothing is revoked and nobody held.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.held.is_empty()
    }

    /// The rows, in the order they came.
    pub fn rows(&self) -> &[Arc<Revocation>] {
        &self.rows
    }

    /// How often rows that have ended were taken out: a place in [`rows`](Self::rows) is one while this stays.
    pub fn tidied(&self) -> u64 {
        self.tidied
    }

    /// Whether a peer of this ID with these certificates is not to be accepted.
    pub fn refuses(&self, id: &str, chain: &Names) -> bool {
        self.all.contains_key(id) || chain.0.iter().any(|name| self.certificates.contains_key(name))
    }

    /// Whether a token of this ID is not to be accepted. One that does not say when it was issued may be any.
    pub fn refuses_token(&self, id: &str, issued_at: Option<UnixTime>) -> bool {
        let hit = |until: &UnixTime| issued_at.is_none_or(|at| at <= *until);
        self.all.contains_key(id) || self.tokens.get(id).is_some_and(hit)
    }

    /// Takes the newest word on some holds, in order; whether anything is different. What is over at `now` goes.
    pub fn hold(&mut self, told: impl IntoIterator<Item = Hold>, now: UnixTime) -> bool {
        let mut held = self.held.clone();
        for Hold { id, until } in told {
            match until {
                Some(until) => drop(held.insert(id, until)),
                None => drop(held.remove(&id)),
            }
        }
        held.retain(|_, until| *until > now);
        let different = held != self.held;
        self.held = held;
        different
    }

    /// Lets go of every hold but those of `told`; whether anything is different.
    pub fn hold_only(&mut self, told: impl IntoIterator<Item = Hold>, now: UnixTime) -> bool {
        let before = std::mem::take(&mut self.held);
        self.hold(told, now);
        self.held != before
    }

    /// Until when the ID is held, if it is at `now`: nobody is to accept it, whatever it shows.
    pub fn held(&self, id: &str, now: UnixTime) -> Option<UnixTime> {
        self.held.get(id).copied().filter(|until| *until > now)
    }

    /// Every hold by its ID; some may be over.
    pub fn every_hold(&self) -> &BTreeMap<String, UnixTime> {
        &self.held
    }

    fn holds(&self, row: &Revocation) -> bool {
        match &row.scope {
            Scope::All => self.all.get(&row.id).is_some_and(|end| *end >= row.expires_at),
            Scope::Certificate { authority, serial } => {
                self.certificates.contains_key(&(authority.clone(), serial.clone()))
            }
            Scope::Tokens { issued_until } => {
                let later = self.tokens.get(&row.id).is_some_and(|until| until >= issued_until);
                later && self.rows.iter().any(|held| **held == *row)
            }
        }
    }

    fn index(&mut self, row: &Revocation) {
        match &row.scope {
            Scope::All => drop(self.all.insert(row.id.clone(), row.expires_at)),
            Scope::Certificate { authority, serial } => {
                self.certificates.insert((authority.clone(), serial.clone()), row.expires_at);
            }
            Scope::Tokens { issued_until } => {
                let until = self.tokens.entry(row.id.clone()).or_insert(*issued_until);
                *until = (*until).max(*issued_until);
            }
        }
    }

    /// Lets go of what has ended; so the work for each row that comes stays the same however many there are.
    fn tidy(&mut self, now: UnixTime) {
        let rows = std::mem::take(&mut self.rows);
        let before = rows.len();
        let tidied = self.tidied;
        *self = Self { held: std::mem::take(&mut self.held), ..Self::default() };
        for row in rows.into_iter().filter(|row| row.expires_at > now) {
            self.index(&row);
            self.rows.push(row);
        }
        self.tidied = if self.rows.len() == before { tidied } else { tidied + 1 };
        self.tidy_at = self.rows.len() * 2;
    }
}

/// Issuer and serial of each certificate of a chain, as a list names them.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// Reads the names of a chain, leaf first; a certificate that does not say who issued it has none.
    ///
    /// A server that has an issuer of its own below its authority names its leaves by the authority, so each serial goes
    /// with every issuer above. Serials are 128 random bits: another certificate's is never met.
    pub fn of(chain: &[CertificateDer<'_>]) -> Self {
        let read = |der: &CertificateDer<'_>| (authority_key_id(der).map(|id| hex(&id)), serial_decimal(der));
        let read: Vec<_> = chain.iter().map(read).collect();
        let mut names = Vec::new();
        for (at, (_, serial)) in read.iter().enumerate() {
            let issuers = read.iter().skip(at).filter_map(|(issuer, _)| issuer.clone());
            names.extend(issuers.filter_map(|issuer| Some((issuer, serial.clone()?))));
        }
        Self(names)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |four: u8| DIGITS.get(usize::from(four)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    fn row(id: &str, scope: Scope, secs: i64) -> Revocation {
        Revocation { id: id.into(), scope, expires_at: NOW.plus(secs) }
    }

    fn certificate(serial: usize) -> Scope {
        Scope::Certificate { authority: "aa".into(), serial: serial.to_string() }
    }

    fn names(serial: usize) -> Names {
        Names(vec![("aa".into(), serial.to_string())])
    }

    fn tokens(at: i64) -> Scope {
        Scope::Tokens { issued_until: NOW.plus(at) }
    }

    #[test]
    fn a_certificate_an_id_and_tokens_are_refused_each_by_its_own_row() {
        let mut list = Revocations::default();
        assert!(list.is_empty() && !list.refuses("spiffe://td/a", &names(1)));
        list.add([row("spiffe://td/a", certificate(1), 60), row("spiffe://td/b", Scope::All, 60)], NOW);
        list.add([row("spiffe://td/c", tokens(-5), 60)], NOW);
        assert!(list.refuses("spiffe://td/a", &names(1)));
        assert!(!list.refuses("spiffe://td/a", &names(2)), "another certificate of the ID");
        assert!(!list.refuses("spiffe://td/a", &Names(vec![("ab".into(), "1".into())])), "another issuer's serial");
        assert!(list.refuses("spiffe://td/b", &names(9)) && list.refuses_token("spiffe://td/b", Some(NOW.plus(50))));
        assert!(!list.refuses("spiffe://td/c", &names(9)), "its certificates are others");
        assert!(list.refuses_token("spiffe://td/c", Some(NOW.plus(-5))) && list.refuses_token("spiffe://td/c", None));
        assert!(!list.refuses_token("spiffe://td/c", Some(NOW.plus(-4))), "issued afterwards");
        assert!(!list.refuses_token("spiffe://td/a", None));
    }

    #[test]
    fn what_was_told_before_is_not_new_and_what_has_ended_is_not_taken() {
        let mut list = Revocations::default();
        let rows = || {
            let all = [row("a", certificate(1), 60), row("b", Scope::All, 60), row("c", tokens(0), 60)];
            all.into_iter().chain([row("d", certificate(2), 0)])
        };
        assert_eq!(list.add(rows(), NOW).len(), 3);
        assert!(list.add(rows(), NOW).is_empty());
        assert!(!list.refuses("d", &names(2)));
        assert_eq!(list.add([row("c", tokens(9), 60)], NOW).len(), 1, "later tokens of the same ID");
        list.add([row("c", tokens(3), 60)], NOW);
        assert!(list.refuses_token("c", Some(NOW.plus(9))), "the later word stays");
    }

    #[test]
    fn a_long_list_lets_go_of_what_has_ended_and_of_nothing_else() {
        let mut list = Revocations::default();
        for n in 0..4 * TIDY_FROM {
            let secs = if n % 2 == 0 { 1 } else { 10_000 };
            let now = NOW.plus(i64::try_from(n).unwrap());
            let expires_at = now.plus(secs);
            list.add([Revocation { expires_at, ..row("x", certificate(n), 0) }], now);
        }
        assert!(list.tidied() > 0 && list.rows().len() < 4 * TIDY_FROM);
        assert!((1..4 * TIDY_FROM).step_by(2).all(|n| list.refuses("x", &names(n))));
        assert!(!list.refuses("x", &names(0)));
    }

    fn hold(id: &str, secs: i64) -> Hold {
        Hold { id: id.into(), until: Some(NOW.plus(secs)) }
    }

    #[test]
    fn a_hold_is_refused_until_its_end_its_replacement_or_its_release() {
        let mut list = Revocations::default();
        assert!(list.hold([hold("a", 60), hold("b", 60), hold("c", 0)], NOW));
        assert!(!list.is_empty() && !list.hold([hold("a", 60)], NOW), "told again");
        assert_eq!((list.held("a", NOW), list.held("c", NOW)), (Some(NOW.plus(60)), None));
        assert!(!list.refuses("a", &names(1)), "nothing of it is revoked");
        assert_eq!((list.held("a", NOW.plus(59)), list.held("a", NOW.plus(60))), (Some(NOW.plus(60)), None));
        assert!(list.hold([hold("a", 30), Hold { id: "b".into(), until: None }], NOW));
        assert_eq!((list.held("a", NOW), list.held("b", NOW)), (Some(NOW.plus(30)), None));
        assert!(list.hold_only([hold("d", 60)], NOW) && !list.hold_only([hold("d", 60)], NOW));
        assert_eq!((list.held("a", NOW), list.held("d", NOW)), (None, Some(NOW.plus(60))));
        assert!(list.hold([hold("e", 90)], NOW.plus(60)));
        assert_eq!(list.every_hold().len(), 1, "what is over takes no room");
    }

    #[test]
    fn a_long_list_that_lets_go_of_what_has_ended_keeps_the_holds() {
        let mut list = Revocations::default();
        list.hold([hold("held", 900)], NOW);
        for n in 0..4 * TIDY_FROM {
            let now = NOW.plus(i64::try_from(n / 8).unwrap());
            list.add([Revocation { expires_at: now.plus(1), ..row("x", certificate(n), 0) }], now);
        }
        assert!(list.tidied() > 0 && list.held("held", NOW).is_some());
    }
}
