//! The binary over folders made here: what it says, and its exit codes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chancery_core::{
    event::{Event, Place},
    log::{
        checkpoint::Checkpoint,
        note::{self, VerifierKey},
        proof::Head,
        tile::{Row, Tile, push_entry},
        tree::{Tree, bytes_of},
    },
};
use chancery_sdk::time::UnixTime;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tempfile::TempDir;

const ORIGIN: &str = "example.org/0";

fn pair(seed: u8) -> (Ed25519KeyPair, VerifierKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = VerifierKey::new(ORIGIN, pair.public_key().as_ref().try_into().unwrap()).unwrap();
    (pair, key)
}

/// A log of events whose `version` is `what`, signed by the key of `seed`.
fn log(events: i64, what: &str, seed: u8) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |tile: Tile, bytes: &[u8]| {
        let path = dir.path().join(tile.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let (mut tree, mut bundle) = (Tree::default(), Vec::new());
    for number in 0..events {
        let place = Place { epoch: 0, number, at: UnixTime(1000 + number), server: "s1" };
        let sealed = Event::new("server.started", "").with("version", what).seal(place, || [0; 16]);
        assert!(push_entry(&mut bundle, &sealed.bytes));
        tree.append(sealed.hash, |tile, hashes| {
            put(tile, &bytes_of(hashes));
            if tile.row == Row::Hashes(0) {
                put(Tile { row: Row::Entries, ..tile }, &std::mem::take(&mut bundle));
            }
        });
    }
    tree.partial().for_each(|(tile, hashes)| put(tile, &bytes_of(hashes)));
    if let Some(tile) = Tile::of_tree(Row::Entries, events as u64 / 256, events as u64) {
        put(tile, &bundle);
    }
    let head = Head { size: tree.size(), root: tree.root() };
    let text = Checkpoint { origin: ORIGIN.into(), head }.text();
    let (pair, key) = pair(seed);
    let signature = pair.sign(text.as_bytes()).as_ref().try_into().unwrap();
    fs::write(dir.path().join("checkpoint"), note::write(&text, &key, &signature)).unwrap();
    dir
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chancery-verify")).args(arguments).output().unwrap()
}

fn with(dir: &Path, command: &str, seed: u8, more: &[&str]) -> Output {
    let key = pair(seed).1.to_string();
    run(&[&[command, dir.to_str().unwrap(), "--key", &key][..], more].concat())
}

fn verified(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn checkpoint(dir: &TempDir) -> PathBuf {
    dir.path().join("checkpoint")
}

#[test]
fn a_whole_log_verifies_and_continues_an_older_one() {
    let (older, newer) = (log(300, "v", 1), log(1000, "v", 1));
    assert!(verified(&with(newer.path(), "log", 1, &[])).contains("1000 events verified"));
    let since = checkpoint(&older);
    let told = verified(&with(newer.path(), "log", 1, &["--since", since.to_str().unwrap(), "--output", "json"]));
    assert!(told.contains("\"verified\":true") && told.contains("\"size\":\"1000\""), "{told}");
    let told = verified(&with(newer.path(), "consistency", 1, &[since.to_str().unwrap()]));
    assert!(told.contains("1000 events begins with the one of 300"), "{told}");
}

#[test]
fn one_event_is_proved_from_few_tiles() {
    let dir = log(1000, "v", 1);
    let told = verified(&with(dir.path(), "inclusion", 1, &["700"]));
    assert!(told.contains("\"number\":700") && told.contains("is in the log of 1000 events"), "{told}");
    // Neither the other bundles nor the other tiles are looked at.
    for tile in ["tile/entries/000", "tile/entries/001", "tile/0/000", "tile/0/001"] {
        fs::remove_file(dir.path().join(tile)).unwrap();
    }
    verified(&with(dir.path(), "inclusion", 1, &["700"]));
    assert!(refused(&with(dir.path(), "inclusion", 1, &["1000"])).contains("not below the checkpoint's 1000"));
}

#[test]
fn parts_that_a_full_tile_replaced_are_read_from_it() {
    let (dir, longer) = (log(300, "v", 1), log(600, "v", 1));
    fs::copy(checkpoint(&dir), checkpoint(&longer)).unwrap();
    let parts = longer.path().join("tile/1/000.p");
    fs::copy(parts.join("2"), parts.join("1")).unwrap();
    let bytes = fs::read(parts.join("1")).unwrap();
    fs::write(parts.join("1"), &bytes[..32]).unwrap();
    assert!(verified(&with(longer.path(), "log", 1, &[])).contains("300 events verified"));
}

#[test]
fn what_was_altered_is_named() {
    let dir = log(600, "v", 1);
    let bundle = dir.path().join("tile/entries/001");
    let bytes = fs::read(&bundle).unwrap();
    let at = bytes.windows(3).position(|w| w == b"\"v\"").unwrap();
    let mut other = bytes.clone();
    other[at + 1] = b'w';
    fs::write(&bundle, &other).unwrap();
    assert!(refused(&with(dir.path(), "log", 1, &[])).contains("event 256"));
    assert!(refused(&with(dir.path(), "inclusion", 1, &["256"])).contains("was altered"));
    fs::write(&bundle, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&with(dir.path(), "log", 1, &[])).contains("tile/entries/001"));
}

#[test]
fn another_key_another_past_and_a_cut_log_are_refused() {
    let (dir, other) = (log(600, "v", 1), log(700, "w", 1));
    assert!(refused(&with(dir.path(), "log", 2, &[])).contains("not signed by a key that is trusted"));
    let older = checkpoint(&dir);
    let split = with(other.path(), "consistency", 1, &[older.to_str().unwrap()]);
    assert!(refused(&split).contains("a split view"));
    let longer = log(700, "v", 1);
    let cut = with(dir.path(), "log", 1, &["--since", checkpoint(&longer).to_str().unwrap()]);
    assert!(refused(&cut).contains("the log was cut"));
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [&["log"][..], &["log", "/nowhere", "--key", "no key"], &["inclusion", "/nowhere", "--key"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
