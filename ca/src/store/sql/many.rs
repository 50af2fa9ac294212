//! Statements about many rows at once.
//!
//! A statement's text depends on the number of its places, and each text is prepared once for a connection: so the places
//! are a power of two, and those that are left over hold nothing.

use std::iter::repeat_n;

use sqlx::{Encode, QueryBuilder, Type};

use super::Db;

/// Places of a statement for `n` things.
pub(super) fn places(n: usize) -> usize {
    n.next_power_of_two()
}

/// `rows`, filled up with empty ones; a row that is empty has no first column.
pub(super) fn filled<Row: Clone + Default>(mut rows: Vec<Row>) -> Vec<Row> {
    rows.resize(places(rows.len()), Row::default());
    rows
}

/// `head IN (keys)`; there is at least one key.
pub(super) fn among<Key>(head: &str, keys: Vec<Key>) -> QueryBuilder<Db>
where
    Key: Clone + for<'q> Encode<'q, Db> + Type<Db> + Send + 'static,
{
    let mut query = QueryBuilder::new("");
    and_among(&mut query, head, keys);
    query
}

/// [`among`], as a further part of a statement.
pub(super) fn and_among<Key>(query: &mut QueryBuilder<Db>, head: &str, keys: Vec<Key>)
where
    Key: Clone + for<'q> Encode<'q, Db> + Type<Db> + Send + 'static,
{
    query.push(head).push(" IN (");
    let mut list = query.separated(", ");
    let filling = keys.last().cloned().map(|last| repeat_n(last, places(keys.len()) - keys.len()));
    for key in keys.into_iter().chain(filling.into_iter().flatten()) {
        list.push_bind(key);
    }
    query.push(")");
}
