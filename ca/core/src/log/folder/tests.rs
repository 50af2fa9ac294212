use super::*;
use crate::log::{proof::Head, sample::Log};

fn checkpoint(log: &Log) -> Checkpoint {
    Checkpoint { origin: "example.org/0".into(), head: Head { size: log.size(), root: log.root } }
}

fn verified(log: &Log) -> Result<(), FolderFault<String>> {
    verify(&checkpoint(log), 0, |tile| log.read(tile), |_| {})
}

/// What `verify` says where this tile holds something else.
fn with(log: &Log, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut other = log.clone();
    change(other.tiles.get_mut(&Tile::parse(path).unwrap()).unwrap());
    verified(&other).unwrap_err().to_string()
}

#[test]
fn whole_folders_of_any_size_verify() {
    for size in [0, 1, 255, 256, 257, 1000, 65_536, 65_800] {
        let log = Log::of(size);
        let mut seen = 0;
        verify(&checkpoint(&log), 0, |tile| log.read(tile), |n| seen = n).unwrap();
        assert_eq!(seen, log.size());
    }
}

#[test]
fn an_altered_event_or_hash_is_named() {
    let log = Log::of(600);
    // Still an event, but with another number in a field: only its leaf gives it away.
    let edited = with(&log, "tile/entries/001", |bytes| {
        let at = bytes.windows(7).position(|w| w == b"\"n\":300").unwrap();
        bytes[at + 6] = b'1';
    });
    assert_eq!(edited, "tile/0/001: its hash of event 300 is another one");
    assert_eq!(with(&log, "tile/0/001", |b| b[32 * 9] ^= 1), "tile/0/001: its hash of event 265 is another one");
    assert_eq!(
        with(&log, "tile/1/000.p/2", |b| b[40] ^= 1),
        "tile/1/000.p/2: its hash of events 256 to 511 is another one"
    );
    assert!(with(&log, "tile/entries/002.p/88", |b| b[3] ^= 1).starts_with("event 512 is edited"));
}

#[test]
fn a_truncated_tile_is_named() {
    let log = Log::of(600);
    assert!(with(&log, "tile/0/001", |b| b.truncate(100)).starts_with("tile/0/001 has 100 bytes"));
    assert!(with(&log, "tile/entries/000", |b| b.truncate(b.len() - 1)).starts_with("tile/entries/000 has "));
    let mut other = log.clone();
    other.tiles.remove(&Tile::parse("tile/0/002.p/88").unwrap());
    assert_eq!(verified(&other).unwrap_err().to_string(), "tile/0/002.p/88: no tile/0/002.p/88");
}

#[test]
fn tiles_that_agree_among_themselves_are_not_the_checkpoints() {
    let log = Log::of(600);
    let mut other = checkpoint(&log);
    other.head.root[0] ^= 1;
    let fault = verify(&other, 0, |tile| log.read(tile), |_| {}).unwrap_err();
    assert!(matches!(fault, FolderFault::Root { size: 600 }), "{fault}");
}

#[test]
fn events_of_another_epoch_are_not_this_folders() {
    let log = Log::of(3);
    let fault = verify(&checkpoint(&log), 1, |tile| log.read(tile), |_| {}).unwrap_err();
    assert_eq!(fault.to_string(), "event 0 is missing: the next one there is 0");
}

#[test]
fn a_bundle_that_differs_names_its_first_other_event() {
    let log = Log::of(300);
    let mut events = log.events[256..].to_vec();
    assert!(compare_entries(1, &events, 300, |tile| log.read(tile)).is_ok());
    // The tree may be longer than the folder.
    events.push(b"more".to_vec());
    assert!(compare_entries(1, &events, 300, |tile| log.read(tile)).is_ok());
    assert!(compare_entries(2, &events, 300, |tile| log.read(tile)).is_ok());
    events[5] = b"other".to_vec();
    let fault = compare_entries(1, &events, 300, |tile| log.read(tile)).unwrap_err();
    assert_eq!(fault.to_string(), "tile/entries/001.p/44: event 261 is another one there");
}
