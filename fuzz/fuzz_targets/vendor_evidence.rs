//! Evidence of a maker is accepted or refused, never a panic.
#![no_main]

use std::sync::LazyLock;

use chancery_core::evidence::pkcs11::vendor::{PinnedRoots, Terms, Vendor, VendorPolicy, verify};
use chancery_sdk::time::UnixTime;
use libfuzzer_sys::fuzz_target;

static ROOTS: LazyLock<PinnedRoots> = LazyLock::new(|| PinnedRoots::builtin().expect("the pinned roots"));

fuzz_target!(|evidence: &[u8]| {
    let kinds = Vendor::ALL.iter().map(|vendor| (*vendor, Terms::default())).collect();
    let policy = VendorPolicy { kinds };
    for vendor in Vendor::ALL {
        let _ = verify(vendor.name(), evidence, &[], &ROOTS, &policy, UnixTime(1_795_305_600));
        let _ = ROOTS.clone().add_root(*vendor, evidence);
    }
});
