//! A certificate is an SVID's leaf or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let _ = chancery_sdk::x509::leaf_id(der);
});
