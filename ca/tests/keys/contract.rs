//! What every key store must do.

use chancery_ca::keys::{KeyError, KeyStore, MemoryKeys, Signer, label};
use chancery_daemon::{key_type::KeyType, public_key::PublicKey};

pub fn fresh(purpose: &str) -> String {
    label::fresh(purpose, uuid::Uuid::now_v7())
}

pub fn verified(key: &dyn Signer, message: &[u8]) -> bool {
    PublicKey::from_spki(key.spki()).unwrap().verifies(message, &key.sign(message).unwrap())
}

/// Everything a store promises, for each kind of key it has.
pub fn meets_the_contract(store: &dyn KeyStore, kinds: &[KeyType]) {
    for kind in kinds {
        a_key_lives_and_dies(store, *kind);
    }
    assert!(store.open(&fresh("absent"), None).unwrap().is_none());
    assert!(matches!(store.open("a b", None), Err(KeyError::Label(_))));
    assert!(matches!(store.generate("../x", KeyType::EcP256), Err(KeyError::Label(_))));
    many_threads_sign(store, kinds[0]);
}

fn a_key_lives_and_dies(store: &dyn KeyStore, kind: KeyType) {
    let label = fresh("x509");
    let key = store.generate(&label, kind).unwrap();
    assert_eq!(key.key_type(), kind);
    for message in [b"m".as_slice(), &[7; 5000], b""] {
        assert!(verified(key.as_ref(), message), "{kind}");
    }
    assert!(matches!(store.generate(&label, kind), Err(KeyError::Exists(_))), "one label, one key");
    for spki in [None, Some(key.spki())] {
        let again = store.open(&label, spki).unwrap().unwrap();
        assert_eq!((again.spki(), again.key_type()), (key.spki(), kind));
        assert!(verified(again.as_ref(), b"m"));
    }
    assert!(store.labels().unwrap().contains(&label));
    let other = MemoryKeys::default().generate("other", KeyType::EcP256).unwrap();
    assert!(matches!(store.open(&label, Some(other.spki())), Err(KeyError::OtherKey(_))));
    assert!(matches!(store.delete(&label, other.spki()), Err(KeyError::OtherKey(_))));
    assert!(store.open(&label, None).unwrap().is_some(), "the wrong public half deletes nothing");
    store.delete(&label, key.spki()).unwrap();
    store.delete(&label, key.spki()).unwrap();
    assert!(store.open(&label, None).unwrap().is_none());
    assert!(!store.labels().unwrap().contains(&label));
}

fn many_threads_sign(store: &dyn KeyStore, kind: KeyType) {
    let label = fresh("jwt");
    let key = store.generate(&label, kind).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let key = key.as_ref();
            scope.spawn(move || (0..10).for_each(|n| assert!(verified(key, &[thread, n]))));
        }
    });
    store.delete(&label, key.spki()).unwrap();
}
