//! The list of what is unexpired and not to be accepted, and the search of the log for what was issued.
//!
//! A row has its event: `svid.revoked`, `tokens.revoked` or `instance.revoked`. Nothing here takes a row away before what it
//! names has ended.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;
use serde::Deserialize;
use sqlx::QueryBuilder;

use super::{Context, Db, Events, Pool, Stop, Tx, index, many::filled};
use crate::store::{
    Certificate, Closure, Executable, Hits, Issued, Order, Revocation, Revoked, StoreError, Under, What,
};

/// How long an ended row is kept, for whoever's clock is behind.
const KEPT_SECS: i64 = 86_400;
/// Rows in one statement; 9 values each stay below SQLite's 32,766 parameters.
const ROWS: usize = 2048;
/// Events read at once from the log.
const PAGE: i64 = 5_000;

/// What issues an SVID.
const ISSUING: [&str; 6] =
    ["instance.begun", "instance.renewed", "jwt.issued", "node.attested", "node.renewed", "svid.issued"];
/// What issues a certificate.
const CERTIFYING: [&str; 7] =
    ["ca.issued", "instance.begun", "instance.renewed", "node.attested", "node.renewed", "svid.issued", "svid.minted"];
const END: &str = "SELECT epoch, next - 1 FROM counter WHERE id = 0";
/// Only the second and third column of what is no SVID of an entry: its bytes are not carried.
const LOG: &str = "SELECT epoch, number, subject, CASE WHEN kind IN ('jwt.issued', 'svid.issued') THEN bytes END \
    FROM events WHERE (epoch, number) > ($1, $2) ORDER BY epoch, number LIMIT $3";
const CERTIFICATES: &str = "INSERT INTO revocations (authority, serial, subject, expires_at, revoked_at, reason, \
    cause_kind, cause, cause_number) SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, \
    v.column8, v.column9 FROM (";
const NEW_ONES: &str = ") AS v WHERE v.column1 IS NOT NULL ON CONFLICT (authority, serial) DO NOTHING \
    RETURNING authority, serial";
const IDS: &str = "INSERT INTO revoked_ids (subject, scope, issued_until, expires_at, revoked_at, reason, cause_kind, \
    cause, cause_number) SELECT v.column1, v.column2, v.column3, v.column4, v.column5, v.column6, v.column7, v.column8, \
    v.column9 FROM (";
/// What is there already reaches as far as the later one.
const LATER: &str = ") AS v WHERE v.column1 IS NOT NULL ON CONFLICT (subject, scope) DO UPDATE SET \
    issued_until = CASE WHEN excluded.issued_until > revoked_ids.issued_until THEN excluded.issued_until \
    ELSE revoked_ids.issued_until END, \
    expires_at = CASE WHEN excluded.expires_at > revoked_ids.expires_at THEN excluded.expires_at \
    ELSE revoked_ids.expires_at END, \
    revoked_at = excluded.revoked_at, reason = excluded.reason, cause_kind = excluded.cause_kind, \
    cause = excluded.cause, cause_number = excluded.cause_number";
const PRUNE: &str = "DELETE FROM revocations WHERE expires_at <= $1";
const PRUNE_IDS: &str = "DELETE FROM revoked_ids WHERE expires_at <= $1";

/// The whole list, each row with a key that it is paged by.
const LISTED: &str = "SELECT key, scope, subject, authority, serial, issued_until, expires_at, revoked_at, reason, \
    cause_kind, cause, cause_number FROM (SELECT 'certificate:' || authority || ':' || serial AS key, \
    'certificate' AS scope, subject, authority, serial, 0 AS issued_until, expires_at, revoked_at, reason, \
    cause_kind, cause, cause_number FROM revocations UNION ALL SELECT scope || ':' || subject, scope, subject, '', '', \
    issued_until, expires_at, revoked_at, reason, cause_kind, cause, cause_number FROM revoked_ids) AS l \
    WHERE expires_at > $1 AND key > $2 ORDER BY key LIMIT $3";
const HITS: &str = "SELECT (SELECT COUNT(*) FROM revoked_ids WHERE cause = $1 AND cause_kind = $2 AND scope = 'all'), \
    (SELECT COUNT(*) FROM revocations WHERE cause = $1 AND cause_kind = $2), \
    (SELECT COUNT(*) FROM revoked_ids WHERE cause = $1 AND cause_kind = $2 AND scope = 'tokens'), \
    (SELECT MAX(a.e) FROM (SELECT expires_at AS e FROM revocations WHERE cause = $1 AND cause_kind = $2 UNION ALL \
    SELECT expires_at FROM revoked_ids WHERE cause = $1 AND cause_kind = $2) AS a)";
const CLOSURES: &str = "SELECT class, node_id, closed_at, reason FROM class_closures ORDER BY class, node_id";
const CLOSED_ON: &str = "SELECT node_id FROM class_closures WHERE class = $1";
const EXECUTABLES: &str = "SELECT sha256, revoked_at, reason FROM revoked_executables ORDER BY sha256";

/// Why rows come into the list: an operator's act, or a node's failure.
pub(super) struct Cause<'a> {
    pub kind: &'static str,
    pub subject: &'a str,
    pub reason: &'a str,
    /// `None` where nobody asked.
    pub caller: Option<&'a str>,
    pub at: UnixTime,
    /// The number of its event.
    pub number: i64,
}

impl<'a> Cause<'a> {
    pub(super) fn ordered(kind: &'static str, subject: &'a str, order: &'a Order, context: &Context) -> Self {
        let (at, number) = (context.at, context.number);
        Self { kind, subject, reason: &order.reason, caller: Some(&order.caller), at, number }
    }

    /// The event of the act itself.
    pub(super) fn event(&self) -> Event {
        self.signed(Event::new(self.kind, self.subject))
    }

    /// Adds who and why.
    pub(super) fn signed(&self, event: Event) -> Event {
        let event = event.with("reason", self.reason);
        match self.caller {
            Some(caller) => event.with_personal("caller", caller),
            None => event,
        }
    }

    /// Adds which event was the cause.
    pub(super) fn named(&self, event: Event) -> Event {
        event.with("cause", self.kind).with("cause_subject", self.subject)
    }
}

#[derive(Deserialize)]
struct Told<'a> {
    at: i64,
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
    #[serde(borrow)]
    entry: Option<Cow<'a, str>>,
    #[serde(borrow)]
    node: Option<Cow<'a, str>>,
}

fn told<'a>(subject: &str, bytes: &'a [u8]) -> Result<Told<'a>, StoreError> {
    let fault =
        |e: serde_json::Error| StoreError::Corrupt { table: "events", key: subject.into(), fault: e.to_string() };
    serde_json::from_slice(bytes).map_err(fault)
}

impl Told<'_> {
    fn issued(self, subject: String) -> Issued {
        let certificate = match (self.fields.authority, self.fields.serial) {
            (Some(authority), Some(serial)) => {
                Some(Certificate { authority: authority.into_owned(), serial: serial.into_owned() })
            }
            _ => None,
        };
        let (at, expires_at) = (UnixTime(self.at), UnixTime(self.fields.expires_at));
        Issued { subject, at, expires_at, certificate }
    }
}

/// What was issued for these IDs and is valid at `at`; `entry`: only through this one.
pub(super) async fn issued_for(
    tx: &mut Tx,
    subjects: &[String],
    entry: Option<&str>,
    at: UnixTime,
) -> Result<Vec<Issued>, Stop> {
    issued(tx, subjects, &ISSUING, entry, at).await
}

/// CAs of downstream servers that were signed for the entry and are valid at `at`; they live for years.
pub(super) async fn cas_of(tx: &mut Tx, subjects: &[String], entry: &str, at: UnixTime) -> Result<Vec<Issued>, Stop> {
    issued(tx, subjects, &["ca.issued"], Some(entry), at).await
}

async fn issued(
    tx: &mut Tx,
    subjects: &[String],
    kinds: &[&str],
    entry: Option<&str>,
    at: UnixTime,
) -> Result<Vec<Issued>, Stop> {
    let of: HashSet<&str> = subjects.iter().map(String::as_str).collect();
    let mut issued = Vec::new();
    for found in index::find(tx, subjects, at).await? {
        if !kinds.contains(&found.kind.as_str()) || !of.contains(found.subject.as_str()) {
            continue;
        }
        let told = told(&found.subject, &found.bytes)?;
        let through = entry.is_none_or(|entry| told.fields.entry.as_deref() == Some(entry));
        if through && told.fields.expires_at > at.0 {
            issued.push(told.issued(found.subject.clone()));
        }
    }
    Ok(issued)
}

/// Certificates of this serial number that are valid at `now`, each with the kind of its event.
pub(in crate::store) async fn certificates(
    pool: &Pool,
    authority: Option<&str>,
    serial: &str,
    now: UnixTime,
) -> Result<Vec<(String, Issued)>, StoreError> {
    let mut connection = pool.acquire().await?;
    let mut certificates = Vec::new();
    for found in index::find(&mut connection, &[serial.to_owned()], now).await? {
        if !CERTIFYING.contains(&found.kind.as_str()) {
            continue;
        }
        let told = told(&found.subject, &found.bytes)?;
        let meant = told.fields.serial.as_deref() == Some(serial) && told.fields.expires_at > now.0;
        if meant && authority.is_none_or(|authority| told.fields.authority.as_deref() == Some(authority)) {
            certificates.push((found.kind.clone(), told.issued(found.subject.clone())));
        }
    }
    certificates.dedup_by(|a, b| a.1.certificate == b.1.certificate);
    Ok(certificates)
}

/// Reads what entries had issued through the node, outside any transaction.
pub(in crate::store) async fn under(pool: &Pool, node: &str, now: UnixTime) -> Result<Under, StoreError> {
    let mut connection = pool.acquire().await?;
    let read = first_place(&mut connection, node, now).await?;
    let mut under = Under { issued: Vec::new(), read };
    while read_on(&mut connection, &mut under, node, now).await? {}
    Ok(under)
}

/// Reads the rest, up to the end of the log.
pub(super) async fn rest(tx: &mut Tx, mut under: Under, node: &str, now: UnixTime) -> Result<Vec<Issued>, Stop> {
    while read_on(tx, &mut under, node, now).await? {}
    Ok(under.issued)
}

/// Before the first event that can matter. Nothing issued through a node outlives the node's SVID of that moment: before the
/// oldest of those that are still valid there is nothing.
async fn first_place(tx: &mut Tx, node: &str, now: UnixTime) -> Result<(i64, i64), StoreError> {
    for found in index::find(tx, &[node.to_owned()], now).await? {
        let own = found.subject == node && matches!(found.kind.as_str(), "node.attested" | "node.renewed");
        if own && told(node, &found.bytes)?.fields.expires_at > now.0 {
            return Ok((found.epoch, found.number));
        }
    }
    Ok(sqlx::query_as(END).fetch_one(&mut *tx).await?)
}

/// One page of the log; whether there is more.
async fn read_on(tx: &mut Tx, under: &mut Under, node: &str, now: UnixTime) -> Result<bool, StoreError> {
    type Row = (i64, i64, String, Option<Vec<u8>>);
    let (epoch, number) = under.read;
    let rows: Vec<Row> = sqlx::query_as(LOG).bind(epoch).bind(number).bind(PAGE).fetch_all(&mut *tx).await?;
    let more = i64::try_from(rows.len()).unwrap_or(i64::MAX) == PAGE;
    for (epoch, number, subject, bytes) in rows {
        under.read = (epoch, number);
        let Some(bytes) = bytes else { continue };
        let told = told(&subject, &bytes)?;
        let fields = &told.fields;
        if fields.entry.is_some() && fields.node.as_deref() == Some(node) && fields.expires_at > now.0 {
            under.issued.push(told.issued(subject));
        }
    }
    Ok(more)
}

/// Puts what was issued on the list: certificates by serial, tokens by ID and time.
pub(super) async fn list(tx: &mut Tx, cause: &Cause<'_>, issued: Vec<Issued>) -> Result<Events, Stop> {
    let mut tokens: BTreeMap<String, (UnixTime, UnixTime)> = BTreeMap::new();
    let mut certificates = Vec::new();
    for one in issued {
        match &one.certificate {
            Some(_) => certificates.push(one),
            None => {
                // A server whose clock is ahead of ours dated its tokens by its own.
                let (issued_until, until) = tokens.entry(one.subject).or_insert((cause.at, one.expires_at));
                (*issued_until, *until) = ((*issued_until).max(one.at), (*until).max(one.expires_at));
            }
        }
    }
    let mut events = list_certificates(tx, cause, certificates).await?;
    let ids = tokens.iter().map(|(subject, (issued_until, until))| (Some(subject.clone()), issued_until.0, until.0));
    list_ids(tx, cause, "tokens", ids.collect()).await?;
    for (subject, (issued_until, until)) in tokens {
        let event = Event::new("tokens.revoked", &subject);
        events.push(cause.named(event).with("expires_at", until.0).with("issued_until", issued_until.0));
    }
    Ok(events)
}

/// Puts certificates on the list; an event for each that was not there.
pub(super) async fn list_certificates(tx: &mut Tx, cause: &Cause<'_>, issued: Vec<Issued>) -> Result<Events, Stop> {
    let mut events = Vec::new();
    for some in issued.chunks(ROWS) {
        let row = |one: &Issued| {
            let certificate = one.certificate.clone()?;
            Some((Some(certificate.authority), certificate.serial, one.subject.clone(), one.expires_at.0))
        };
        let rows: Vec<_> = some.iter().filter_map(row).collect();
        let mut insert = QueryBuilder::<Db>::new(CERTIFICATES);
        insert.push_values(filled(rows), |mut row, (authority, serial, subject, expires_at)| {
            row.push_bind(authority).push_bind(serial).push_bind(subject).push_bind(expires_at);
            row.push_bind(cause.at.0).push_bind(cause.reason.to_owned());
            row.push_bind(cause.kind).push_bind(cause.subject.to_owned()).push_bind(cause.number);
        });
        let new: Vec<(String, String)> = insert.push(NEW_ONES).build_query_as().fetch_all(&mut *tx).await?;
        let mut new: HashSet<(String, String)> = new.into_iter().collect();
        for one in some {
            let Some(Certificate { authority, serial }) = one.certificate.clone() else { continue };
            // Taken out, so that a certificate named twice has one event.
            if new.remove(&(authority.clone(), serial.clone())) {
                let event = Event::new("svid.revoked", &one.subject).with("authority", authority);
                events.push(cause.named(event).with("expires_at", one.expires_at.0).with("serial", serial));
            }
        }
    }
    Ok(events)
}

/// An ID on its way into the list: subject, last second of issuing that is hit, end.
pub(super) type Id = (Option<String>, i64, i64);

/// Puts IDs on the list, each of them once.
pub(super) async fn list_ids(tx: &mut Tx, cause: &Cause<'_>, scope: &'static str, ids: Vec<Id>) -> Result<(), Stop> {
    for some in ids.chunks(ROWS) {
        let mut insert = QueryBuilder::<Db>::new(IDS);
        insert.push_values(filled(some.to_vec()), |mut row, (subject, issued_until, until)| {
            row.push_bind(subject).push_bind(scope).push_bind(issued_until).push_bind(until);
            row.push_bind(cause.at.0).push_bind(cause.reason.to_owned());
            row.push_bind(cause.kind).push_bind(cause.subject.to_owned()).push_bind(cause.number);
        });
        insert.push(LATER).build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Takes away what has ended long enough ago; how many rows.
pub(super) async fn prune(tx: &mut Tx, now: UnixTime) -> Result<u64, Stop> {
    let before = now.plus(-KEPT_SECS).0;
    let certificates = sqlx::query(PRUNE).bind(before).execute(&mut *tx).await?.rows_affected();
    Ok(certificates + sqlx::query(PRUNE_IDS).bind(before).execute(&mut *tx).await?.rows_affected())
}

type Row = (String, String, String, String, String, i64, i64, i64, String, String, String, i64);

pub(in crate::store) async fn listed(
    pool: &Pool,
    now: UnixTime,
    after: &str,
    limit: u32,
) -> Result<Vec<Revocation>, StoreError> {
    let rows = sqlx::query_as(LISTED).bind(now.0).bind(after).bind(i64::from(limit));
    let rows: Vec<Row> = rows.fetch_all(pool).await?;
    let revocation = |row: Row| {
        let (key, scope, subject, authority, serial, issued_until, expires_at, revoked_at, reason, kind, cause, number) =
            row;
        let what = match scope.as_str() {
            "all" => What::All,
            "tokens" => What::Tokens { issued_until: UnixTime(issued_until) },
            _ => What::Certificate(Certificate { authority, serial }),
        };
        let revoked = Revoked { subject, what, expires_at: UnixTime(expires_at) };
        Revocation { revoked, revoked_at: UnixTime(revoked_at), reason, cause_kind: kind, cause, number, key }
    };
    Ok(rows.into_iter().map(revocation).collect())
}

pub(in crate::store) async fn hits(pool: &Pool, kind: &str, subject: &str) -> Result<Hits, StoreError> {
    let row: (i64, i64, i64, Option<i64>) = sqlx::query_as(HITS).bind(subject).bind(kind).fetch_one(pool).await?;
    let (instances, certificates, token_ids, until) = row;
    Ok(Hits { instances, certificates, token_ids, until: until.map(UnixTime) })
}

pub(in crate::store) async fn closures(pool: &Pool) -> Result<Vec<Closure>, StoreError> {
    let rows: Vec<(String, String, i64, String)> = sqlx::query_as(CLOSURES).fetch_all(pool).await?;
    let closure = |(class, node, at, reason)| Closure { class, node, closed_at: UnixTime(at), reason };
    Ok(rows.into_iter().map(closure).collect())
}

pub(in crate::store) async fn closed_on(pool: &Pool, class: &str) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(CLOSED_ON).bind(class).fetch_all(pool).await?)
}

pub(in crate::store) async fn executables(pool: &Pool) -> Result<Vec<Executable>, StoreError> {
    let rows: Vec<(String, i64, String)> = sqlx::query_as(EXECUTABLES).fetch_all(pool).await?;
    let executable = |(sha256, at, reason)| Executable { sha256, revoked_at: UnixTime(at), reason };
    Ok(rows.into_iter().map(executable).collect())
}
