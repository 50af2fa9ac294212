//! tpm2-pkcs11 over a software TPM: refuses usage flags, and is locked by wrong PINs for good.

use chancery_daemon::key_type::KeyType;
use chancery_hsm::{in_child, site, tpm2_pkcs11};

use crate::contract;

#[test]
fn keys_live_and_die() {
    if let Some(site) = site() {
        return contract::keys_live_and_die(&site, &[KeyType::EcP256, KeyType::EcP384]);
    }
    assert!(!in_child("tpm2::keys_live_and_die", &tpm2_pkcs11("tpm-a").unwrap()));
}
