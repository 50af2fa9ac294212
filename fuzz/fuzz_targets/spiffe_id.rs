//! What parses prints as it was read, and its parts parse again.
#![no_main]

use chancery_sdk::id::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(SpiffeId::from_path(&id.trust_domain(), id.path()).as_ref(), Ok(&id));
    }
});
