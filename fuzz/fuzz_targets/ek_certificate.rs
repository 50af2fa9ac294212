//! An EK certificate is accepted or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let _ = chancery_core::evidence::tpm::ek_certificate::parse(der);
    let _ = chancery_core::evidence::tpm::ek_certificate::parse_public(der);
});
