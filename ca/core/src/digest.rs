//! Digest of what a node was told it may have, so that both sides notice when they differ.

use ring::digest::{Context, SHA256};

/// SHA-256 over entries and classes, each by its ID or name and its revision, in ascending byte order.
///
/// Every part is preceded by its length or count as u64 big-endian; revisions are i64 big-endian.
pub fn of_registered<'a>(
    entries: impl IntoIterator<Item = (&'a str, i64)>,
    classes: impl IntoIterator<Item = (&'a str, i64)>,
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for list in [entries.into_iter().collect::<Vec<_>>(), classes.into_iter().collect()] {
        let mut list = list;
        list.sort_unstable();
        context.update(&(list.len() as u64).to_be_bytes());
        for (name, revision) in list {
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
            context.update(&revision.to_be_bytes());
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-256 over who is held, each by its SPIFFE ID and the end of its hold; as entries in [`of_registered`].
pub fn of_holds<'a>(rows: impl IntoIterator<Item = (&'a str, i64)>) -> [u8; 32] {
    of_registered(rows, [])
}

/// A revocation as it is digested: scope, SPIFFE ID, authority, serial, last second of issuing, end.
pub type RevocationRow<'a> = (i32, &'a str, &'a str, &'a str, i64, i64);

/// SHA-256 over the list of revocations, in ascending order; texts as in [`of_registered`], numbers as i64 big-endian.
pub fn of_revocations<'a>(rows: impl IntoIterator<Item = RevocationRow<'a>>) -> [u8; 32] {
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_unstable();
    let mut context = Context::new(&SHA256);
    context.update(&(rows.len() as u64).to_be_bytes());
    for (scope, id, authority, serial, issued_until, expires_at) in rows {
        for text in [id, authority, serial] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        for number in [i64::from(scope), issued_until, expires_at] {
            context.update(&number.to_be_bytes());
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let digest = of_registered([("a", 1), ("b", 2)], [("c", 3)]);
        assert_eq!(digest, of_registered([("b", 2), ("a", 1)], [("c", 3)]));
        for other in [
            of_registered([("a", 1), ("b", 3)], [("c", 3)]),
            of_registered([("a", 1)], [("c", 3)]),
            of_registered([("a", 1), ("b", 2), ("c", 3)], []),
            of_registered([("ab", 1), ("", 2)], [("c", 3)]),
        ] {
            assert_ne!(digest, other);
        }
    }

    #[test]
    fn every_part_of_a_revocation_counts_and_their_order_does_not() {
        let (one, two) = ((2, "spiffe://td/a", "aa", "1", 0, 100), (1, "spiffe://td/b", "", "", 0, 200));
        let digest = of_revocations([one, two]);
        assert_eq!(digest, of_revocations([two, one]));
        let id = "spiffe://td/a";
        for other in [
            (3, id, "aa", "1", 0, 100),
            (2, "spiffe://td/c", "aa", "1", 0, 100),
            (2, id, "a", "a1", 0, 100),
            (2, id, "aa", "2", 0, 100),
            (2, id, "aa", "1", 1, 100),
            (2, id, "aa", "1", 0, 101),
        ] {
            assert_ne!(digest, of_revocations([other, two]));
        }
        assert_ne!(digest, of_revocations([one]));
    }
}
