//! Certificate revocation lists: the newest of each CA.

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;

use super::{Context, Events, Pool, Stop, Tx};
use crate::store::{Refusal, StoreError, StoredCrl, Taken};

const ALL: &str = "SELECT issuer, authority, number, this_update, next_update, issuer_ends, revoked, chain, der \
    FROM crls ORDER BY issuer";
const ONE: &str = "SELECT issuer, authority, number, this_update, next_update, issuer_ends, revoked, chain, der \
    FROM crls WHERE issuer = $1";
const PUT: &str = "INSERT INTO crls (issuer, authority, number, this_update, next_update, issuer_ends, revoked, chain, \
    der) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (issuer) DO UPDATE SET authority = excluded.authority, \
    number = excluded.number, this_update = excluded.this_update, next_update = excluded.next_update, \
    issuer_ends = excluded.issuer_ends, revoked = excluded.revoked, chain = excluded.chain, der = excluded.der \
    WHERE crls.number < excluded.number";
const OVER: &str = "DELETE FROM crls WHERE issuer_ends <= $1";
const TAKEN: &str = "SELECT serial, revoked_at FROM revocations WHERE authority = $1 AND expires_at > $2 \
    ORDER BY serial LIMIT $3";

type Row = (String, String, i64, i64, i64, i64, i64, Vec<u8>, Vec<u8>);

fn crl((issuer, authority, number, this, next, ends, revoked, chain, der): Row) -> StoredCrl {
    let (this_update, next_update, issuer_ends) = (UnixTime(this), UnixTime(next), UnixTime(ends));
    StoredCrl { issuer, authority, number, this_update, next_update, issuer_ends, revoked, chain, der }
}

pub(in crate::store) async fn all(pool: &Pool) -> Result<Vec<StoredCrl>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(ALL).fetch_all(pool).await?;
    Ok(rows.into_iter().map(crl).collect())
}

pub(in crate::store) async fn one(pool: &Pool, issuer: &str) -> Result<Option<StoredCrl>, StoreError> {
    let row: Option<Row> = sqlx::query_as(ONE).bind(issuer).fetch_optional(pool).await?;
    Ok(row.map(crl))
}

/// At most `limit` certificates of the authority that are revoked and end after `after`, in the order of the text.
pub(in crate::store) async fn taken(
    pool: &Pool,
    authority: &str,
    after: UnixTime,
    limit: u32,
) -> Result<Vec<Taken>, StoreError> {
    let rows = sqlx::query_as(TAKEN).bind(authority).bind(after.0).bind(i64::from(limit));
    let rows: Vec<(String, i64)> = rows.fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(serial, at)| Taken { serial, at: UnixTime(at) }).collect())
}

/// Those of CAs that have ended go with it.
pub(super) async fn sign(tx: &mut Tx, context: &mut Context, crl: &StoredCrl) -> Result<Events, Stop> {
    let put = sqlx::query(PUT).bind(&crl.issuer).bind(&crl.authority).bind(crl.number);
    let put = put.bind(crl.this_update.0).bind(crl.next_update.0).bind(crl.issuer_ends.0).bind(crl.revoked);
    if put.bind(&crl.chain).bind(&crl.der).execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(Refusal::Stale.into());
    }
    sqlx::query(OVER).bind(context.at.0).execute(&mut *tx).await?;
    let digest = chancery_core::crypto::sha256(&[&crl.der]);
    let event = Event::new("crl.signed", &crl.issuer)
        .with("authority", crl.authority.as_str())
        .with("next_update", crl.next_update.0)
        .with("number", crl.number)
        .with("revoked", crl.revoked)
        .with("sha256", hex::encode(digest))
        .with("this_update", crl.this_update.0);
    Ok(vec![event])
}
