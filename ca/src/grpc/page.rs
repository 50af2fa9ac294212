//! SPIRE's paging: only with a size, and the token is the key of the last row sent.
//!
//! Source: spire-wire 1.0.5.

/// Cuts `rows`, which are in the order of `key`, after the row that `token` names.
///
/// With a size of 0 or less the whole comes at once, whatever the token.
pub fn cut<T>(rows: Vec<T>, size: i32, token: &str, key: impl Fn(&T) -> String) -> (Vec<T>, String) {
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else { return (rows, String::new()) };
    let some: Vec<T> =
        rows.into_iter().filter(|row| token.is_empty() || key(row).as_str() > token).take(size).collect();
    let next = some.last().map(&key).unwrap_or_default();
    (some, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str) -> (Vec<&'static str>, String) {
        cut(vec!["a", "b", "c"], size, token, |s| (*s).to_string())
    }

    #[test]
    fn without_a_size_everything_comes_at_once() {
        assert_eq!(page(0, "b"), (vec!["a", "b", "c"], String::new()));
        assert_eq!(page(-1, ""), (vec!["a", "b", "c"], String::new()));
    }

    #[test]
    fn pages_follow_each_other_and_the_last_is_empty() {
        assert_eq!(page(2, ""), (vec!["a", "b"], "b".into()));
        assert_eq!(page(2, "b"), (vec!["c"], "c".into()));
        assert_eq!(page(2, "c"), (vec![], String::new()));
    }
}
