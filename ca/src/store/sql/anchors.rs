use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;

use super::{Events, Pool, Stop, Tx};
use crate::store::{
    Anchor, EnrolEk, EnrolKey, Enrolment, KeyEnrolment, Refusal, StoreError,
    rows::{AnchorRow, EnrolmentRow, KeyEnrolmentRow},
};

const ALL: &str = "SELECT fingerprint, der, subject, manufacturer, not_after, note, imported_at FROM anchors \
    ORDER BY fingerprint";
const IMPORT: &str = "INSERT INTO anchors (fingerprint, der, subject, manufacturer, not_after, note, imported_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (fingerprint) DO NOTHING";
const ENROLMENT: &str = "SELECT ek_hash, note, enrolled_at FROM enrolments WHERE ek_hash = $1";
const ENROL: &str = "INSERT INTO enrolments (ek_hash, note, enrolled_at) VALUES ($1, $2, $3) \
    ON CONFLICT (ek_hash) DO NOTHING";
const KEY_ENROLMENT: &str = "SELECT key_sha256, note, enrolled_at FROM key_enrolments WHERE key_sha256 = $1";
const ENROL_KEY: &str = "INSERT INTO key_enrolments (key_sha256, note, enrolled_at) VALUES ($1, $2, $3) \
    ON CONFLICT (key_sha256) DO NOTHING";

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<Anchor>, StoreError> {
    let rows: Vec<AnchorRow> = sqlx::query_as(ALL).fetch_all(pool).await?;
    Ok(rows.into_iter().map(Anchor::from).collect())
}

pub(in crate::store) async fn enrolment(pool: &Pool, ek_hash: &[u8; 32]) -> Result<Option<Enrolment>, StoreError> {
    let row = sqlx::query_as::<_, EnrolmentRow>(ENROLMENT).bind(ek_hash.to_vec()).fetch_optional(pool).await?;
    row.map(Enrolment::try_from).transpose()
}

pub(in crate::store) async fn key_enrolment(
    pool: &Pool,
    key_sha256: &[u8; 32],
) -> Result<Option<KeyEnrolment>, StoreError> {
    let row = sqlx::query_as::<_, KeyEnrolmentRow>(KEY_ENROLMENT).bind(key_sha256.to_vec());
    row.fetch_optional(pool).await?.map(KeyEnrolment::try_from).transpose()
}

pub(super) async fn import(tx: &mut Tx, anchor: &Anchor) -> Result<Events, Stop> {
    let insert = sqlx::query(IMPORT)
        .bind(&anchor.fingerprint)
        .bind(&anchor.der)
        .bind(&anchor.subject)
        .bind(&anchor.manufacturer)
        .bind(anchor.not_after.0)
        .bind(&anchor.note)
        .bind(anchor.imported_at.0);
    if insert.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::AlreadyExists(Some(anchor.fingerprint.clone())).into());
    }
    let event = Event::new("anchor.imported", &anchor.fingerprint)
        .with("manufacturer", anchor.manufacturer.as_str())
        .with("not_after", anchor.not_after.0)
        .with("note", anchor.note.as_str())
        .with("subject", anchor.subject.as_str());
    Ok(vec![event])
}

pub(super) async fn enrol(tx: &mut Tx, at: UnixTime, fact: &EnrolEk) -> Result<Events, Stop> {
    let insert = sqlx::query(ENROL).bind(fact.ek_hash.to_vec()).bind(&fact.note).bind(at.0);
    if insert.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::AlreadyExists(None).into());
    }
    Ok(vec![Event::new("ek.enrolled", hex::encode(fact.ek_hash)).with("note", fact.note.as_str())])
}

pub(super) async fn enrol_key(tx: &mut Tx, at: UnixTime, fact: &EnrolKey) -> Result<Events, Stop> {
    let insert = sqlx::query(ENROL_KEY).bind(fact.key_sha256.to_vec()).bind(&fact.note).bind(at.0);
    if insert.execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::AlreadyExists(None).into());
    }
    Ok(vec![Event::new("key.enrolled", hex::encode(fact.key_sha256)).with("note", fact.note.as_str())])
}
