//! What makers of hardware security modules state about one key, verified up to a pinned root of theirs.
//!
//! Pure: a blob, a key, roots, a policy and the time go in; [`Claims`] come out. A claim that is absent is
//! [`Tri::NotStated`] and never read as good news. Nothing here proves who uses the key or when: that is
//! the challenge's part. Called by the `pkcs11` node attestor of the CA; every byte is hostile.
//!
//! Where roots and samples come from is in `roots/README.md` and `samples/README.md`. Source: `docs/decisions/0030`.

mod claims;
mod roots;
pub mod schsm;
mod tlv;
pub mod yubihsm2;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use chancery_sdk::time::UnixTime;
use thiserror::Error;

pub use claims::{Claims, Firmware, FirmwareError, Tri};
pub use roots::{PinnedRoots, RootError};

use crate::{
    evidence::{Refused, refuse},
    reason::Reason,
};

/// Largest evidence of one key in bytes; a YubiHSM 2 chain with RSA-4096 has 3.1 KiB, EF 2F02 and a request 1 KiB.
pub const MAX_EVIDENCE_BYTES: usize = 8 * 1024;

/// A maker whose statements are understood.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Vendor {
    /// SmartCard-HSM and what is built on it, like Nitrokey HSM 2.
    ScHsm,
    /// Yubico YubiHSM 2.
    YubiHsm2,
}

impl Vendor {
    /// Every vendor.
    pub const ALL: &'static [Self] = &[Self::ScHsm, Self::YubiHsm2];

    /// The name in configuration, on the wire and in selectors.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScHsm => "sc-hsm",
            Self::YubiHsm2 => "yubihsm2",
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no vendor.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("vendor '{0}' is unknown, allowed are sc-hsm and yubihsm2")]
pub struct VendorError(String);

impl FromStr for Vendor {
    type Err = VendorError;

    fn from_str(text: &str) -> Result<Self, VendorError> {
        let named = Self::ALL.iter().find(|vendor| vendor.name() == text);
        named.copied().ok_or_else(|| VendorError(text.chars().take(64).collect()))
    }
}

/// Which vendors' evidence is taken, and on what terms. The default takes none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VendorPolicy {
    /// Terms for each vendor whose evidence is taken.
    pub kinds: BTreeMap<Vendor, Terms>,
}

/// What one vendor's devices and keys must be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Terms {
    /// Least firmware; a vendor that states none then fails.
    pub min_firmware: Option<Firmware>,
    /// Serial numbers of the devices that may be used; empty: any genuine one.
    pub serials: BTreeSet<String>,
    /// Serial numbers that never may.
    pub denied_serials: BTreeSet<String>,
    /// The device must state that the key cannot leave it. SmartCard-HSM never does: see [`schsm`].
    pub require_unexportable: bool,
    /// Takes device certificates past their end (SmartCard-HSM's end while the devices live on).
    pub allow_expired_device: bool,
}

impl Default for Terms {
    /// Any genuine device, and nothing left unsaid.
    fn default() -> Self {
        Self {
            min_firmware: None,
            serials: BTreeSet::new(),
            denied_serials: BTreeSet::new(),
            require_unexportable: true,
            allow_expired_device: false,
        }
    }
}

/// Verifies a vendor's statement about one key.
///
/// `evidence` is one blob: concatenated DER certificates (`yubihsm2`: key, device, sub-CA) or CVCs (`sc-hsm`:
/// EF 2F02, then the key's EF CExx). `key_spki` is the DER SubjectPublicKeyInfo that will have to sign.
///
/// # Errors
/// [`Refused`] with the code of the first check that failed.
pub fn verify(
    kind: &str,
    evidence: &[u8],
    key_spki: &[u8],
    roots: &PinnedRoots,
    policy: &VendorPolicy,
    now: UnixTime,
) -> Result<Claims, Refused> {
    let vendor = match kind.parse::<Vendor>() {
        Ok(vendor) => vendor,
        Err(error) => return refuse(Reason::VendorKind, error.to_string()),
    };
    let Some(terms) = policy.kinds.get(&vendor) else {
        return refuse(Reason::VendorKind, format!("evidence of {vendor} is not enabled"));
    };
    if evidence.len() > MAX_EVIDENCE_BYTES {
        let detail = format!("{vendor} evidence of {} bytes exceeds {MAX_EVIDENCE_BYTES} bytes", evidence.len());
        return refuse(Reason::EvidenceTooLarge, detail);
    }
    let claims = match vendor {
        Vendor::ScHsm => schsm::verify(evidence, key_spki, roots, terms.allow_expired_device, now)?,
        Vendor::YubiHsm2 => yubihsm2::verify(evidence, key_spki, roots, now)?,
    };
    judge(claims, terms)
}

/// Holds verified claims against the operator's terms.
fn judge(claims: Claims, terms: &Terms) -> Result<Claims, Refused> {
    if claims.generated != Tri::Yes {
        return refuse(Reason::VendorImported, "the device does not state that it generated the key");
    }
    match claims.exportable {
        Tri::Yes => return refuse(Reason::VendorExportable, "the device states that the key can leave it"),
        Tri::NotStated if terms.require_unexportable => {
            let detail = format!("{} devices do not state whether a key can leave them", claims.vendor);
            return refuse(Reason::VendorExportable, detail);
        }
        Tri::No | Tri::NotStated => {}
    }
    if let Some(least) = terms.min_firmware {
        match claims.firmware {
            Some(firmware) if firmware >= least => {}
            Some(firmware) => {
                return refuse(Reason::VendorPolicy, format!("firmware {firmware} is below {least}"));
            }
            None => return refuse(Reason::VendorPolicy, format!("no firmware is stated, least is {least}")),
        }
    }
    let serial = &claims.serial;
    if terms.denied_serials.contains(serial) {
        return refuse(Reason::VendorPolicy, format!("device {serial} is on the deny list"));
    }
    if !terms.serials.is_empty() && !terms.serials.contains(serial) {
        return refuse(Reason::VendorPolicy, format!("device {serial} is not on the list of allowed devices"));
    }
    Ok(claims)
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
