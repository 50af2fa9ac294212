//! Evidence for tests: the real samples, and policies.

use std::sync::LazyLock;

use chancery_sdk::time::UnixTime;

use super::{PinnedRoots, Terms, Vendor, VendorPolicy};

/// A day in November 2026; every real sample is in force.
pub(super) const NOW: UnixTime = UnixTime(1_795_305_600);

/// Key, device and sub-CA of YubiHSM 2 20783176.
pub(super) const YUBIHSM2: &[u8] = include_bytes!("samples/yubihsm2-20783176.chain.der");
/// Where device and sub-CA begin in it.
pub(super) const YUBIHSM2_PARTS: [usize; 2] = [1164, 1164 + 880];
/// EF 2F02 of Nitrokey HSM 2 DENK0404144: device, then device issuer.
pub(super) const NITROKEY: &[u8] = include_bytes!("samples/nitrokey-DENK0404144.ef2f02");
/// The request it made for a secp256k1 key.
pub(super) const NITROKEY_KEY: &[u8] = include_bytes!("samples/nitrokey-DENK0404144.ce01");
/// EF 2F02 of a device that vouches for itself.
pub(super) const PICO: &[u8] = include_bytes!("samples/pico-ESP2202E14A.ef2f02");

pub(super) fn roots() -> PinnedRoots {
    static BUILTIN: LazyLock<PinnedRoots> = LazyLock::new(|| PinnedRoots::builtin().unwrap());
    BUILTIN.clone()
}

/// A policy that takes one vendor on these terms.
pub(super) fn on(vendor: Vendor, terms: Terms) -> VendorPolicy {
    VendorPolicy { kinds: [(vendor, terms)].into() }
}

/// The blob with one bit of one byte turned over.
pub(super) fn flipped(blob: &[u8], at: usize) -> Vec<u8> {
    let mut altered = blob.to_vec();
    altered[at] ^= 1 << (at % 8);
    altered
}
