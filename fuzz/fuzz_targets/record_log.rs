//! Notes, checkpoints, keys, paths and tiles are read or refused; what is read is written the same.
#![no_main]

use chancery_core::log::{
    checkpoint::Checkpoint,
    folder,
    note::{Note, VerifierKey},
    tile::{Row, Tile},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(note) = Note::parse(bytes) {
        let key = VerifierKey::new("example.org/0", [7; 32]).expect("a valid name");
        assert!(note.verify(&[key]).is_err());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            assert_eq!(checkpoint.text(), text);
        }
        if let Ok(key) = text.parse::<VerifierKey>() {
            assert_eq!(key.to_string(), text);
        }
        if let Some(tile) = Tile::parse(text) {
            assert_eq!(tile.path(), text);
        }
    }
    let Some((width, content)) = bytes.split_first() else { return };
    for row in [Row::Entries, Row::Hashes(0)] {
        let Some(tile) = Tile::of_tree(row, 0, u64::from(*width)) else { continue };
        let _ = (tile.entries(content), tile.hashes(content), folder::max_bytes(tile));
    }
});
