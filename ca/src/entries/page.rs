//! Pages of listings.

/// Which part of a listing is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// Most rows; 0 or less means all in one, whatever the token is.
    pub size: i32,
    /// Key of the last row seen; empty: from the start.
    pub token: String,
}

impl Page {
    /// Cuts the page out of rows that are sorted by `key`, and says where the next one begins.
    ///
    /// The token is non-empty whenever the page holds a row, so the caller's last page is empty.
    /// Source: spire-wire 1.0.5.
    pub fn cut<T>(&self, rows: Vec<T>, key: impl Fn(&T) -> &str) -> (Vec<T>, String) {
        let Ok(size @ 1..) = usize::try_from(self.size) else { return (rows, String::new()) };
        let page: Vec<T> = rows.into_iter().skip_while(|row| key(row) <= self.token.as_str()).take(size).collect();
        let next = page.last().map(|row| key(row).to_owned()).unwrap_or_default();
        (page, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(size: i32, token: &str) -> (Vec<String>, String) {
        let rows = ["a", "b", "c"].map(str::to_owned).to_vec();
        Page { size, token: token.into() }.cut(rows, String::as_str)
    }

    #[test]
    fn without_a_size_everything_comes_in_one_page() {
        for size in [0, -1] {
            let (rows, token) = cut(size, "zz");
            assert_eq!((rows.len(), token.as_str()), (3, ""));
        }
    }

    #[test]
    fn pages_end_with_an_empty_one_without_token() {
        assert_eq!(cut(2, ""), (vec!["a".into(), "b".into()], "b".into()));
        assert_eq!(cut(2, "b"), (vec!["c".into()], "c".into()));
        assert_eq!(cut(2, "c"), (vec![], String::new()));
        assert_eq!(cut(3, "").1, "c", "a full last page has a token too");
    }
}
