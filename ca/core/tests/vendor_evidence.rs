//! Verifies vendor evidence from a device of your own: see `src/evidence/pkcs11/vendor/samples/README.md`.

use chancery_core::evidence::pkcs11::vendor::{PinnedRoots, Terms, VendorPolicy, verify};
use chancery_sdk::time::UnixTime;

#[test]
#[ignore = "needs the files its variables name"]
fn evidence_named_by_the_environment_verifies() {
    let read = |name: &str| std::fs::read(std::env::var(name).expect(name)).expect(name);
    let kind = std::env::var("VENDOR").expect("VENDOR");
    let terms = Terms { require_unexportable: kind != "sc-hsm", ..Terms::default() };
    let policy = VendorPolicy { kinds: [(kind.parse().unwrap(), terms)].into() };
    let now = UnixTime::from(std::time::SystemTime::now());
    let roots = PinnedRoots::builtin().unwrap();
    let claims = verify(&kind, &read("EVIDENCE"), &read("KEY_SPKI"), &roots, &policy, now).unwrap();
    println!("{claims:?}");
}
