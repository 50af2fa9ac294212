use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::log::note;

const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

fn signed(text: &str, name: &str, seed: u8) -> (Vec<u8>, [u8; 32]) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let key = VerifierKey::new(name, public).unwrap();
    let signature = pair.sign(text.as_bytes()).as_ref().try_into().unwrap();
    (note::write(text, &key, &signature).into_bytes(), public)
}

#[test]
fn the_text_of_the_specification_is_read_and_written_the_same() {
    let checkpoint = Checkpoint::parse(TEXT).unwrap();
    assert_eq!((checkpoint.origin.as_str(), checkpoint.head.size), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.text(), TEXT);
    let empty = "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    assert_eq!(Checkpoint::parse(empty).unwrap().text(), empty);
}

#[test]
fn no_other_form_is_a_checkpoint() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    for bad in [
        String::new(),
        "o\n1\n".into(),
        format!("\n1\n{root}\n"),
        format!("o\n01\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n1\n{root}"),
        format!("o\n1\n{root}\nextension\n"),
        format!("o\n1\n{root}\n\n"),
        format!("o\n9007199254740993\n{root}\n"),
        format!("o\n1\n{}\n", &root[4..]),
        format!("o\n1\n {root}\n"),
        format!("{}\n1\n{root}\n", "o".repeat(513)),
        format!("o\n1 \n{root}\n"),
    ] {
        assert!(matches!(Checkpoint::parse(&bad), Err(CheckpointError::Malformed(_))), "{bad:?}");
    }
}

#[test]
fn a_checkpoint_is_opened_only_by_its_logs_name_and_key() {
    let (note, public) = signed(TEXT, "example.com/behind-the-sofa", 1);
    let origin = "example.com/behind-the-sofa";
    assert_eq!(Checkpoint::open(&note, origin, &[public]).unwrap().text(), TEXT);
    assert!(matches!(
        Checkpoint::open(&note, "example.com/other", &[public]),
        Err(CheckpointError::Origin { found, .. }) if found == origin
    ));
    let (forged, _) = signed(TEXT, origin, 2);
    assert!(matches!(
        Checkpoint::open(&forged, origin, &[public]),
        Err(CheckpointError::Note(NoteError::Untrusted(_)))
    ));
    let (renamed, _) = signed(TEXT, "example.com/other", 1);
    assert!(matches!(
        Checkpoint::open(&renamed, origin, &[public]),
        Err(CheckpointError::Note(NoteError::Untrusted(_)))
    ));
}

#[test]
fn no_flipped_bit_of_a_signed_checkpoint_passes() {
    let (note, public) = signed(TEXT, "example.com/behind-the-sofa", 1);
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut other = note.clone();
            other[at] ^= 1 << bit;
            assert!(Checkpoint::open(&other, "example.com/behind-the-sofa", &[public]).is_err(), "{bit} of {at}");
        }
    }
}
