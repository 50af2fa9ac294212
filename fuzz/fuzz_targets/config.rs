//! A configuration is read or refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(problem) = chancery_daemon::config::parse::<chancery_ca::config::Config>(text) {
        assert!(!problem.contains('\n'));
    }
});
