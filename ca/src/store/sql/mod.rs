//! The SQL text, compiled once for each database; `super::Db` says which.

pub(in crate::store) mod anchors;
pub(in crate::store) mod authorities;
pub(in crate::store) mod claims;
pub(in crate::store) mod classes;
pub(in crate::store) mod commit;
pub(in crate::store) mod crls;
pub(in crate::store) mod entries;
pub(in crate::store) mod events;
pub(in crate::store) mod evidence;
pub(in crate::store) mod federation;
pub(in crate::store) mod guests;
pub(in crate::store) mod holds;
pub(in crate::store) mod index;
pub(in crate::store) mod instances;
pub(in crate::store) mod keys;
pub(in crate::store) mod log;
pub(in crate::store) mod nodes;
pub(in crate::store) mod proposals;
pub(in crate::store) mod restore;
pub(in crate::store) mod revocations;
pub(in crate::store) mod schema;

mod admit;
mod apply;
mod guard;
mod issuing;
mod many;
mod records;
mod revoke;
mod svids;
mod tokens;

use chancery_core::event::Event;
use chancery_sdk::time::UnixTime;

use super::{ANNOUNCE, BEGIN, Db, MIGRATIONS, TAKE, Writer};
use crate::store::{Refusal, StoreError};

/// The connection of the committing transaction; it holds the counter row.
type Tx = <Db as sqlx::Database>::Connection;
type Pool = sqlx::Pool<Db>;
/// A fact's events, in order; empty where it changed nothing, or [`Context::unlogged`].
type Events = Vec<Event>;

/// Why a fact is not done.
enum Stop {
    /// The database could not do it: the whole batch is undone.
    Failed(StoreError),
    /// A guard said no. All guards come before the first write; what must stay even so has its event.
    Refused(Refusal, Events),
}

/// What a fact may know besides itself.
struct Context {
    /// Time of commit.
    at: UnixTime,
    /// The number of the fact's first event, if it has one.
    number: i64,
    /// How often the published authorities changed in this batch.
    bundle_changes: i64,
    /// Whether something changed that has no event.
    unlogged: bool,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, Vec::new())
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Turns rows into the core's types; the first corrupt row is told.
fn all_of<Row, T: TryFrom<Row, Error = StoreError>>(rows: Vec<Row>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(T::try_from).collect()
}
