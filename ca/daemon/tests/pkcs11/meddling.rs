//! Others at the same token: they log us out, delete and double keys, and initialise the module under us.

use std::time::{Duration, Instant};

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{State, TokenError},
    public_key::PublicKey,
};
use chancery_hsm::{PIN, Site, in_child, site, softhsm2};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};

use crate::contract::{label, open};

fn with_token(test: &str, body: impl FnOnce(&Site)) {
    if let Some(site) = site() {
        return body(&site);
    }
    assert!(!in_child(&format!("meddling::{test}"), &softhsm2("ca-a").unwrap()));
}

/// Somebody else in this process; the module is initialised already.
fn other(site: &Site) -> (Pkcs11, Session) {
    let context = Pkcs11::new(&site.module).unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    (context, session)
}

fn objects(session: &Session, class: ObjectClass, label: &str) -> Vec<ObjectHandle> {
    session.find_objects(&[Attribute::Class(class), Attribute::Label(label.into())]).unwrap()
}

#[test]
fn a_logout_by_somebody_else_is_made_good() {
    with_token("a_logout_by_somebody_else_is_made_good", |site| {
        let token = open(site);
        let (first, second) = (label("one"), label("two"));
        let key = token.generate(&first, KeyType::EcP256).unwrap();
        let spki = token.generate(&second, KeyType::EcP256).unwrap().spki().to_vec();
        let (_context, session) = other(site);
        for _ in 0..3 {
            session.logout().unwrap();
            key.sign(b"m").unwrap();
            session.logout().unwrap();
            assert!(token.find(&second, Some(&spki)).unwrap().is_some(), "a key that cannot be seen is not lost");
        }
    });
}

#[test]
fn a_key_deleted_by_somebody_else_is_told_and_the_others_sign() {
    with_token("a_key_deleted_by_somebody_else_is_told_and_the_others_sign", |site| {
        let token = open(site);
        let (gone, kept) = (label("gone"), label("kept"));
        let lost = token.generate(&gone, KeyType::EcP256).unwrap();
        let key = token.generate(&kept, KeyType::EcP256).unwrap();
        lost.sign(b"m").unwrap();
        let (_context, session) = other(site);
        session.destroy_object(objects(&session, ObjectClass::PRIVATE_KEY, &gone)[0]).unwrap();
        assert!(matches!(lost.sign(b"m"), Err(TokenError::KeyMissing(_))));
        assert_eq!(token.health().state, State::Degraded);
        assert!(matches!(token.find(&gone, None), Err(TokenError::HalfPair { .. })));
        key.sign(b"m").unwrap();
    });
}

#[test]
fn a_label_that_two_keys_have_is_refused() {
    with_token("a_label_that_two_keys_have_is_refused", |site| {
        let token = open(site);
        let label = label("double");
        let key = token.generate(&label, KeyType::EcP256).unwrap();
        let (_context, session) = other(site);
        let named = Attribute::Label(label.clone().into());
        let curve = Attribute::EcParams(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07".to_vec());
        session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &[Attribute::Token(true), named.clone(), curve],
                &[Attribute::Token(true), Attribute::Private(true), Attribute::Sign(true), named],
            )
            .unwrap();
        let told = token.find(&label, Some(key.spki())).unwrap_err();
        assert!(matches!(told, TokenError::Ambiguous { count: 2, .. }), "{told}");
        assert!(token.destroy(&label, key.spki()).is_err(), "which one is meant cannot be told");
        assert_eq!(objects(&session, ObjectClass::PRIVATE_KEY, &label).len(), 2);
    });
}

/// After finalize and initialize the module hands out the same small numbers again: an old session is somebody
/// else's, and an old handle names another key.
#[test]
fn a_module_initialised_under_us_never_makes_a_key_sign_for_another() {
    with_token("a_module_initialised_under_us_never_makes_a_key_sign_for_another", |site| {
        let token = open(site);
        let keys: Vec<_> = (0..4).map(|_| token.generate(&label("alias"), KeyType::EcP256).unwrap()).collect();
        for round in 0..3_u8 {
            keys.iter().for_each(|key| drop(key.sign(&[round]).unwrap()));
            let (context, session) = other(site);
            drop(session);
            context.clone().finalize().unwrap();
            context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
            // Sessions of somebody else that have the numbers of ours, logged in; handles found in another order.
            let slot = context.get_slots_with_initialized_token().unwrap()[0];
            let sessions: Vec<_> = (0..6).map(|_| context.open_rw_session(slot).unwrap()).collect();
            sessions[0].login(UserType::User, Some(&AuthPin::new(PIN.into()))).unwrap();
            for key in keys.iter().rev() {
                objects(&sessions[1], ObjectClass::PRIVATE_KEY, key.label());
            }
            for (n, key) in keys.iter().enumerate() {
                let (public, began) = (PublicKey::from_spki(key.spki()).unwrap(), Instant::now());
                let message = [round, u8::try_from(n).unwrap()];
                let signature = loop {
                    match key.sign(&message) {
                        Ok(signature) => break signature,
                        Err(problem) => assert!(began.elapsed() < Duration::from_secs(20), "{problem}"),
                    }
                    std::thread::sleep(Duration::from_millis(20));
                };
                assert!(public.verifies(&message, &signature));
            }
            // Not closed: their numbers may be ours by now.
            sessions.into_iter().for_each(std::mem::forget);
        }
    });
}
