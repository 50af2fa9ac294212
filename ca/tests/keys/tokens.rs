//! Tokens of every module. Those that `make test` has no packages for are run by `make test-hsm`.

use chancery_ca::keys::TokenKeys;
use chancery_daemon::{config::Span, key_type::KeyType, pkcs11::TokenConfig};
use chancery_hsm::{Network, Site, in_child, kryoptic, opencryptoki, site, softhsm2, tpm2_pkcs11};

use crate::contract::meets_the_contract;

pub fn config(site: &Site) -> TokenConfig {
    let mut config = TokenConfig::new(site.module.clone(), site.uri.clone());
    config.pin_file = Some(site.pin_file.clone());
    // A software TPM on a busy machine takes its time to make an RSA key.
    config.deadline = Span::secs(20);
    config
}

fn judged(test: &str, kinds: &[KeyType], make: impl FnOnce() -> Result<Site, String>) {
    if let Some(site) = site() {
        let dir = tempfile::tempdir().unwrap();
        return meets_the_contract(&TokenKeys::open(&config(&site), dir.path()).unwrap(), kinds);
    }
    assert!(!in_child(&format!("tokens::{test}"), &make().unwrap()));
}

#[test]
fn softhsm2_meets_the_contract() {
    judged("softhsm2_meets_the_contract", &KeyType::ALL, || softhsm2("ca-a"));
}

#[test]
fn tpm2_pkcs11_meets_the_contract() {
    // What a TPM has; larger RSA keys are not in swtpm's profile.
    let kinds = [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048];
    judged("tpm2_pkcs11_meets_the_contract", &kinds, || tpm2_pkcs11("tpm-a"));
}

#[test]
#[ignore = "`make test-hsm` builds the module"]
fn kryoptic_meets_the_contract() {
    judged("kryoptic_meets_the_contract", &KeyType::ALL, || kryoptic("kry-a"));
}

#[test]
#[ignore = "`make test-hsm` sets the system up"]
fn opencryptoki_meets_the_contract() {
    // No curves in Debian's.
    let kinds = [KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096];
    judged("opencryptoki_meets_the_contract", &kinds, || opencryptoki("ock-a"));
}

#[test]
fn p11_kit_meets_the_contract() {
    if site().is_some() {
        return judged("p11_kit_meets_the_contract", &[KeyType::EcP256, KeyType::Rsa2048], || unreachable!());
    }
    let network = Network::serve(softhsm2("net-a").unwrap()).unwrap();
    assert!(!in_child("tokens::p11_kit_meets_the_contract", &network.client().unwrap()));
}
