use super::{Pool, all_of};
use crate::store::{BundleRevision, StoreError, StoredEvent, rows::EventRow};

const AFTER: &str = "SELECT epoch, number, bytes, hash FROM events \
    WHERE epoch = (SELECT epoch FROM counter WHERE id = 0) AND number > $1 ORDER BY number LIMIT $2";
const COUNTER: &str = "SELECT epoch, next, bundle_revision FROM counter WHERE id = 0";

pub(in crate::store) async fn after(
    pool: &Pool,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let query = sqlx::query_as::<_, EventRow>(AFTER).bind(after.unwrap_or(-1)).bind(i64::from(limit));
    all_of(query.fetch_all(pool).await?)
}

pub(in crate::store) async fn bundle_revision(pool: &Pool) -> Result<BundleRevision, StoreError> {
    let (epoch, _, revision): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    Ok(BundleRevision { epoch, revision })
}

/// -1 = the log is empty.
pub(super) async fn last_number(pool: &Pool) -> Result<i64, StoreError> {
    let (_, next, _): (i64, i64, i64) = sqlx::query_as(COUNTER).fetch_one(pool).await?;
    Ok(next - 1)
}
