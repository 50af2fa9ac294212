//! Guards: standings asked again under the counter row, so that nothing is granted after a revocation.

use chancery_core::node;
use chancery_sdk::id::{SpiffeId, TrustDomain};

use super::{Stop, Tx};
use crate::store::{AuthorityKind, AuthorityState, Refusal, StoreError};

/// The node is good and came with its current or its fresh certificate.
pub(super) async fn node(tx: &mut Tx, id: &SpiffeId, serial: &str) -> Result<(), Stop> {
    const ONE: &str = "SELECT standing, current_serial, fresh_serial FROM nodes WHERE id = $1";
    type Row = (String, Option<String>, Option<String>);
    let row: Option<Row> = sqlx::query_as(ONE).bind(id.as_str()).fetch_optional(&mut *tx).await?;
    let (standing, current, fresh) = row.ok_or(Refusal::NodeNotGood)?;
    Ok(stands(&standing, current.as_deref(), fresh.as_deref(), serial)?)
}

/// [`node`] and [`authority`] in one round trip.
pub(super) async fn issuing(
    tx: &mut Tx,
    id: &SpiffeId,
    serial: &str,
    authority: &str,
    kind: AuthorityKind,
) -> Result<(), Stop> {
    const ONE: &str = "SELECT standing, current_serial, fresh_serial, \
        (SELECT COUNT(*) FROM authorities a WHERE a.id = $2 AND a.kind = $3 AND a.state = $4 \
        AND a.tainted_at IS NULL) AS active \
        FROM nodes WHERE id = $1";
    type Row = (String, Option<String>, Option<String>, i64);
    let query = sqlx::query_as(ONE).bind(id.as_str()).bind(authority).bind(kind.as_str());
    let row: Option<Row> = query.bind(AuthorityState::Active.as_str()).fetch_optional(&mut *tx).await?;
    let (standing, current, fresh, active) = row.ok_or(Refusal::NodeNotGood)?;
    stands(&standing, current.as_deref(), fresh.as_deref(), serial)?;
    if active == 1 { Ok(()) } else { Err(Refusal::AuthorityNotActive.into()) }
}

/// Whether a node of this standing and these serials may come with `serial`.
pub(super) fn stands(standing: &str, current: Option<&str>, fresh: Option<&str>, serial: &str) -> Result<(), Refusal> {
    if standing != node::Standing::Good.as_str() {
        return Err(Refusal::NodeNotGood);
    }
    if current == Some(serial) || fresh == Some(serial) { Ok(()) } else { Err(Refusal::SerialNotCurrent) }
}

/// The authority is of the kind, active and not tainted.
pub(super) async fn authority(tx: &mut Tx, id: &str, kind: AuthorityKind) -> Result<(), Stop> {
    const ONE: &str = "SELECT COUNT(*) FROM authorities WHERE id = $1 AND kind = $2 AND state = $3 \
        AND tainted_at IS NULL";
    let state = AuthorityState::Active.as_str();
    let query = sqlx::query_scalar(ONE).bind(id).bind(kind.as_str()).bind(state);
    let active: i64 = query.fetch_one(&mut *tx).await?;
    if active == 1 { Ok(()) } else { Err(Refusal::AuthorityNotActive.into()) }
}

/// The entry is unchanged; answers its SPIFFE ID.
pub(super) async fn entry(tx: &mut Tx, id: &str, revision: i64) -> Result<String, Stop> {
    const ONE: &str = "SELECT spiffe_id, revision FROM entries WHERE id = $1";
    let row: Option<(String, i64)> = sqlx::query_as(ONE).bind(id).fetch_optional(&mut *tx).await?;
    let (spiffe_id, stored) = row.ok_or(Refusal::EntryGone)?;
    if stored == revision { Ok(spiffe_id) } else { Err(Refusal::Stale.into()) }
}

/// A bundle of every domain is stored.
pub(super) async fn federated(tx: &mut Tx, domains: &[TrustDomain]) -> Result<(), Stop> {
    const ONE: &str = "SELECT COUNT(*) FROM federated_bundles WHERE trust_domain = $1";
    for domain in domains {
        let stored: i64 = sqlx::query_scalar(ONE).bind(domain.name()).fetch_one(&mut *tx).await?;
        if stored == 0 {
            return Err(Refusal::FederationUnknown(domain.clone()).into());
        }
    }
    Ok(())
}

/// Exactly one row was written.
pub(super) fn one_row(affected: u64, table: &'static str, key: &str) -> Result<(), StoreError> {
    exactly(affected, 1, table, key)
}

/// As many rows were written as things were to be.
pub(super) fn rows(affected: u64, wanted: usize, table: &'static str) -> Result<(), StoreError> {
    exactly(affected, u64::try_from(wanted).unwrap_or(u64::MAX), table, "")
}

/// Guards passed under the counter row, so anything else is a fault of ours or of the database; the batch is undone.
fn exactly(affected: u64, wanted: u64, table: &'static str, key: &str) -> Result<(), StoreError> {
    if affected == wanted {
        return Ok(());
    }
    Err(StoreError::Corrupt { table, key: key.into(), fault: format!("{affected} rows written, not {wanted}") })
}
