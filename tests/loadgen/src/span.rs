//! Times as people write them.

use std::time::Duration;

/// Reads `250ms`, `10s`, `2m` or `1h`; the unit is needed.
///
/// # Errors
/// A line that says how to write one.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let say = || format!("'{text}' is no time: write a whole number and its unit, for example 250ms, 10s, 2m or 1h");
    let number: u64 = number.parse().map_err(|_| say())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(say()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(say)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "10", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
