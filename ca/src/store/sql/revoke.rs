//! The kill switch: each act is one guarded fact, and everything it hits is on the list when it commits.

use std::collections::{BTreeSet, HashMap};

use chancery_core::{event::Event, instance::Standing};
use chancery_sdk::time::UnixTime;
use serde::Deserialize;
use sqlx::QueryBuilder;

use super::{
    Context, Db, Events, Stop, Tx, entries, index,
    many::and_among,
    nodes,
    revocations::{self, Cause},
};
use crate::store::{
    Certificate, EVERY_NODE, Refusal, ReopenClass, RevokeCertificate, RevokeClass, RevokeEntry, RevokeExecutable,
    RevokeInstance, RevokeNode, StoreError,
};

/// Instances in one statement.
const SOME: usize = 256;

const INSTANCE: &str = "SELECT standing FROM instances WHERE id = $1";
const CLASS: &str = "SELECT (SELECT COUNT(*) FROM classes WHERE name = $1) + \
    (SELECT COUNT(*) FROM instances WHERE class = $1)";
const ONE: &str = "UPDATE instances SET standing = 'revoked', ended_at = COALESCE(ended_at, $2), end_reason = $3 \
    WHERE id = $1 RETURNING id, class, node_id";
const RETURNING: &str = " RETURNING id, class, node_id";
const OF_EXECUTABLE: &str = "SELECT id FROM instances \
    WHERE (standing = 'good' OR (standing = 'ended' AND expires_at > $2)) AND sha256 = $1 ORDER BY id";
const EXECUTABLE: &str = "INSERT INTO revoked_executables (sha256, revoked_at, reason) VALUES ($1, $2, $3) \
    ON CONFLICT (sha256) DO NOTHING";
const CLOSE: &str = "INSERT INTO class_closures (class, node_id, closed_at, reason) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (class, node_id) DO NOTHING";
const REOPEN: &str = "DELETE FROM class_closures WHERE class = $1 AND node_id = $2";

/// Which instances.
enum Which<'a> {
    Class(&'a str),
    Ids(&'a [String]),
    Node(&'a str),
}

/// ID, class and node of an instance.
type Row = (String, String, String);
/// Where instances ran, each as (class, node).
type Places = BTreeSet<(String, String)>;

/// One that was revoked before is left as it is.
pub(super) async fn instance(tx: &mut Tx, context: &Context, fact: &RevokeInstance) -> Result<Events, Stop> {
    let standing: Option<String> = sqlx::query_scalar(INSTANCE).bind(fact.id.as_str()).fetch_optional(&mut *tx).await?;
    if standing.ok_or(Refusal::NotFound)? == Standing::Revoked.as_str() {
        return Ok(Vec::new());
    }
    let cause = Cause::ordered("instance.revoked", fact.id.as_str(), &fact.order, context);
    let one = sqlx::query_as(ONE).bind(fact.id.as_str()).bind(context.at.0).bind(end_reason(&cause));
    let row: Vec<Row> = one.fetch_all(&mut *tx).await?;
    let mut events = Vec::new();
    let places = told(tx, &cause, row, &mut events).await?;
    close(tx, &cause, places, &mut events).await?;
    Ok(events)
}

/// Only this one: its holder may be given another.
pub(super) async fn certificate(tx: &mut Tx, context: &Context, fact: &RevokeCertificate) -> Result<Events, Stop> {
    let name = fact.issued.certificate.as_ref().map(Certificate::name).unwrap_or_default();
    let cause = Cause::ordered("certificate.revoked", &name, &fact.order, context);
    let listed = revocations::list_certificates(tx, &cause, vec![fact.issued.clone()]).await?;
    if listed.is_empty() {
        return Ok(Vec::new());
    }
    let act = cause.event().with("spiffe_id", fact.issued.subject.as_str());
    Ok(std::iter::once(act).chain(listed).collect())
}

pub(super) async fn class(tx: &mut Tx, context: &Context, fact: &RevokeClass) -> Result<Events, Stop> {
    let known: i64 = sqlx::query_scalar(CLASS).bind(&fact.name).fetch_one(&mut *tx).await?;
    if known == 0 {
        return Err(Refusal::NotFound.into());
    }
    let cause = Cause::ordered("class.closed", &fact.name, &fact.order, context);
    let closed = shut(tx, &cause, &fact.name, EVERY_NODE).await?;
    let mut events = Vec::new();
    if closed {
        events.push(cause.event().with("node", EVERY_NODE));
    }
    hit(tx, &cause, Which::Class(&fact.name), &mut events).await?;
    Ok(events)
}

pub(super) async fn entry(tx: &mut Tx, context: &Context, fact: &RevokeEntry) -> Result<Events, Stop> {
    let was = Entry::read(tx, &fact.id).await?;
    if was.subjects.is_empty() {
        return Err(Refusal::NotFound.into());
    }
    let cause = Cause::ordered("entry.revoked", &fact.id, &fact.order, context);
    let gone = entries::remove(tx, &fact.id).await?;
    let subjects: Vec<String> = was.subjects.into_iter().collect();
    let mut issued = revocations::issued_for(tx, &subjects, Some(&fact.id), context.at).await?;
    if was.downstream {
        issued.extend(revocations::cas_of(tx, &subjects, &fact.id, context.at).await?);
    }
    let listed = revocations::list(tx, &cause, issued).await?;
    if gone.is_none() && listed.is_empty() {
        return Ok(Vec::new());
    }
    let mut events =
        vec![cause.event().with("spiffe_id", gone.or_else(|| subjects.last().cloned()).unwrap_or_default())];
    events.extend(listed);
    Ok(events)
}

pub(super) async fn node(tx: &mut Tx, context: &Context, fact: &RevokeNode) -> Result<Events, Stop> {
    let id = fact.id.as_str();
    if nodes::stored(tx, &fact.id).await?.is_none() {
        return Err(Refusal::NotFound.into());
    }
    nodes::banned(tx, &fact.id).await?;
    let cause = Cause::ordered("node.revoked", id, &fact.order, context);
    let mut events = vec![cause.event().with("all_under", fact.under.is_some())];
    if let Some(under) = fact.under.clone() {
        let issued = revocations::rest(tx, under, id, context.at).await?;
        events.extend(revocations::list(tx, &cause, issued).await?);
    }
    outlaw(tx, &cause, id, &mut events).await?;
    Ok(events)
}

/// A node lost its standing: its own SVIDs and its instances are not to be accepted. Its classes stay open: the node is out.
pub(super) async fn outlaw(tx: &mut Tx, cause: &Cause<'_>, node: &str, events: &mut Events) -> Result<(), Stop> {
    hit(tx, cause, Which::Node(node), events).await?;
    let certs = revocations::issued_for(tx, &[node.to_owned()], None, cause.at).await?;
    events.extend(revocations::list_certificates(tx, cause, certs).await?);
    Ok(())
}

pub(super) async fn executable(tx: &mut Tx, context: &Context, fact: &RevokeExecutable) -> Result<Events, Stop> {
    let cause = Cause::ordered("executable.revoked", &fact.sha256, &fact.order, context);
    let insert = sqlx::query(EXECUTABLE).bind(&fact.sha256).bind(context.at.0).bind(&fact.order.reason);
    let mut events = Vec::new();
    if insert.execute(&mut *tx).await?.rows_affected() == 1 {
        events.push(cause.event());
    }
    let ids = sqlx::query_scalar(OF_EXECUTABLE).bind(&fact.sha256).bind(context.at.0);
    let ids: Vec<String> = ids.fetch_all(&mut *tx).await?;
    let mut places = Places::new();
    for some in ids.chunks(SOME) {
        places.extend(hit(tx, &cause, Which::Ids(some), &mut events).await?);
    }
    // Whoever changes one byte of a file has another hash: the class is what keeps it out.
    close(tx, &cause, places, &mut events).await?;
    Ok(events)
}

pub(super) async fn reopen(tx: &mut Tx, context: &Context, fact: &ReopenClass) -> Result<Events, Stop> {
    let delete = sqlx::query(REOPEN).bind(&fact.class).bind(&fact.node);
    if delete.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::NotFound.into());
    }
    let cause = Cause::ordered("class.reopened", &fact.class, &fact.order, context);
    Ok(vec![cause.event().with("node", fact.node.as_str())])
}

/// Revokes what runs of these, and what has ended and may be used all the same by whoever has its key; where they ran.
async fn hit(tx: &mut Tx, cause: &Cause<'_>, which: Which<'_>, events: &mut Events) -> Result<Places, Stop> {
    let mut update =
        QueryBuilder::<Db>::new("UPDATE instances SET standing = 'revoked', ended_at = COALESCE(ended_at, ");
    update.push_bind(cause.at.0).push("), end_reason = ").push_bind(end_reason(cause));
    update.push(" WHERE (standing = 'good' OR (standing = 'ended' AND expires_at > ").push_bind(cause.at.0);
    update.push(")) AND ");
    match which {
        Which::Class(name) => drop(update.push("class = ").push_bind(name.to_owned())),
        Which::Node(id) => drop(update.push("node_id = ").push_bind(id.to_owned())),
        Which::Ids(ids) => and_among(&mut update, "id", ids.to_vec()),
    }
    let mut rows: Vec<Row> = update.push(RETURNING).build_query_as().fetch_all(&mut *tx).await?;
    rows.sort();
    told(tx, cause, rows, events).await
}

/// Puts what these instances hold on the list, with their events; where they ran.
async fn told(tx: &mut Tx, cause: &Cause<'_>, rows: Vec<Row>, events: &mut Events) -> Result<Places, Stop> {
    let ids: Vec<String> = rows.iter().map(|(id, ..)| id.clone()).collect();
    let issued = revocations::issued_for(tx, &ids, None, cause.at).await?;
    let mut until: HashMap<&str, UnixTime> = HashMap::new();
    for one in &issued {
        let end = until.entry(&one.subject).or_insert(cause.at);
        *end = (*end).max(one.expires_at);
    }
    let mut listed = Vec::with_capacity(rows.len());
    for (id, class, node) in &rows {
        let until = until.get(id.as_str()).copied().unwrap_or(cause.at);
        let event = Event::new("instance.revoked", id).with("class", class.as_str());
        let event = event.with("expires_at", until.0).with("node", node.as_str());
        // Where the operator named it, its event is the act's own.
        let own = cause.kind == "instance.revoked";
        events.push(if own { cause.signed(event) } else { cause.named(event) });
        listed.push((Some(id.clone()), cause.at.0, until.0));
    }
    revocations::list_ids(tx, cause, "all", listed).await?;
    let certificates = issued.into_iter().filter(|one| one.certificate.is_some()).collect();
    events.extend(revocations::list_certificates(tx, cause, certificates).await?);
    Ok(rows.into_iter().map(|(_, class, node)| (class, node)).collect())
}

fn end_reason(cause: &Cause<'_>) -> String {
    cause.kind.replace('.', "-")
}

/// The classes begin no more where they were hit.
async fn close(tx: &mut Tx, cause: &Cause<'_>, places: Places, events: &mut Events) -> Result<(), Stop> {
    for (class, node) in places {
        if shut(tx, cause, &class, &node).await? {
            events.push(cause.named(Event::new("class.closed", class)).with("node", node));
        }
    }
    Ok(())
}

/// Whether it was open before.
async fn shut(tx: &mut Tx, cause: &Cause<'_>, class: &str, node: &str) -> Result<bool, Stop> {
    let close = sqlx::query(CLOSE).bind(class).bind(node).bind(cause.at.0).bind(cause.reason);
    Ok(close.execute(&mut *tx).await?.rows_affected() == 1)
}

/// What the log knows of an entry: the IDs it gave, and whether it ever made CAs.
#[derive(Default)]
struct Entry {
    subjects: BTreeSet<String>,
    downstream: bool,
}

#[derive(Deserialize)]
struct Told {
    fields: Fields,
}

#[derive(Deserialize)]
struct Fields {
    downstream: bool,
    spiffe_id: String,
}

impl Entry {
    async fn read(tx: &mut Tx, id: &str) -> Result<Self, Stop> {
        let mut was = Self::default();
        for found in index::find(tx, &[id.to_owned()], UnixTime(0)).await? {
            if found.subject != id || !matches!(found.kind.as_str(), "entry.created" | "entry.updated") {
                continue;
            }
            let Told { fields } = serde_json::from_slice(&found.bytes).map_err(|e| StoreError::Corrupt {
                table: "events",
                key: id.into(),
                fault: e.to_string(),
            })?;
            was.downstream |= fields.downstream;
            was.subjects.insert(fields.spiffe_id);
        }
        Ok(was)
    }
}
