use chancery_sdk::time::UnixTime;

use super::*;
use crate::event::{Event, Place};

/// A row as the database has it.
#[derive(Clone)]
struct Stored {
    number: i64,
    at: i64,
    server: String,
    kind: String,
    subject: String,
    bytes: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    fn new(number: i64, at: i64, server: &str) -> Self {
        let place = Place { epoch: 3, number, at: UnixTime(at), server };
        let sealed = Event::new("entry.created", "e").with("a", 1).seal(place, || [0; 16]);
        Self {
            number,
            at,
            server: server.into(),
            kind: "entry.created".into(),
            subject: "e".into(),
            bytes: sealed.bytes,
            hash: sealed.hash.to_vec(),
        }
    }

    /// Other bytes, with their own hash: what an attacker who can write does.
    fn rewritten(mut self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.bytes).unwrap();
        assert!(text.contains(from), "{text}");
        self.bytes = text.replacen(from, to, 1).into_bytes();
        self.hash = leaf_hash(&self.bytes).to_vec();
        self
    }

    fn row(&self) -> Row<'_> {
        Row {
            epoch: 3,
            number: self.number,
            at: self.at,
            server: &self.server,
            kind: &self.kind,
            subject: &self.subject,
            bytes: &self.bytes,
            hash: &self.hash,
        }
    }
}

fn judged(rows: &[Stored]) -> Result<(), (i64, RowFault)> {
    let mut chain = Chain::new(3);
    for row in rows {
        let leaf = chain.follow(row.row()).map_err(|fault| (chain.next(), fault))?;
        assert_eq!(leaf.to_vec(), row.hash);
    }
    Ok(())
}

fn three() -> Vec<Stored> {
    (0..3).map(|n| Stored::new(n, 1000 + n, "s1")).collect()
}

#[test]
fn rows_as_they_were_written_pass() {
    assert_eq!(judged(&three()), Ok(()));
}

#[test]
fn a_dropped_row_is_named() {
    let mut rows = three();
    rows.remove(1);
    assert_eq!(judged(&rows), Err((1, RowFault::Gap { found: 2 })));
    rows.remove(0);
    assert_eq!(judged(&rows), Err((0, RowFault::Gap { found: 2 })));
}

#[test]
fn swapped_rows_are_named() {
    let mut rows = three();
    rows.swap(1, 2);
    assert_eq!(judged(&rows), Err((1, RowFault::Gap { found: 2 })));
    // With their numbers changed too, the bytes still say the old ones.
    (rows[1].number, rows[2].number) = (1, 2);
    assert_eq!(judged(&rows), Err((1, RowFault::Column("number"))));
}

#[test]
fn changed_bytes_and_columns_are_named() {
    let one = |change: fn(&mut Stored)| {
        let mut rows = three();
        change(&mut rows[1]);
        judged(&rows).unwrap_err()
    };
    assert_eq!(one(|r| r.bytes[20] ^= 1), (1, RowFault::Hash));
    assert_eq!(one(|r| r.hash[0] ^= 1), (1, RowFault::Hash));
    assert_eq!(one(|r| r.hash.truncate(31)), (1, RowFault::Hash));
    assert_eq!(one(|r| r.kind.push('x')), (1, RowFault::Column("kind")));
    assert_eq!(one(|r| r.subject.push('x')), (1, RowFault::Column("subject")));
    assert_eq!(one(|r| r.server.push('x')), (1, RowFault::Column("server")));
    assert_eq!(one(|r| r.at += 1), (1, RowFault::Column("at")));
}

#[test]
fn bytes_that_no_server_writes_are_named() {
    for (from, to, fault) in [
        ("{\"at\"", "{ \"at\"", RowFault::NotCanonical),
        ("\"a\":1", "\"a\":1,\"a\":1", RowFault::NotCanonical),
        ("\"a\":1", "\"b\":1,\"a\":1", RowFault::NotCanonical),
        ("\"a\":1", "\"a\":\"\\u0041\"", RowFault::NotCanonical),
        ("\"kind\"", "\"jind\":1,\"kind\"", RowFault::NotCanonical),
        ("{\"a\":1}", "[]", RowFault::NotCanonical),
        ("\"number\":1,", "", RowFault::NotCanonical),
        ("}", "", RowFault::NotCanonical),
        ("\"epoch\":3", "\"epoch\":4", RowFault::Column("epoch")),
        ("\"schema\":1", "\"schema\":2", RowFault::Schema(2)),
    ] {
        let mut rows = three();
        rows[1] = rows[1].clone().rewritten(from, to);
        assert_eq!(judged(&rows), Err((1, fault)), "{from} {to}");
    }
}

#[test]
fn a_row_earlier_than_its_servers_last_one_by_more_than_the_skew_is_named() {
    let late = |at| vec![Stored::new(0, 1000, "s1"), Stored::new(1, 5000, "s2"), Stored::new(2, at, "s1")];
    assert_eq!(judged(&late(1000 - SKEW_SECS)), Ok(()));
    let fault = RowFault::BackDated { at: 1000 - SKEW_SECS - 1, before: 0, earlier: 1000, server: "s1".into() };
    assert_eq!(judged(&late(1000 - SKEW_SECS - 1)), Err((2, fault)));
}

#[test]
fn many_small_steps_back_are_a_large_one() {
    let steps: Vec<_> = (0..5).map(|n| Stored::new(n, 1000 - 20 * n, "s1")).collect();
    assert!(matches!(judged(&steps), Err((4, RowFault::BackDated { before: 0, .. }))));
}

#[test]
fn no_flipped_bit_of_a_row_passes() {
    let rows = three();
    for at in 0..rows[1].bytes.len() {
        for bit in 0..8 {
            let mut other = rows[1].clone();
            other.bytes[at] ^= 1 << bit;
            assert!(judged(&[rows[0].clone(), other]).is_err());
        }
    }
}

#[test]
fn a_clear_value_may_be_erased_and_not_altered() {
    let place = Place { epoch: 0, number: 0, at: UnixTime(1), server: "s1" };
    let sealed = Event::new("k", "s").with_personal("path", "/bin/agent").seal(place, || [9; 16]);
    assert!(is_clear_value(&sealed.bytes, "path", &[9; 16], "/bin/agent"));
    assert!(!is_clear_value(&sealed.bytes, "path", &[9; 16], "/bin/agenT"));
    assert!(!is_clear_value(&sealed.bytes, "path", &[8; 16], "/bin/agent"));
    assert!(!is_clear_value(&sealed.bytes, "user", &[9; 16], "/bin/agent"));
    assert!(!is_clear_value(b"", "path", &[9; 16], "/bin/agent"));
}
