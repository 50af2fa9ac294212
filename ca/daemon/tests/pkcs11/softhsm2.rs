//! SoftHSM2.

use chancery_daemon::key_type::KeyType;
use chancery_hsm::{Site, in_child, site, softhsm2};

use crate::contract;

/// Runs `body` in a child with a token of its own.
fn with_token(test: &str, body: impl FnOnce(&Site)) {
    if let Some(site) = site() {
        return body(&site);
    }
    assert!(!in_child(&format!("softhsm2::{test}"), &softhsm2("ca-a").unwrap()));
}

#[test]
fn keys_of_every_kind_live_and_die() {
    with_token("keys_of_every_kind_live_and_die", |site| contract::keys_live_and_die(site, &KeyType::ALL));
}

#[test]
fn many_sign_at_once() {
    with_token("many_sign_at_once", |site| contract::many_sign_at_once(site, KeyType::EcP256, 200));
}

#[test]
fn keys_outlive_the_process_of_their_making() {
    with_token("keys_outlive_the_process_of_their_making", |site| {
        contract::keys_outlive_the_process_of_their_making(site, KeyType::EcP384);
    });
}
