//! Memory and disk.

use std::os::unix::fs::MetadataExt;

use chancery_ca::keys::{DiskKeys, KeyStore, MemoryKeys};
use chancery_daemon::key_type::KeyType;

use crate::contract::{fresh, meets_the_contract, verified};

#[test]
fn memory_keys_meet_the_contract() {
    meets_the_contract(&MemoryKeys::default(), &KeyType::ALL);
}

#[test]
fn disk_keys_meet_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    meets_the_contract(&DiskKeys::open(dir.path().join("keys")).unwrap(), &KeyType::ALL);
}

#[test]
fn disk_keys_outlive_their_store_and_memory_keys_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskKeys::open(dir.path().join("keys")).unwrap();
    for kind in KeyType::ALL {
        let label = fresh("jwt");
        let spki = open().generate(&label, kind).unwrap().spki().to_vec();
        assert!(verified(open().open(&label, Some(&spki)).unwrap().unwrap().as_ref(), b"m"));
    }
    assert!(open().persistent() && !MemoryKeys::default().persistent());
}

#[test]
fn disk_keys_of_earlier_versions_still_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskKeys::open(dir.path().join("keys")).unwrap();
    let pair = chancery_ca::crypto::KeyPair::generate().unwrap();
    let id = "0a".repeat(20);
    std::fs::write(dir.path().join(format!("keys/{id}.key")), &pair.pkcs8).unwrap();
    assert!(store.open(&id, Some(&pair.spki)).unwrap().is_some());
    assert_eq!(store.labels().unwrap(), [id]);
}

#[test]
fn disk_keys_are_for_the_owner_only_and_broken_ones_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskKeys::open(dir.path().join("keys")).unwrap();
    store.generate("k", KeyType::EcP256).unwrap();
    let file = dir.path().join("keys/k.key");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(dir.path().join("keys")).unwrap().mode() & 0o777, 0o700);
    std::fs::write(&file, b"x").unwrap();
    assert!(store.open("k", None).unwrap_err().to_string().contains("k.key"));
}
