//! A CSR is accepted or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| {
    let _ = chancery_core::csr::Csr::parse(der);
});
