use super::*;

/// Source: the example of golang.org/x/mod/sumdb/note.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const TEXT: &str =
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
const SIGNED: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

fn key() -> VerifierKey {
    KEY.parse().unwrap()
}

fn note() -> String {
    format!("{TEXT}\n{SIGNED}")
}

#[test]
fn the_published_example_verifies_and_is_written_the_same() {
    assert_eq!(key().to_string(), KEY);
    let note = note();
    let parsed = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(parsed.verify(&[key()]).unwrap(), TEXT);
    let signature: [u8; 64] = parsed.signatures[0].bytes.clone().try_into().unwrap();
    assert_eq!(write(TEXT, &key(), &signature), note);
}

#[test]
fn no_flipped_bit_passes() {
    let note = note().into_bytes();
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut other = note.clone();
            other[at] ^= 1 << bit;
            let verified = Note::parse(&other).and_then(|n| n.verify(&[key()]).map(str::to_owned));
            assert!(verified.is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn signatures_of_others_are_left_alone() {
    let other = "\u{2014} w.example/1 AAAAAAAA\n";
    for note in [format!("{TEXT}\n{other}{SIGNED}"), format!("{TEXT}\n{SIGNED}{other}")] {
        assert_eq!(Note::parse(note.as_bytes()).unwrap().verify(&[key()]).unwrap(), TEXT);
    }
    let alone = format!("{TEXT}\n{other}");
    let unsigned = Note::parse(alone.as_bytes()).unwrap().verify(&[key()]).unwrap_err();
    assert_eq!(unsigned, NoteError::Untrusted("w.example/1+00000000".into()));
}

#[test]
fn a_bad_signature_of_a_trusted_key_condemns_the_note() {
    let bad = format!("\u{2014} PeterNeumann {}\n", STANDARD.encode([&key().id()[..], &[0; 64]].concat()));
    let note = format!("{TEXT}\n{SIGNED}{bad}");
    let verified = Note::parse(note.as_bytes()).unwrap().verify(&[key()]).unwrap_err();
    assert_eq!(verified, NoteError::BadSignature("PeterNeumann+c74f20a3".into()));
}

#[test]
fn the_same_key_under_another_name_is_another_key() {
    let renamed = VerifierKey::new("Somebody", *key().public()).unwrap();
    let note = note();
    assert!(matches!(Note::parse(note.as_bytes()).unwrap().verify(&[renamed]), Err(NoteError::Untrusted(_))));
}

#[test]
fn what_is_no_note_is_refused() {
    let many = format!("t\n\n{}", "\u{2014} a AAAAAAAA\n".repeat(65));
    let long = format!("{}\n\n{SIGNED}", "t".repeat(MAX_BYTES));
    for bad in [
        "",
        "\n",
        "\n\n",
        "text\n",
        "text\n\n",
        &format!("{TEXT}{SIGNED}"),
        &format!("{TEXT}\n{}", SIGNED.trim_end()),
        &format!("{TEXT}\r\n\n{SIGNED}"),
        &format!("{TEXT}\n- a AAAAAAAA\n"),
        &format!("{TEXT}\n\u{2014} a+b AAAAAAAA\n"),
        &format!("{TEXT}\n\u{2014}  AAAAAAAA\n"),
        &format!("{TEXT}\n\u{2014} a AAAAAA==\n"),
        &format!("{TEXT}\n\u{2014} a ????\n"),
        &many,
        &long,
    ] {
        assert!(matches!(Note::parse(bad.as_bytes()), Err(NoteError::Malformed(_))), "{bad:?}");
    }
    assert!(Note::parse(&[&b"\xff"[..], note().as_bytes()].concat()).is_err());
}

#[test]
fn what_is_no_key_is_refused() {
    for bad in [
        "",
        "a",
        "a+b",
        "a+00000000+",
        &KEY.replace("c74f20a3", "c74f20a4"),
        &KEY.replace("c74f20a3", "C74F20A3"),
        &KEY.replace("PeterNeumann", ""),
        &KEY.replace("PeterNeumann", "Peter Neumann"),
        &KEY.replace("+ARpc", "+BRpc"),
        &KEY[..KEY.len() - 4],
        &format!("{KEY}AAAA"),
        &format!("{KEY}{}", "A".repeat(1000)),
    ] {
        assert_eq!(bad.parse::<VerifierKey>(), Err(NoteError::Key), "{bad}");
    }
}
