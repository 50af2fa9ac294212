use super::*;

fn hashes(level: u8, index: u64, width: u16) -> Tile {
    Tile { row: Row::Hashes(level), index, width }
}

#[test]
fn paths_are_those_of_the_specification() {
    for (tile, path) in [
        (hashes(0, 0, 256), "tile/0/000"),
        (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (hashes(2, 273, 112), "tile/2/273.p/112"),
        (Tile { row: Row::Entries, index: 1000, width: 1 }, "tile/entries/x001/000.p/1"),
    ] {
        assert_eq!(tile.path(), path);
        assert_eq!(Tile::parse(path), Some(tile));
    }
}

#[test]
fn only_one_form_of_a_path_is_one() {
    for path in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/00/000",
        "tile/+0/000",
        "tile/7/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/012",
        "tile/0/000.p/",
        "tile/0/-01",
        "tile/0/+01",
        "tile/entry/000",
        "tile/0/../000",
        "tile/0/000/",
        "tile/0/x+01/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Tile::parse(path), None, "{path}");
    }
}

#[test]
fn a_tree_of_seventy_thousand_has_the_tiles_the_specification_says() {
    let at = |level, index| Tile::of_tree(Row::Hashes(level), index, 70_000).map(|tile| tile.width);
    assert_eq!((at(0, 272), at(0, 273), at(0, 274)), (Some(256), Some(112), None));
    assert_eq!((at(1, 0), at(1, 1), at(2, 0), at(3, 0)), (Some(256), Some(17), Some(1), None));
    assert_eq!(Tile::of_tree(Row::Entries, 273, 70_000).map(|tile| tile.width), Some(112));
    let partial: Vec<_> = Tile::partial_of_tree(256).collect();
    assert_eq!(partial, [hashes(1, 0, 1)]);
    assert_eq!(Tile::of_tree(Row::Hashes(0), 0, 256), Some(hashes(0, 0, 256)));
    assert_eq!(Tile::of_tree(Row::Hashes(0), u64::MAX, MAX_SIZE), None);
    assert_eq!(Tile::of_tree(Row::Hashes(0), 0, MAX_SIZE + 1), None);
}

#[test]
fn a_bundle_gives_back_its_events_and_no_other_length_is_read() {
    let mut bundle = Vec::new();
    for event in [&b"one"[..], b"", b"three"] {
        assert!(push_entry(&mut bundle, event));
    }
    let tile = Tile { row: Row::Entries, index: 0, width: 3 };
    assert_eq!(tile.entries(&bundle).unwrap(), [&b"one"[..], b"", b"three"]);
    for cut in 0..bundle.len() {
        assert!(tile.entries(&bundle[..cut]).is_err(), "{cut}");
    }
    assert!(tile.entries(&[&bundle[..], &[0]].concat()).is_err());
    assert!(tile.entries(&[&bundle[..], &[0, 0]].concat()).is_err());
    assert!(!push_entry(&mut bundle, &vec![0; MAX_ENTRY_BYTES + 1]));
    assert!(push_entry(&mut bundle, &vec![0; MAX_ENTRY_BYTES]));
}

#[test]
fn a_part_is_read_from_the_full_tile_that_replaced_it() {
    let mut bundle = Vec::new();
    assert!((0..=255u8).all(|n| push_entry(&mut bundle, &vec![n; usize::from(n)])));
    let part = Tile { row: Row::Entries, index: 0, width: 3 };
    assert_eq!(part.part_of(&bundle).unwrap(), [0, 0, 0, 1, 1, 0, 2, 2, 2]);
    assert_eq!(part.part_of(&bundle[1..]), None);
    let full: Vec<u8> = (0..8192u32).map(|n| (n / 32) as u8).collect();
    assert_eq!(hashes(0, 0, 2).part_of(&full).unwrap(), full[..64]);
    assert_eq!(hashes(0, 0, 2).part_of(&full[..8000]), None);
}

#[test]
fn a_truncated_tile_is_none() {
    let tile = hashes(0, 0, 2);
    assert_eq!(tile.hashes(&[7; 64]).unwrap(), [[7; 32]; 2]);
    for length in [0, 31, 32, 63, 65, 96] {
        assert_eq!(tile.hashes(&vec![7; length]), Err(TileError::Length { tile, found: length }));
    }
}
