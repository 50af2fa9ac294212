use std::time::Duration;

use super::*;

const NOW: UnixTime = UnixTime(10_000);

fn entry(id: &str) -> AuthorizedEntry {
    AuthorizedEntry {
        id: id.into(),
        spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
        selectors: ["unix:uid:1000".parse().unwrap()].into(),
        federates_with: vec![],
        hint: String::new(),
        revision: 1,
        created_at: 50,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

fn held(id: &str) -> Held {
    Held {
        id: format!("spiffe://example.org/{id}").parse().unwrap(),
        revision: 1,
        created_at: 50,
        rotate_at: NOW.plus(100),
        expires_at: NOW.plus(1000),
    }
}

fn run(entries: &[AuthorizedEntry], one: Option<Held>) -> Plan {
    plan(entries, &one.map(|h| ("a".to_owned(), h)).into_iter().collect(), &BTreeMap::new(), NOW)
}

#[test]
fn fresh_svid_is_left_alone() {
    assert_eq!(run(&[entry("a")], Some(held("a"))), Plan::default());
}

#[test]
fn entry_without_an_svid_gets_one() {
    assert_eq!(run(&[entry("a")], None).issue, ["a"]);
}

#[test]
fn due_svid_is_renewed_and_kept_meanwhile() {
    let plan = run(&[entry("a")], Some(Held { rotate_at: NOW, ..held("a") }));
    assert_eq!((plan.issue, plan.drop), (vec!["a".into()], BTreeSet::new()));
}

#[test]
fn changed_revision_is_renewed_and_kept_meanwhile() {
    let plan = run(&[entry("a")], Some(Held { revision: 0, ..held("a") }));
    assert_eq!((plan.issue, plan.drop), (vec!["a".into()], BTreeSet::new()));
}

#[test]
fn svid_of_another_id_or_another_entry_is_dropped_at_once() {
    for stale in [Held { id: held("b").id, ..held("a") }, Held { created_at: 51, ..held("a") }] {
        let plan = run(&[entry("a")], Some(stale));
        assert_eq!((plan.issue, plan.drop), (vec!["a".into()], ["a".into()].into()));
    }
}

#[test]
fn expired_svid_is_dropped() {
    let plan = run(&[entry("a")], Some(Held { expires_at: NOW, ..held("a") }));
    assert!(plan.drop.contains("a"));
}

#[test]
fn svid_of_an_entry_that_is_gone_is_dropped() {
    assert_eq!(run(&[], Some(held("a"))).drop, ["a".into()].into());
}

#[test]
fn unasked_entry_waits_for_its_first_caller() {
    let lazy = AuthorizedEntry { disable_x509_svid_prefetch: true, ..entry("a") };
    let entries = [lazy];
    assert_eq!(run(&entries, None), Plan::default());
    let used = [("a".to_owned(), NOW)].into();
    assert_eq!(plan(&entries, &BTreeMap::new(), &used, NOW).issue, ["a"]);
    assert!(plan(&entries, &BTreeMap::new(), &used, NOW.plus(LATELY_SECS)).issue.is_empty());
}

#[test]
fn entries_beyond_the_prefetch_limit_wait_and_those_in_use_come_first() {
    let entries: Vec<_> = (0..PREFETCH + 5).map(|n| entry(&format!("e{n:05}"))).collect();
    let last = format!("e{:05}", PREFETCH + 4);
    let used = [(last.clone(), NOW)].into();
    let plan = plan(&entries, &BTreeMap::new(), &used, NOW);
    assert_eq!(plan.issue.len(), PREFETCH + 1);
    assert_eq!(plan.issue.first(), Some(&last));
}

#[test]
fn rotation_is_due_between_40_and_65_percent_of_life() {
    let (from, to) = (UnixTime(1000), UnixTime(1900));
    assert_eq!(due_at(from, to, 0), UnixTime(1360));
    assert_eq!(due_at(from, to, u16::MAX), UnixTime(1585));
    let rotation = Rotation::new([7; 32]);
    let due: BTreeSet<_> = (0..50_u8).map(|n| due_at(from, to, rotation.spread(&[n]))).collect();
    assert!(due.len() > 20 && due.iter().all(|at| (1360..=1585).contains(&at.0)));
    assert_eq!(rotation.spread(&[1]), rotation.spread(&[1]));
}

#[test]
fn what_a_tainted_authority_signed_is_replaced_within_a_quarter_of_its_rest_and_a_minute() {
    let due = |left: i64, spread: u16| taint_due(NOW, NOW.plus(left), spread).since(NOW);
    assert_eq!((due(3600, 0), due(3600, u16::MAX / 2), due(3600, u16::MAX)), (0, 29, 60));
    assert_eq!((due(40, u16::MAX), due(0, u16::MAX), due(-5, u16::MAX)), (10, 0, 0));
}

#[test]
fn a_successor_is_asked_for_several_times_before_the_end_of_what_is_held() {
    let after = |left: i64| longest_wait(NOW, NOW.plus(left));
    assert_eq!(
        (after(600), after(60), after(4)),
        (Duration::from_secs(150), Duration::from_secs(15), Duration::from_secs(1))
    );
    // Never in a tight loop, and as usual once there is nothing left to save.
    assert_eq!((after(1), after(0), after(-5)), (Duration::from_millis(500), Duration::MAX, Duration::MAX));
}

/// Rotations in each second, the fullest against their mean.
fn peak_to_mean(due: impl Iterator<Item = UnixTime>) -> f64 {
    let mut seconds = std::collections::BTreeMap::<i64, u32>::new();
    due.for_each(|due| *seconds.entry(due.0).or_default() += 1);
    let (first, last) = (*seconds.keys().next().unwrap(), *seconds.keys().next_back().unwrap());
    let (all, peak): (u32, u32) = (seconds.values().sum(), *seconds.values().max().unwrap());
    f64::from(peak) * (last - first + 1) as f64 / f64::from(all)
}

/// 100,000 SVIDs of 5,000 nodes, issued in one second. Lives in thousandths made them come in steps of 3.6 s.
#[test]
fn a_fleet_that_began_together_does_not_rotate_together_nor_when_its_authority_is_tainted() {
    let fleet = || {
        (0..5_000_u32).flat_map(|node| {
            let rotation = Rotation::new(chancery_core::crypto::sha256(&[&node.to_be_bytes()]));
            (0..20_u8).map(move |svid| rotation.spread(&[svid]))
        })
    };
    for life in [3600, 900, 600] {
        let usual = peak_to_mean(fleet().map(|spread| due_at(NOW, NOW.plus(life), spread)));
        assert!(usual <= 1.5, "{usual} of {life} s");
        let tainted = peak_to_mean(fleet().map(|spread| taint_due(NOW, NOW.plus(life / 2), spread)));
        assert!(tainted <= 1.5, "{tainted} of {life} s");
    }
}
