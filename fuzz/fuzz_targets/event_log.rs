//! A measured-boot log is read in bounded memory and time, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = chancery_core::eventlog::examine(bytes);
});
