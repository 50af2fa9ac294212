//! Ranges of TPM firmware: `IFX < 7.85`, `STM >= 1.256 < 1.258`, `INTC = 600`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::evidence::tpm::Manufacturer;

/// Firmware versions of one manufacturer, both ends included.
///
/// TPMS_ATTEST.firmwareVersion is 64 bits; vendors write it as four 16-bit numbers, `7.85.4555.0`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirmwareRange {
    manufacturer: Manufacturer,
    low: u64,
    high: u64,
}

/// The text is no firmware range.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("firmware range '{0}' must look like 'IFX < 7.85' or 'STM >= 1.256 < 1.258'")]
pub struct FirmwareError(String);

impl FirmwareRange {
    /// Whether this firmware is in the range. Without a known manufacturer every range may be meant, so
    /// every range holds it: what cannot be excluded is denied.
    pub fn holds(&self, manufacturer: Option<Manufacturer>, version: u64) -> bool {
        manufacturer.is_none_or(|m| m == self.manufacturer) && (self.low..=self.high).contains(&version)
    }
}

impl FromStr for FirmwareRange {
    type Err = FirmwareError;

    fn from_str(text: &str) -> Result<Self, FirmwareError> {
        parse(text).ok_or_else(|| FirmwareError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for FirmwareRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x}..={:016x}", self.manufacturer, self.low, self.high)
    }
}

fn parse(text: &str) -> Option<FirmwareRange> {
    let mut words = text.split_ascii_whitespace();
    let manufacturer = words.next()?.parse().ok()?;
    let (mut low, mut high, mut bounds) = (0, u64::MAX, 0);
    while let Some(operator) = words.next() {
        let (first, last) = version(words.next()?)?;
        match operator {
            "<" => high = high.min(first.checked_sub(1)?),
            "<=" => high = high.min(last),
            ">" => low = low.max(last.checked_add(1)?),
            ">=" => low = low.max(first),
            "=" => (low, high) = (low.max(first), high.min(last)),
            _ => return None,
        }
        bounds += 1;
    }
    (bounds > 0 && low <= high).then_some(FirmwareRange { manufacturer, low, high })
}

/// The lowest and highest firmware that a version of one to four numbers means.
fn version(text: &str) -> Option<(u64, u64)> {
    let (mut low, mut bits_left) = (0u64, 64u32);
    for part in text.split('.') {
        bits_left = bits_left.checked_sub(16)?;
        low |= u64::from(part.parse::<u16>().ok()?) << bits_left;
    }
    Some((low, low | 1u64.checked_shl(bits_left)?.wrapping_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(range: &str, version: u64) -> bool {
        range.parse::<FirmwareRange>().unwrap().holds("IFX".parse().ok(), version)
    }

    #[test]
    fn ranges_compare_number_by_number() {
        let v7_84 = 0x0007_0054_0000_0000;
        let v7_85 = 0x0007_0055_11cb_0000;
        assert!(holds("IFX < 7.85", v7_84) && !holds("IFX < 7.85", v7_85));
        assert!(holds("IFX <= 7.85", v7_85) && holds("IFX = 7.85", v7_85) && !holds("IFX > 7.85", v7_85));
        assert!(holds("IFX >= 7.40 < 7.85", v7_84) && !holds("IFX >= 7.85 < 8", v7_84));
    }

    #[test]
    fn other_manufacturers_are_not_meant_and_unknown_ones_are() {
        let range: FirmwareRange = "STM < 9".parse().unwrap();
        assert!(!range.holds("IFX".parse().ok(), 0));
        assert!(range.holds(None, 0));
    }

    #[test]
    fn nonsense_is_no_range() {
        for bad in ["", "IFX", "IFX <", "IFX ~ 7", "IFX < 7.8.9.1.2", "IFX < 70000", "IFX < 0", "IFX > 8 < 7"] {
            assert!(bad.parse::<FirmwareRange>().is_err(), "{bad}");
        }
    }
}
