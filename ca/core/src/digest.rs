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
}
