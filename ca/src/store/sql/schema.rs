//! The schema's version: `migrate` changes it, everything else only compares.

use sqlx::migrate::MigrateError;

use super::{MIGRATIONS, Pool};
use crate::store::{Migrated, StoreError};

/// Errors as [`StoreError::Schema`] unless this program's migrations were applied, and at most the next one, which only
/// adds what this program does not look at: while servers are upgraded one by one, a newer one migrates first
/// (docs/decisions/0058).
pub(super) async fn check(pool: &Pool) -> Result<(), StoreError> {
    let applied = applied(pool).await?;
    let known = MIGRATIONS.iter().map(|m| m.version);
    if applied.iter().copied().eq(known.clone()) {
        return Ok(());
    }
    if applied.iter().copied().eq(known.chain([needed() + 1])) {
        tracing::warn!(
            found = needed() + 1,
            ours = needed(),
            "a newer release has migrated the database; this server works on it until it is upgraded too"
        );
        return Ok(());
    }
    Err(StoreError::Schema { found: applied.last().copied().unwrap_or(0), needed: needed() })
}

/// Applies what is missing. A newer schema than this program's is an error, and left alone.
pub(in crate::store) async fn migrate(pool: &Pool) -> Result<Migrated, StoreError> {
    let from = applied(pool).await?.last().copied().unwrap_or(0);
    MIGRATIONS.run(pool).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::Schema { found, needed: needed() },
        other => StoreError::Migration(other.into()),
    })?;
    Ok(Migrated { from, to: needed() })
}

/// The newest version this program knows.
fn needed() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

async fn applied(pool: &Pool) -> Result<Vec<i64>, StoreError> {
    const ALL: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
    match sqlx::query_scalar(ALL).fetch_all(pool).await {
        Ok(versions) => Ok(versions),
        Err(sqlx::Error::Database(error)) if is_missing_table(&*error) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// SQLSTATE undefined_table, or SQLITE_ERROR, whose only cause for this statement is the missing table.
fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    matches!(error.code().as_deref(), Some("42P01" | "1"))
}
