use super::*;
use crate::store::AuthorityKind;

const LIFE: i64 = 600;

fn key(label: &str, state: KeyState) -> OwnKey {
    let key = KeyRecord {
        label: label.into(),
        kind: AuthorityKind::X509,
        server: "s".into(),
        key_type: chancery_daemon::key_type::KeyType::EcP256,
        state,
        version: 0,
        spki: None,
        planned_at: UnixTime(0),
        changed_at: UnixTime(0),
        keep_until: None,
        note: String::new(),
    };
    OwnKey { key, authority: None, usable: state == KeyState::Generated }
}

fn authority(id: &str, state: AuthorityState, from: i64) -> OwnKey {
    let authority = Authority {
        id: id.into(),
        kind: AuthorityKind::X509,
        server: "s".into(),
        state,
        public: Vec::new(),
        not_before: UnixTime(from),
        not_after: UnixTime(from + LIFE),
        label: id.into(),
        chain: Vec::new(),
        upstream_id: String::new(),
        published_at: UnixTime(from + BACKDATE_SECS),
        tainted_at: None,
    };
    OwnKey { authority: Some(authority), ..key(id, KeyState::Generated) }
}

fn lost(id: &str, state: AuthorityState, from: i64) -> OwnKey {
    let mut own = authority(id, state, from);
    (own.usable, own.key.state) = (false, KeyState::Lost);
    own
}

fn tainted(mut own: OwnKey) -> OwnKey {
    own.authority.as_mut().unwrap().tainted_at = Some(UnixTime(1));
    own
}

fn at(own: &[OwnKey], now: i64) -> Option<Step> {
    next(own, UnixTime(now), 30)
}

#[test]
fn a_first_start_plans_makes_prepares_and_activates_at_once() {
    assert_eq!(at(&[], 0), Some(Step::Plan));
    assert_eq!(at(&[key("k", KeyState::Planned)], 0), Some(Step::Generate("k".into())));
    assert_eq!(at(&[key("k", KeyState::Generated)], 0), Some(Step::Prepare("k".into())));
    assert_eq!(at(&[authority("a", AuthorityState::Prepared, 0)], 1), Some(Step::Activate("a".into())));
}

#[test]
fn what_an_earlier_try_left_is_used_before_another_key_is_planned() {
    let left = [key("p", KeyState::Planned), key("g", KeyState::Generated)];
    assert_eq!(at(&left, 0), Some(Step::Prepare("g".into())));
    // A key whose store has not shown it, or that was left half-made, is the journal's matter.
    let unseen = OwnKey { usable: false, ..key("g", KeyState::Generated) };
    assert_eq!(at(&[unseen, key("x", KeyState::Generating)], 0), Some(Step::Plan));
}

#[test]
fn an_active_authority_whose_key_is_here_is_kept() {
    assert_eq!(at(&[authority("a", AuthorityState::Active, 0)], 10), None);
}

#[test]
fn a_lost_key_an_ended_life_or_a_taint_means_a_new_authority_now() {
    assert_eq!(at(&[lost("a", AuthorityState::Active, 0)], 10), Some(Step::Plan));
    assert_eq!(at(&[authority("a", AuthorityState::Active, 0)], LIFE), Some(Step::Plan));
    let both = [tainted(authority("a", AuthorityState::Active, 0)), authority("b", AuthorityState::Prepared, 0)];
    assert_eq!(at(&both, 10), Some(Step::Activate("b".into())));
}

#[test]
fn a_server_that_loses_its_keys_again_and_again_makes_room() {
    let three = [0, 1, 2].map(|from| lost("lost", AuthorityState::Active, from));
    assert_eq!(at(&three, 10), Some(Step::Retire("lost".into())));
    let old = [
        lost("lost", AuthorityState::Old, 0),
        lost("lost", AuthorityState::Active, 1),
        lost("lost", AuthorityState::Active, 2),
    ];
    assert_eq!(at(&old, 10), Some(Step::Remove("lost".into())));
    assert_eq!(at(&old[1..], 10), Some(Step::Plan));
}

#[test]
fn the_next_is_prepared_at_half_of_life_and_activated_at_five_sixths() {
    let active = authority("a", AuthorityState::Active, 0);
    assert_eq!(at(std::slice::from_ref(&active), 299), None);
    assert_eq!(at(std::slice::from_ref(&active), 300), Some(Step::Plan));
    let both = [active, authority("b", AuthorityState::Prepared, 290)];
    assert_eq!(at(&both, 499), None);
    assert_eq!(at(&both, 500), Some(Step::Activate("b".into())));
}

#[test]
fn nothing_signs_before_it_was_published_for_the_delay() {
    let late = [authority("a", AuthorityState::Active, 0), authority("b", AuthorityState::Prepared, 485)];
    assert_eq!(at(&late, 524), None);
    assert_eq!(at(&late, 525), Some(Step::Activate("b".into())));
}

#[test]
fn what_is_prepared_and_can_never_sign_leaves_the_bundle() {
    let active = authority("a", AuthorityState::Active, 0);
    let gone = [active.clone(), lost("b", AuthorityState::Prepared, 0)];
    assert_eq!(at(&gone, 10), Some(Step::Remove("b".into())));
    let tainted = [active, tainted(authority("b", AuthorityState::Prepared, 0))];
    assert_eq!(at(&tainted, 10), Some(Step::Remove("b".into())));
}

#[test]
fn three_published_wait_until_it_cannot_wait_any_longer() {
    let full = [
        authority("a", AuthorityState::Old, 0),
        authority("b", AuthorityState::Old, 1),
        authority("c", AuthorityState::Active, 2),
    ];
    assert_eq!(at(&full, 400), None);
    assert_eq!(at(&full, 502), Some(Step::Remove("a".into())));
}

#[test]
fn the_old_one_is_retired_then_stays_until_its_end_and_the_grace() {
    let two = [authority("a", AuthorityState::Active, 0), authority("b", AuthorityState::Active, 290)];
    assert_eq!(at(&two, 500), Some(Step::Retire("a".into())));
    let old = [authority("a", AuthorityState::Old, 0), authority("b", AuthorityState::Active, 400)];
    assert_eq!(at(&old, LIFE + GRACE_SECS - 1), None);
    assert_eq!(at(&old, LIFE + GRACE_SECS), Some(Step::Remove("a".into())));
}
