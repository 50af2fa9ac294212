use super::*;
use crate::store::AuthorityKind;

const NOW: UnixTime = UnixTime(1000);

fn key(state: KeyState, spki: Option<&[u8]>) -> KeyRecord {
    KeyRecord {
        label: "chancery/x509/k".into(),
        kind: AuthorityKind::X509,
        server: "s".into(),
        key_type: KeyType::EcP256,
        state,
        version: 1,
        spki: spki.map(<[u8]>::to_vec),
        planned_at: NOW,
        changed_at: NOW,
        keep_until: None,
        note: String::new(),
    }
}

fn here(spki: &[u8]) -> Look {
    Look::Here(spki.to_vec(), KeyType::EcP256)
}

fn of(state: KeyState, spki: Option<&[u8]>, look: &Look) -> Option<Action> {
    action(&key(state, spki), look, NOW)
}

#[test]
fn each_row_of_the_crash_table() {
    use KeyState::{Condemned, Destroyed, Generated, Generating, Lost, Planned};
    let (spki, known) = (b"spki".as_slice(), Some(b"spki".as_slice()));
    let unclear = Look::Unclear("2 keys".into());
    let fault = |what: &str| Some(Action::Fault(what.into()));
    let table = [
        (Planned, None, Look::Absent, None),
        (Planned, None, here(spki), fault("a key is under the label of one that was not made yet")),
        (Generating, None, Look::Absent, Some(Action::Abandon)),
        (Generating, None, Look::Gone, Some(Action::Abandon)),
        (Generating, None, here(spki), Some(Action::Record(spki.to_vec()))),
        (Generating, None, unclear.clone(), fault("2 keys")),
        (Generated, known, here(spki), None),
        (Generated, known, Look::Absent, None),
        (Generated, known, Look::Gone, Some(Action::Lose)),
        (Generated, known, Look::Other, Some(Action::Taint)),
        (Generated, known, unclear.clone(), None),
        (Generated, None, here(spki), Some(Action::Record(spki.to_vec()))),
        (Lost, known, Look::Gone, None),
        (Lost, known, here(spki), Some(Action::Find)),
        (Lost, known, Look::Other, fault("another key is under the label of a lost one")),
        (Condemned, known, here(spki), Some(Action::Destroy)),
        (Condemned, known, Look::Absent, Some(Action::Destroy)),
        (Condemned, known, Look::Other, fault("not destroyed: its public half is not the recorded one")),
        (Condemned, known, unclear, None),
        (Destroyed, known, here(spki), None),
        (Destroyed, None, here(spki), Some(Action::Condemn("made after it was given up"))),
    ];
    for (state, spki, look, want) in table {
        assert_eq!(of(state, spki, &look), want, "{state} {look:?}");
    }
}

#[test]
fn a_condemned_key_is_kept_until_nothing_it_signed_is_valid() {
    let kept = KeyRecord { keep_until: Some(NOW.plus(1)), ..key(KeyState::Condemned, Some(b"s")) };
    assert_eq!(action(&kept, &here(b"s"), NOW), None);
    assert_eq!(action(&kept, &here(b"s"), NOW.plus(1)), Some(Action::Destroy));
}

#[test]
fn a_key_of_another_type_than_planned_is_never_used() {
    let look = Look::Here(b"s".to_vec(), KeyType::Rsa2048);
    let want = Action::Condemn("made with another type than planned");
    assert_eq!(of(KeyState::Generating, None, &look), Some(want));
}

#[test]
fn a_fault_is_told_once() {
    let told = KeyRecord { note: "2 keys".into(), ..key(KeyState::Generating, None) };
    assert_eq!(action(&told, &Look::Unclear("2 keys".into()), NOW), None);
}
