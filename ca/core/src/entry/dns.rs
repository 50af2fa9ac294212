//! DNS names in SVIDs.

use thiserror::Error;

/// Longest DNS name in bytes (RFC 1035, 2.3.4, as text without the final dot).
pub const MAX_DNS_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63; // RFC 1035, 2.3.4

/// Why a text is no DNS name for an SVID.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DnsNameError {
    /// A wildcard makes another listed name pointless, or hides it.
    #[error("DNS name '{wildcard}' covers '{name}', which is also listed")]
    Covered {
        /// The wildcard.
        wildcard: String,
        /// The name it covers.
        name: String,
    },
    /// A label is empty, too long, or holds other bytes than letters, digits and inner hyphens.
    #[error("DNS name '{0}' has a label that is not 1 to 63 letters, digits and inner hyphens")]
    Label(String),
    /// Above [`MAX_DNS_NAME_BYTES`].
    #[error("DNS name of {0} bytes exceeds {MAX_DNS_NAME_BYTES} bytes")]
    TooLong(usize),
    /// A `*` that is not the whole first label, or has nothing after it.
    #[error("DNS name '{0}' may hold '*' only as its whole first label")]
    Wildcard(String),
}

/// Accepts ASCII host names; `*` only as the whole first label of several.
///
/// # Errors
/// [`DnsNameError`]. Source: spire-wire 4.1 (dns_names).
pub fn check_dns_name(name: &str) -> Result<(), DnsNameError> {
    if name.len() > MAX_DNS_NAME_BYTES {
        return Err(DnsNameError::TooLong(name.len()));
    }
    let labels = match name.strip_prefix("*.") {
        Some(rest) => rest,
        None => name,
    };
    if labels.contains('*') {
        return Err(DnsNameError::Wildcard(name.into()));
    }
    if labels.split('.').all(is_label) { Ok(()) } else { Err(DnsNameError::Label(name.into())) }
}

/// Refuses a wildcard that covers another name of the list.
///
/// # Errors
/// [`DnsNameError::Covered`]. Source: spire-wire 1.4 (MintX509SVID).
pub fn check_wildcards(names: &[String]) -> Result<(), DnsNameError> {
    for wildcard in names.iter().filter(|n| n.starts_with("*.")) {
        let covered = names.iter().find(|name| {
            *name != wildcard && name.split_once('.').map(|(_, rest)| rest) == wildcard.strip_prefix("*.")
        });
        if let Some(name) = covered {
            return Err(DnsNameError::Covered { wildcard: wildcard.clone(), name: name.clone() });
        }
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let hyphens_in_place = match bytes {
        // "??--" announces an encoding; the only one there is, is "xn--".
        [a, b, b'-', b'-', ..] => a.eq_ignore_ascii_case(&b'x') && b.eq_ignore_ascii_case(&b'n'),
        _ => true,
    };
    (1..=MAX_LABEL_BYTES).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
        && hyphens_in_place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_follow_the_host_name_rules() {
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        for good in ["a", "db.example.org", "*.example.org", "127.0.0.1", "xn--bcher-kva.example", "A-1.b", &longest] {
            assert_eq!(check_dns_name(good), Ok(()), "{good}");
        }
        let label = "a".repeat(64);
        let whole = format!("{longest}d");
        for bad in [
            "",
            " ",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "bücher.example",
            "*",
            "*.",
            "a.*.b",
            "a*.b",
            "*.*.b",
            "ab--c",
            "xb--c",
            "an--c",
            &label,
            &whole,
        ] {
            assert!(check_dns_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcard_that_covers_a_listed_name_is_refused() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(check_wildcards(&names(&["*.example.org", "db.example.org"])).is_err());
        assert!(check_wildcards(&names(&["*.example.org", "a.db.example.org", "example.org"])).is_ok());
        assert!(check_wildcards(&names(&["db.example.org", "*.example.org"])).is_err());
    }
}
