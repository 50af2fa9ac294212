//! A TPMS_ATTEST is accepted or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = chancery_core::evidence::tpm::attest::parse(bytes);
});
