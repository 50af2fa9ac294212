//! What a device of a maker states about one key.

use std::{fmt, str::FromStr};

use thiserror::Error;

use super::Vendor;
use crate::selector::{Selector, SelectorError, Selectors};

/// Yes, no, or nothing said, which is never taken for either.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tri {
    /// Stated: it is not so.
    No,
    /// Nothing was stated.
    NotStated,
    /// Stated: it is so.
    Yes,
}

/// Firmware of a device, as its maker numbers it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Firmware(pub [u8; 3]);

/// The text is no firmware version.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("firmware '{0}' must be two or three numbers below 256, like 2.4 or 2.4.1")]
pub struct FirmwareError(String);

impl FromStr for Firmware {
    type Err = FirmwareError;

    fn from_str(text: &str) -> Result<Self, FirmwareError> {
        let wrong = || FirmwareError(text.chars().take(32).collect());
        let numbers: Vec<u8> = text.split('.').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        match numbers.as_slice() {
            [major, minor] => Ok(Self([*major, *minor, 0])),
            [major, minor, patch] => Ok(Self([*major, *minor, *patch])),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What a genuine device states about one key; only a verifier makes it.
///
/// No statement here is fresh, and none says which machine uses the key.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Claims {
    /// Whose device.
    pub vendor: Vendor,
    /// The device's serial number as its maker writes it; letters and digits.
    pub serial: String,
    /// The device's firmware.
    pub firmware: Option<Firmware>,
    /// Whether the device generated the key.
    pub generated: Tri,
    /// Whether the key can leave the device in any form.
    pub exportable: Tri,
}

impl Claims {
    /// The selectors these claims prove: `pkcs11:attested:<vendor>` and what is stated, nothing else.
    ///
    /// # Errors
    /// [`SelectorError`] if a part were too long; a verifier bounds them.
    pub fn selectors(&self) -> Result<Selectors, SelectorError> {
        let vendor = self.vendor;
        let mut values = vec![format!("attested:{vendor}"), format!("{vendor}:serial:{}", self.serial)];
        if self.generated == Tri::Yes {
            values.push(format!("{vendor}:origin:generated"));
        }
        if self.exportable == Tri::No {
            values.push(format!("{vendor}:exportable:false"));
        }
        if let Some(Firmware([major, minor, _])) = self.firmware {
            values.push(format!("{vendor}:fw:{major}.{minor}"));
        }
        values.iter().map(|value| Selector::new("pkcs11", value)).collect()
    }
}
