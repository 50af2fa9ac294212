use chancery_core::{entry::Entry, event::Event};

use sqlx::QueryBuilder;

use super::{Db, Events, Pool, Stop, Tx, all_of, guard};
use crate::store::{
    EntryRef, Moment, Refusal, StoreError,
    rows::{EntryRow, list_text, selectors_text},
};

/// IDs in one query; far below SQLite's 32,766 parameters.
const IDS: usize = 500;

// What EntryRow takes apart. IDs have no line feed, nor have lists, which are JSON; a hint may.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT e.id || '\n' || e.spiffe_id || '\n' || e.parent_id || '\n' || e.selectors || '\n' \
             || CAST(e.x509_svid_ttl AS TEXT) || '\n' || CAST(e.jwt_svid_ttl AS TEXT) || '\n' \
             || COALESCE((SELECT string_agg(f.trust_domain, ',' ORDER BY f.place) FROM entry_federates f \
             WHERE f.entry_id = e.id), '') || '\n' || CAST(CASE WHEN e.admin THEN 1 ELSE 0 END \
             + CASE WHEN e.downstream THEN 2 ELSE 0 END + CASE WHEN e.store_svid THEN 4 ELSE 0 END \
             + CASE WHEN e.disable_x509_svid_prefetch THEN 8 ELSE 0 END \
             + CASE WHEN e.jwt_svid_include_jti THEN 16 ELSE 0 END AS TEXT) || '\n' \
             || COALESCE(CAST(e.expires_at AS TEXT), '') || '\n' || e.dns_names || '\n' \
             || CAST(e.revision AS TEXT) || '\n' || CAST(e.created_at AS TEXT) || '\n' || e.hint FROM entries e ",
            $rest
        )
    };
}

const INSERT: &str = "INSERT INTO entries (id, spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, admin, \
    downstream, expires_at, dns_names, hint, store_svid, disable_x509_svid_prefetch, jwt_svid_include_jti, revision, \
    created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const UPDATE: &str = "UPDATE entries SET spiffe_id = $2, parent_id = $3, selectors = $4, x509_svid_ttl = $5, \
    jwt_svid_ttl = $6, admin = $7, downstream = $8, expires_at = $9, dns_names = $10, hint = $11, store_svid = $12, \
    disable_x509_svid_prefetch = $13, jwt_svid_include_jti = $14, revision = $15 WHERE id = $1 AND revision = $15 - 1";
const EQUAL: &str =
    "SELECT id FROM entries WHERE spiffe_id = $1 AND parent_id = $2 AND selectors = $3 ORDER BY id LIMIT 1";
const MIDDLE: &str = "SELECT id FROM entries ORDER BY id LIMIT 1 OFFSET (SELECT COUNT(*) / 2 FROM entries)";
const REVISION: &str = "SELECT revision FROM entries WHERE id = $1";
// Sorted here: asked for an order, SQLite reads every entry by its ID.
const EXPIRED: &str = "SELECT id, spiffe_id FROM entries WHERE expires_at <= $1";
const DELETE: &str = "DELETE FROM entries WHERE id = $1 RETURNING spiffe_id";
const FEDERATE: &str = "INSERT INTO entry_federates (entry_id, place, trust_domain) VALUES ($1, $2, $3)";
const UNFEDERATE: &str = "DELETE FROM entry_federates WHERE entry_id = $1";

/// Binds what INSERT and UPDATE have in common, `$1` to `$15`.
macro_rules! bound {
    ($sql:expr, $entry:expr) => {{
        let entry: &Entry = $entry;
        sqlx::query($sql)
            .bind(&entry.id)
            .bind(entry.spiffe_id.as_str())
            .bind(entry.parent_id.as_str())
            .bind(selectors_text(&entry.selectors))
            .bind(entry.x509_svid_ttl)
            .bind(entry.jwt_svid_ttl)
            .bind(entry.rights.admin)
            .bind(entry.rights.downstream)
            .bind(entry.expires_at.map(|at| at.0))
            .bind(list_text(entry.dns_names.iter().cloned()))
            .bind(&entry.hint)
            .bind(entry.store_svid)
            .bind(entry.disable_x509_svid_prefetch)
            .bind(entry.jwt_svid_include_jti)
            .bind(entry.revision)
    }};
}

pub(in crate::store) async fn one(pool: &Pool, id: &str) -> Result<Option<Entry>, StoreError> {
    let row = sqlx::query_as::<_, EntryRow>(select!("WHERE e.id = $1")).bind(id).fetch_optional(pool).await?;
    row.map(Entry::try_from).transpose()
}

pub(in crate::store) async fn of(pool: &Pool, ids: &[&str]) -> Result<Vec<Entry>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(IDS) {
        let mut query = QueryBuilder::<Db>::new(select!("WHERE e.id IN ("));
        let mut list = query.separated(", ");
        for id in some {
            list.push_bind((*id).to_owned());
        }
        query.push(")");
        found.extend(all_of(query.build_query_as::<EntryRow>().fetch_all(pool).await?)?);
    }
    Ok(found)
}

pub(in crate::store) async fn after(pool: &Pool, id: &str, limit: u32) -> Result<Vec<Entry>, StoreError> {
    let page = sqlx::query_as::<_, EntryRow>(select!("WHERE e.id > $1 ORDER BY e.id LIMIT $2"));
    all_of(page.bind(id).bind(i64::from(limit)).fetch_all(pool).await?)
}

pub(in crate::store) async fn until(
    pool: &Pool,
    after: &str,
    until: &str,
    limit: u32,
) -> Result<Vec<Entry>, StoreError> {
    let sql = select!("WHERE e.id > $1 AND e.id <= $2 ORDER BY e.id LIMIT $3");
    let page = sqlx::query_as::<_, EntryRow>(sql).bind(after).bind(until).bind(i64::from(limit));
    all_of(page.fetch_all(pool).await?)
}

pub(in crate::store) async fn middle(pool: &Pool) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(MIDDLE).fetch_optional(pool).await?)
}

pub(super) async fn create(tx: &mut Tx, entry: &Entry) -> Result<Events, Stop> {
    may_create(tx, entry).await?;
    insert(tx, entry).await
}

/// The guards of [`create`], for facts that write something else first.
pub(super) async fn may_create(tx: &mut Tx, entry: &Entry) -> Result<(), Stop> {
    let equal = sqlx::query_scalar(EQUAL)
        .bind(entry.spiffe_id.as_str())
        .bind(entry.parent_id.as_str())
        .bind(selectors_text(&entry.selectors));
    let equal: Option<String> = equal.fetch_optional(&mut *tx).await?;
    if equal.is_some() {
        return Err(Refusal::AlreadyExists(equal).into());
    }
    if revision(tx, &entry.id).await?.is_some() {
        return Err(Refusal::AlreadyExists(None).into());
    }
    guard::federated(tx, &entry.federates_with).await
}

/// The writes of [`create`].
pub(super) async fn insert(tx: &mut Tx, entry: &Entry) -> Result<Events, Stop> {
    let written = bound!(INSERT, entry).bind(entry.created_at.0).execute(&mut *tx).await?;
    guard::one_row(written.rows_affected(), "entries", &entry.id)?;
    federate(tx, entry).await?;
    Ok(vec![event("entry.created", entry)])
}

pub(super) async fn update(tx: &mut Tx, entry: &Entry) -> Result<Events, Stop> {
    let stored = revision(tx, &entry.id).await?.ok_or(Refusal::NotFound)?;
    if entry.revision != stored + 1 {
        return Err(Refusal::Stale.into());
    }
    guard::federated(tx, &entry.federates_with).await?;
    let written = bound!(UPDATE, entry).execute(&mut *tx).await?;
    guard::one_row(written.rows_affected(), "entries", &entry.id)?;
    sqlx::query(UNFEDERATE).bind(&entry.id).execute(&mut *tx).await?;
    federate(tx, entry).await?;
    Ok(vec![event("entry.updated", entry)])
}

pub(super) async fn delete(tx: &mut Tx, fact: &EntryRef) -> Result<Events, Stop> {
    let spiffe_id = remove(tx, &fact.id).await?.ok_or(Refusal::NotFound)?;
    Ok(vec![Event::new("entry.deleted", &fact.id).with("spiffe_id", spiffe_id)])
}

pub(super) async fn prune(tx: &mut Tx, fact: &Moment) -> Result<Events, Stop> {
    let mut expired: Vec<(String, String)> = sqlx::query_as(EXPIRED).bind(fact.now.0).fetch_all(&mut *tx).await?;
    expired.sort_unstable();
    let mut events = Vec::with_capacity(expired.len());
    for (id, spiffe_id) in expired {
        remove(tx, &id).await?;
        events.push(Event::new("entry.pruned", id).with("spiffe_id", spiffe_id));
    }
    Ok(events)
}

/// Deletes the entry and its associations; answers its SPIFFE ID where there was one.
pub(super) async fn remove(tx: &mut Tx, id: &str) -> Result<Option<String>, Stop> {
    let spiffe_id = sqlx::query_scalar(DELETE).bind(id).fetch_optional(&mut *tx).await?;
    sqlx::query(UNFEDERATE).bind(id).execute(&mut *tx).await?;
    Ok(spiffe_id)
}

async fn revision(tx: &mut Tx, id: &str) -> Result<Option<i64>, Stop> {
    Ok(sqlx::query_scalar(REVISION).bind(id).fetch_optional(&mut *tx).await?)
}

async fn federate(tx: &mut Tx, entry: &Entry) -> Result<(), Stop> {
    for (place, domain) in (0i64..).zip(&entry.federates_with) {
        sqlx::query(FEDERATE).bind(&entry.id).bind(place).bind(domain.name()).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Selectors and DNS names are an operator's configuration, not facts about a person: they stand in the clear.
fn event(kind: &'static str, entry: &Entry) -> Event {
    let texts = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>();
    Event::new(kind, &entry.id)
        .with("admin", entry.rights.admin)
        .with("dns_names", entry.dns_names.clone())
        .with("downstream", entry.rights.downstream)
        .with("federates_with", texts(&mut entry.federates_with.iter().map(ToString::to_string)))
        .with("parent_id", entry.parent_id.as_str())
        .with("revision", entry.revision)
        .with("selectors", texts(&mut entry.selectors.iter().map(ToString::to_string)))
        .with("spiffe_id", entry.spiffe_id.as_str())
}
