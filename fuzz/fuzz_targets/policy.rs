//! A policy file is read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = chancery_core::policy::PolicySet::from_toml(text);
});
