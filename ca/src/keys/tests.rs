use chancery_daemon::public_key::PublicKey;

use super::*;

fn label(name: &str) -> String {
    label::fresh(name, uuid::Uuid::now_v7())
}

fn verified(key: &dyn Signer, message: &[u8]) -> bool {
    PublicKey::from_spki(key.spki()).unwrap().verifies(message, &key.sign(message).unwrap())
}

/// What every key store must do, for each kind of key.
fn conformance(store: &dyn KeyStore, kinds: &[KeyType]) {
    for kind in kinds {
        let label = label("x509");
        let key = store.generate(&label, *kind).unwrap();
        assert_eq!(key.key_type(), *kind);
        assert!(verified(key.as_ref(), b"m") && verified(key.as_ref(), &[7; 5000]) && verified(key.as_ref(), b""));
        assert!(matches!(store.generate(&label, *kind), Err(KeyError::Exists(_))), "one label, one key");
        let again = store.open(&label, Some(key.spki())).unwrap().unwrap();
        assert_eq!((again.spki(), again.key_type()), (key.spki(), *kind));
        assert!(verified(again.as_ref(), b"m"));
        assert!(store.labels().unwrap().contains(&label));
        let other = MemoryKeys::default().generate("other", *kind).unwrap();
        assert!(matches!(store.open(&label, Some(other.spki())), Err(KeyError::OtherKey(_))));
        assert!(matches!(store.delete(&label, other.spki()), Err(KeyError::OtherKey(_))));
        assert!(store.open(&label, None).unwrap().is_some(), "the wrong public half deletes nothing");
        store.delete(&label, key.spki()).unwrap();
        store.delete(&label, key.spki()).unwrap();
        assert!(store.open(&label, None).unwrap().is_none());
        assert!(!store.labels().unwrap().contains(&label));
    }
    assert!(store.open(&self::label("absent"), None).unwrap().is_none());
    assert!(matches!(store.open("a b", None), Err(KeyError::Label(_))));
    assert!(matches!(store.generate("../x", KeyType::EcP256), Err(KeyError::Label(_))));
}

#[test]
fn memory_keys_meet_the_contract() {
    conformance(&MemoryKeys::default(), &KeyType::ALL);
}

#[test]
fn disk_keys_meet_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    conformance(&DiskKeys::open(dir.path().join("keys")).unwrap(), &KeyType::ALL);
}

#[test]
fn disk_keys_outlive_their_store_and_memory_keys_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskKeys::open(dir.path().join("keys")).unwrap();
    for kind in KeyType::ALL {
        let label = label("jwt");
        let spki = open().generate(&label, kind).unwrap().spki().to_vec();
        assert!(verified(open().open(&label, Some(&spki)).unwrap().unwrap().as_ref(), b"m"));
    }
    assert!(open().persistent() && !MemoryKeys::default().persistent());
}

#[test]
fn disk_keys_of_earlier_versions_still_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskKeys::open(dir.path().join("keys")).unwrap();
    let pkcs8 = crate::crypto::KeyPair::generate().unwrap();
    let id = "0a".repeat(20);
    std::fs::write(dir.path().join(format!("keys/{id}.key")), &pkcs8.pkcs8).unwrap();
    assert!(store.open(&id, Some(&pkcs8.spki)).unwrap().is_some());
    assert_eq!(store.labels().unwrap(), [id]);
}

#[test]
fn disk_keys_are_for_the_owner_only_and_broken_ones_are_named() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let store = DiskKeys::open(dir.path().join("keys")).unwrap();
    store.generate("k", KeyType::EcP256).unwrap();
    let file = dir.path().join("keys/k.key");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(dir.path().join("keys")).unwrap().mode() & 0o777, 0o700);
    std::fs::write(&file, b"x").unwrap();
    assert!(store.open("k", None).unwrap_err().to_string().contains("k.key"));
}
