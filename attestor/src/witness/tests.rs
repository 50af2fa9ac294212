//! A node against logs that were rewritten, cut, forked and signed by others.

use std::{collections::BTreeMap, time::Duration};

use chancery_core::log::{
    note::{self, VerifierKey},
    proof,
    tile::Tile,
    tree::{Tree, bytes_of},
};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

/// A log of leaves that are their number, but those from `changed` on, and its key.
struct Log {
    key: Ed25519KeyPair,
    epoch: i64,
    changed: u64,
}

fn log() -> Log {
    Log { key: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(), epoch: 0, changed: u64::MAX }
}

impl Log {
    fn public(&self) -> [u8; 32] {
        self.key.public_key().as_ref().try_into().unwrap()
    }

    fn leaf(&self, number: u64) -> Hash {
        let mut leaf = [u8::from(number >= self.changed); 32];
        leaf[..8].copy_from_slice(&number.to_be_bytes());
        leaf
    }

    fn tree(&self, size: u64) -> (Tree, BTreeMap<Tile, Vec<u8>>) {
        let (mut tree, mut tiles) = (Tree::default(), BTreeMap::new());
        for number in 0..size {
            tree.append(self.leaf(number), |tile, hashes| drop(tiles.insert(tile, bytes_of(hashes))));
        }
        for (tile, hashes) in tree.partial() {
            tiles.insert(tile, bytes_of(hashes));
        }
        (tree, tiles)
    }

    fn at(&self, from: u64, size: u64) -> Offered {
        let (tree, tiles) = self.tree(size);
        let origin = checkpoint::origin("example.org", self.epoch);
        let text = Checkpoint { origin: origin.clone(), head: Head { size, root: tree.root() } }.text();
        let signature = self.key.sign(text.as_bytes());
        let key = VerifierKey::new(&origin, self.public()).unwrap();
        let note = note::write(&text, &key, signature.as_ref().try_into().unwrap()).into_bytes();
        let read = |tile: Tile| tiles.get(&tile).cloned().ok_or(());
        let consistency = if from <= size { proof::consistency(from, size, read).unwrap() } else { Vec::new() };
        Offered { note, from, consistency, keys: vec![self.public()] }
    }
}

fn settings(dir: &tempfile::TempDir) -> Settings {
    let domain = TrustDomain::new("example.org").unwrap();
    Settings { domain, file: dir.path().join("witness.json"), keys: Vec::new() }
}

fn witness(dir: &tempfile::TempDir) -> Witness {
    Witness::open(settings(dir), WorkloadMetrics::default())
}

/// One that keeps the log's first hundred events.
fn witnessed(dir: &tempfile::TempDir) -> Witness {
    let mut witness = witness(dir);
    assert_eq!(witness.take(log().at(0, 100)), None);
    witness
}

fn why(report: Option<Report>) -> &'static str {
    report.expect("refused").why
}

#[tokio::test]
async fn what_continues_the_kept_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = witnessed(&dir);
    assert_eq!(witness.take(log().at(100, 700)), None);
    assert_eq!(witness.take(log().at(700, 700)), None, "the same again");
    assert_eq!(witness.begin(), log().at(0, 700).note);
    assert_eq!((witness.metrics.log_size.get(), witness.metrics.log_disputed.get()), (700, 0));
}

#[tokio::test]
async fn a_record_rewritten_with_the_stolen_key_is_found() {
    let dir = tempfile::tempdir().unwrap();
    for (changed, size) in [(40, 130), (99, 100), (0, 5000)] {
        let mut witness = witnessed(&dir);
        let rewritten = Log { changed, ..log() };
        let report = witness.take(rewritten.at(100, size)).expect("refused");
        assert_eq!((report.why, report.kept), ("another", log().at(0, 100).note));
        assert_eq!(witness.metrics.log_disputed.get(), 1);
        assert_eq!(witness.begin(), log().at(0, 100).note, "what is kept stays");
        assert_eq!(witness.take(log().at(100, 200)), None, "and the true log goes on");
        assert_eq!(witness.metrics.log_disputed.get(), 0);
    }
}

#[tokio::test]
async fn a_cut_record_is_found_and_what_grows_on_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = witnessed(&dir);
    assert_eq!(why(witness.take(log().at(90, 90))), "cut");
    // It has grown since, in another way: the CA proves that it continues the cut one, which is not what is asked.
    let grown = Log { changed: 90, ..log() };
    assert_eq!(witness.take(grown.at(90, 120)), None, "told already");
    drop(witness.begin());
    assert_eq!(why(witness.take(grown.at(100, 120))), "another");
    drop(witness.begin());
    assert_eq!(why(witness.take(grown.at(90, 120))), "unproven");
    assert_eq!(witness.begin(), log().at(0, 100).note);
}

#[tokio::test]
async fn what_a_pinned_key_did_not_sign_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = || Log { key: Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap(), ..log() };
    let mut pinned = witnessed(&dir);
    assert_eq!(why(pinned.take(other().at(100, 200))), "key");
    let named = Settings { keys: vec![log().public()], ..settings(&tempfile::tempdir().unwrap()) };
    let mut named = Witness::open(named, WorkloadMetrics::default());
    assert_eq!(why(named.take(other().at(0, 100))), "key", "at first sight too");
    let mut forged = log().at(100, 200);
    let last = forged.note.len() - 5;
    forged.note[last] = if forged.note[last] == b'A' { b'B' } else { b'A' };
    assert_eq!(why(pinned.take(forged)), "forged");
    let claims = Offered { keys: vec![other().public(), log().public()], ..other().at(100, 200) };
    assert_eq!(why(pinned.take(claims)), "key", "what the CA says later pins nothing");
}

#[tokio::test]
async fn what_is_no_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = witnessed(&dir);
    let origin = String::from_utf8(log().at(0, 3).note).unwrap().replace("example.org", "other.org");
    for note in [Vec::new(), b"x".to_vec(), vec![b'a'; MAX_NOTE_BYTES + 1], origin.into_bytes()] {
        assert_eq!(why(witness.take(Offered { note, ..Offered::default() })), "malformed");
    }
    let long = Offered { consistency: vec![[0; 32]; MAX_PROOF + 1], ..log().at(100, 200) };
    assert_eq!(why(witness.take(long)), "another");
}

#[tokio::test]
async fn an_older_epoch_is_refused_and_a_newer_one_leaves_the_last_of_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut witness = witnessed(&dir);
    assert_eq!(witness.take(Log { epoch: 1, ..log() }.at(0, 3)), None);
    assert_eq!(witness.kept.as_ref().unwrap().before, [String::from_utf8(log().at(0, 100).note).unwrap()]);
    assert_eq!(why(witness.take(log().at(0, 200))), "epoch");
}

#[tokio::test]
async fn what_is_kept_outlives_the_process_and_nonsense_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(&dir).file;
    let first = witnessed(&dir);
    let there = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("it is written");
    drop(first);
    let mut again = witness(&dir);
    assert_eq!(why(again.take(Log { changed: 1, ..log() }.at(100, 120))), "another");
    std::fs::write(&file, "{}").unwrap();
    assert!(witness(&dir).kept.is_none());
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.len() == 1 && names[0].to_string_lossy().contains("corrupt"), "{names:?}");
}
