use chancery_core::event::Event;
use chancery_sdk::{id::TrustDomain, time::UnixTime};
use ring::digest::{SHA256, digest};

use super::{Events, Pool, Stop, Tx, all_of, entries};
use crate::store::{
    DeleteFederatedBundle, DeleteMode, FederatedBundle, Refusal, SetFederatedBundle, SetMode, StoreError,
    rows::FederatedBundleRow,
};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT trust_domain, json, updated_at FROM federated_bundles ", $rest)
    };
}

const EXISTS: &str = "SELECT COUNT(*) FROM federated_bundles WHERE trust_domain = $1";
const UPSERT: &str = "INSERT INTO federated_bundles (trust_domain, json, updated_at) VALUES ($1, $2, $3) \
    ON CONFLICT (trust_domain) DO UPDATE SET json = excluded.json, updated_at = excluded.updated_at";
const DELETE: &str = "DELETE FROM federated_bundles WHERE trust_domain = $1";
const ENTRIES: &str = "SELECT DISTINCT entry_id FROM entry_federates WHERE trust_domain = $1 ORDER BY entry_id";
const DISSOCIATE: &str = "DELETE FROM entry_federates WHERE trust_domain = $1";
const BUMP: &str = "UPDATE entries SET revision = revision + 1 WHERE id = $1 RETURNING revision";

pub(in crate::store) async fn one(pool: &Pool, domain: &TrustDomain) -> Result<Option<FederatedBundle>, StoreError> {
    let query = sqlx::query_as::<_, FederatedBundleRow>(select!("WHERE trust_domain = $1")).bind(domain.name());
    query.fetch_optional(pool).await?.map(FederatedBundle::try_from).transpose()
}

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<FederatedBundle>, StoreError> {
    all_of(sqlx::query_as::<_, FederatedBundleRow>(select!("ORDER BY trust_domain")).fetch_all(pool).await?)
}

pub(super) async fn set(tx: &mut Tx, at: UnixTime, fact: &SetFederatedBundle) -> Result<Events, Stop> {
    let name = fact.trust_domain.name();
    match (fact.mode, exists(tx, name).await?) {
        (SetMode::Create, true) => return Err(Refusal::AlreadyExists(None).into()),
        (SetMode::Update, false) => return Err(Refusal::NotFound.into()),
        (SetMode::Create, false) | (SetMode::Update, true) | (SetMode::Set, _) => {}
    }
    sqlx::query(UPSERT).bind(name).bind(&fact.json).bind(at.0).execute(&mut *tx).await?;
    let sha256 = hex::encode(digest(&SHA256, &fact.json));
    Ok(vec![Event::new("bundle.set", name).with("sha256", sha256)])
}

pub(super) async fn delete(tx: &mut Tx, fact: &DeleteFederatedBundle) -> Result<Events, Stop> {
    let name = fact.trust_domain.name();
    if !exists(tx, name).await? {
        return Err(Refusal::NotFound.into());
    }
    let users: Vec<String> = sqlx::query_scalar(ENTRIES).bind(name).fetch_all(&mut *tx).await?;
    if fact.mode == DeleteMode::Restrict && !users.is_empty() {
        return Err(Refusal::FederationInUse.into());
    }
    sqlx::query(DELETE).bind(name).execute(&mut *tx).await?;
    let mut events = vec![Event::new("bundle.deleted", name)];
    for id in &users {
        events.push(match fact.mode {
            DeleteMode::Delete => {
                let spiffe_id = entries::remove(tx, id).await?.unwrap_or_default();
                Event::new("entry.deleted", id).with("spiffe_id", spiffe_id)
            }
            DeleteMode::Dissociate | DeleteMode::Restrict => {
                let revision: i64 = sqlx::query_scalar(BUMP).bind(id).fetch_one(&mut *tx).await?;
                Event::new("entry.updated", id).with("no_longer_federates_with", name).with("revision", revision)
            }
        });
    }
    sqlx::query(DISSOCIATE).bind(name).execute(&mut *tx).await?;
    Ok(events)
}

async fn exists(tx: &mut Tx, name: &str) -> Result<bool, Stop> {
    let stored: i64 = sqlx::query_scalar(EXISTS).bind(name).fetch_one(&mut *tx).await?;
    Ok(stored > 0)
}
