use std::time::Duration;

use chancery_ca::store::*;
use chancery_core::{
    event::leaf_hash,
    instance::{Cap, DETECTOR_REST_SECS, HoldSpan, Standing},
    reason::Reason,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_held_instance_gets_nothing_new_until_its_hold_is_over
    a_released_instance_is_given_again_at_once
    holding_again_replaces_the_end
    only_a_running_instance_is_held_and_only_what_is_held_is_released
    the_record_says_who_and_why_and_keeps_the_caller_apart
    an_instance_that_ended_stays_on_the_list_until_its_hold_is_over
    a_detector_holds_an_instance_once_a_day_whatever_was_done_meanwhile
    a_detector_gone_wild_holds_one_in_twenty_of_a_class_at_a_time
    an_operator_has_no_caps_and_a_detector_takes_over_no_hold
    no_issuance_that_commits_after_a_hold_is_granted_and_those_before_it_are
    what_is_over_is_cleaned_away_and_never_a_hold_in_force
}

fn order() -> Order {
    Order { reason: "talks to strangers".into(), caller: "uid 0".into() }
}

fn run(run: u8) -> SpiffeId {
    sample::begin(1, run).instance.id
}

fn hold(n: u8, secs: i64) -> Fact {
    let placed = Placed::Operator { caller: order().caller };
    Fact::HoldInstance(HoldInstance { id: run(n), span: HoldSpan::new(secs).unwrap(), placed, reason: order().reason })
}

fn detected(n: u8, secs: i64) -> Fact {
    let placed = Placed::Detector { name: "two_places" };
    let reason = "seen in two places".into();
    Fact::HoldInstance(HoldInstance { id: run(n), span: HoldSpan::new(secs).unwrap(), placed, reason })
}

fn release(n: u8) -> Fact {
    Fact::ReleaseHold(ReleaseHold { id: run(n), order: order() })
}

fn renewal(n: u8, key: u8) -> Fact {
    Fact::RenewInstance(RenewInstance { spki_sha256: [key; 32], ..sample::renewal(1, n) })
}

fn token(n: u8) -> Fact {
    Fact::RecordJwt(sample::jwt(1, JwtSubject::Instance { id: run(n), start_token: [n; 32] }))
}

async fn begun(db: &Bench, runs: impl IntoIterator<Item = u8>) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    for run in runs {
        db.done(Fact::BeginInstance(sample::begin(1, run))).await;
    }
}

async fn listed(db: &Bench) -> Vec<Hold> {
    db.store.holds(sample::now(), "", 1000).await.unwrap()
}

/// The transaction's clock is the system's: its end is what is waited for.
async fn until_over(until: UnixTime) {
    while sample::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_held_instance_gets_nothing_new_until_its_hold_is_over(db: Bench) {
    begun(&db, [1, 2]).await;
    let before = sample::now();
    db.done(hold(1, 3)).await;
    let stored = db.store.instance(&run(1)).await.unwrap().unwrap();
    let until = stored.held_until.unwrap();
    assert!((before.plus(3)..=sample::now().plus(3)).contains(&until), "counted from the commit");
    assert_eq!(stored.standing, Standing::Good, "it runs");
    let refused = db.refused(renewal(1, 101)).await;
    assert_eq!(refused, Refusal::InstanceHeld { until });
    assert!(
        refused.to_string().starts_with(Reason::InstanceHeld.code())
            && refused.to_string().contains(&until.to_string())
    );
    assert_eq!(db.refused(token(1)).await, Refusal::InstanceHeld { until });
    let own = RenewInstance { spki_sha256: [1; 32], key: RenewalKey::Own, ..sample::renewal(1, 1) };
    assert_eq!(db.refused(Fact::RenewInstance(own)).await, Refusal::InstanceHeld { until }, "nor by beginning again");
    db.done(renewal(2, 102)).await;
    db.done(token(2)).await;
    until_over(until).await;
    db.done(renewal(1, 101)).await;
    db.done(token(1)).await;
    assert_eq!(listed(&db).await, []);
}

async fn a_released_instance_is_given_again_at_once(db: Bench) {
    begun(&db, [1]).await;
    db.done(hold(1, 900)).await;
    db.refused(token(1)).await;
    db.done(release(1)).await;
    db.done(renewal(1, 101)).await;
    db.done(token(1)).await;
    assert_eq!(listed(&db).await, []);
    assert_eq!(db.store.instance(&run(1)).await.unwrap().unwrap().held_until, None);
    assert_eq!(db.refused(release(1)).await, Refusal::NotFound, "it is not held any more");
}

async fn holding_again_replaces_the_end(db: Bench) {
    begun(&db, [1]).await;
    for secs in [600, 900, 30] {
        let before = sample::now();
        db.done(hold(1, secs)).await;
        let [one] = &listed(&db).await[..] else { panic!("one") };
        assert!((before.plus(secs)..=sample::now().plus(secs)).contains(&one.until), "{one:?}");
        assert_eq!(db.store.instance(&run(1)).await.unwrap().unwrap().held_until, Some(one.until));
    }
}

async fn only_a_running_instance_is_held_and_only_what_is_held_is_released(db: Bench) {
    begun(&db, [1]).await;
    for refused in [hold(9, 60), detected(9, 60), release(9), release(1)] {
        assert_eq!(db.refused(refused).await, Refusal::NotFound);
    }
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(db.refused(hold(1, 60)).await, Refusal::InstanceNotGood);
    assert_eq!(db.refused(detected(1, 60)).await, Refusal::InstanceNotGood);
}

async fn the_record_says_who_and_why_and_keeps_the_caller_apart(db: Bench) {
    begun(&db, (1..=20).collect::<Vec<_>>()).await;
    let number = db.done(hold(1, 600)).await;
    db.done(release(1)).await;
    db.done(detected(2, 60)).await;
    let events = db.store.events(Some(number - 1), 9).await.unwrap();
    assert!(events.iter().all(|event| leaf_hash(&event.bytes) == event.hash));
    let [held, released, by_detector] = [&events[0], &events[1], &events[2]].map(json);
    for (event, kind) in [(&held, "instance.held"), (&released, "instance.released"), (&by_detector, "instance.held")] {
        assert_eq!((event["kind"].as_str(), event["fields"]["class"].as_str()), (Some(kind), Some("a")));
        assert_eq!(event["fields"]["node"], sample::node_id(1).as_str());
    }
    for event in [&held, &released] {
        assert_eq!(event["subject"], run(1).as_str());
        assert_eq!(event["fields"]["reason"], "talks to strangers");
        assert_eq!(event["fields"]["caller"]["salted_sha256"].as_str().map(str::len), Some(64));
        assert_eq!(event["fields"]["until"], held["at"].as_i64().unwrap() + 600, "what it was, or would have been");
    }
    assert_eq!(by_detector["fields"]["detector"], "two_places");
    assert!(by_detector["fields"].get("caller").is_none() && held["fields"].get("detector").is_none());
    let [row] = &listed(&db).await[..] else { panic!("one") };
    assert_eq!((row.instance.as_str(), row.class.as_str()), (run(2).as_str(), "a"));
    assert_eq!((row.detector.as_deref(), row.reason.as_str()), (Some("two_places"), "seen in two places"));
}

async fn an_instance_that_ended_stays_on_the_list_until_its_hold_is_over(db: Bench) {
    begun(&db, [1]).await;
    db.done(hold(1, 600)).await;
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(listed(&db).await.len(), 1, "whoever copied its key is refused all the same");
    db.done(release(1)).await;
    assert_eq!(listed(&db).await, []);
}

/// What a day later would be, without waiting for it.
async fn a_day_passes(db: &Bench, secs: i64) {
    db.sql(&format!("UPDATE holds SET detected_at = detected_at - {secs}")).await;
}

async fn a_detector_holds_an_instance_once_a_day_whatever_was_done_meanwhile(db: Bench) {
    begun(&db, (1..=20).collect::<Vec<_>>()).await;
    db.done(detected(1, 60)).await;
    db.done(release(1)).await;
    assert!(matches!(db.refused(detected(1, 60)).await, Refusal::HoldCapped(Cap::Rest { .. })));
    db.done(hold(1, 60)).await;
    db.done(release(1)).await;
    assert!(
        matches!(db.refused(detected(1, 60)).await, Refusal::HoldCapped(Cap::Rest { .. })),
        "an operator's between"
    );
    a_day_passes(&db, DETECTOR_REST_SECS - 30).await;
    assert!(matches!(db.refused(detected(1, 60)).await, Refusal::HoldCapped(Cap::Rest { .. })));
    a_day_passes(&db, 30).await;
    db.done(detected(1, 60)).await;
}

/// Whatever a detector says of whom, in whatever order: never more than 5 % of what runs, never one twice.
async fn a_detector_gone_wild_holds_one_in_twenty_of_a_class_at_a_time(db: Bench) {
    begun(&db, (1..=19).collect::<Vec<_>>()).await;
    let small = Refusal::HoldCapped(Cap::Class { held: 0, running: 19 });
    assert_eq!(db.refused(detected(1, 900)).await, small, "a small class has none");
    for run in 20..=60 {
        db.done(Fact::BeginInstance(sample::begin(1, run))).await;
    }
    // All at once, each twice: one transaction takes them together.
    let wild: Vec<Fact> = (1..=60).chain(1..=60).map(|n| detected(n, 900)).collect();
    let outcomes = db.store.commit_all(wild).await.unwrap();
    let placed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count();
    let capped = outcomes.iter().filter(|o| matches!(o, Outcome::Refused(Refusal::HoldCapped(_)))).count();
    assert_eq!((placed, capped), (3, 117));
    let held = listed(&db).await;
    assert_eq!(held.len(), 3);
    // One ends, and the class is smaller: what is held already stays, and there is no room for another.
    db.done(Fact::EndInstance(sample::end(1, 60))).await;
    assert_eq!(db.refused(detected(30, 900)).await, Refusal::HoldCapped(Cap::Class { held: 3, running: 59 }));
    // One of the held is released: 2 of 59 leave no room either; 60 do.
    db.done(release(1)).await;
    assert_eq!(db.refused(detected(30, 900)).await, Refusal::HoldCapped(Cap::Class { held: 2, running: 59 }));
    db.done(Fact::BeginInstance(sample::begin(1, 61))).await;
    db.done(detected(30, 900)).await;
}

async fn an_operator_has_no_caps_and_a_detector_takes_over_no_hold(db: Bench) {
    begun(&db, (1..=20).collect::<Vec<_>>()).await;
    for n in 1..=20 {
        db.done(hold(n, 900)).await;
    }
    let until = db.store.instance(&run(1)).await.unwrap().unwrap().held_until.unwrap();
    assert_eq!(db.refused(detected(1, 1)).await, Refusal::HoldCapped(Cap::Held { until }), "nor does it shorten one");
    db.done(release(1)).await;
    db.done(detected(1, 60)).await;
    // The operator takes over; that hold is no detector's any more.
    db.done(hold(1, 900)).await;
    db.done(release(2)).await;
    db.done(detected(2, 60)).await;
}

/// As with a revocation: whoever decided before, on whichever server, the transaction says no afterwards.
async fn no_issuance_that_commits_after_a_hold_is_granted_and_those_before_it_are(db: Bench) {
    begun(&db, [1]).await;
    let facts = vec![renewal(1, 101), token(1), hold(1, 900), token(1), renewal(1, 102), release(1), token(1)];
    let outcomes = db.store.commit_all(facts).await.unwrap();
    let granted: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Done { .. })).collect();
    assert_eq!(granted, [true, true, true, false, false, true, true]);
    let other = Store::open(&db.url, "b").await.unwrap();
    db.done(hold(1, 900)).await;
    let refused = other.commit(token(1)).await.unwrap();
    assert!(matches!(refused, Outcome::Refused(Refusal::InstanceHeld { .. })), "{refused:?}");
    db.done(release(1)).await;
    assert!(matches!(other.commit(token(1)).await.unwrap(), Outcome::Done { .. }));
    other.close().await;
}

async fn what_is_over_is_cleaned_away_and_never_a_hold_in_force(db: Bench) {
    begun(&db, (1..=20).collect::<Vec<_>>()).await;
    db.done(hold(1, 900)).await;
    db.done(hold(2, 900)).await;
    db.done(release(2)).await;
    db.done(detected(3, 900)).await;
    db.done(release(3)).await;
    let prune = |secs: i64| Fact::PruneRecords(Moment { now: sample::now().plus(secs) });
    db.done_or_nothing(prune(DETECTOR_REST_SECS - 60)).await;
    assert!(matches!(db.refused(detected(3, 60)).await, Refusal::HoldCapped(Cap::Rest { .. })), "its day counts");
    db.done_or_nothing(prune(2 * DETECTOR_REST_SECS + 60)).await;
    let [one] = &listed(&db).await[..] else { panic!("the one in force") };
    assert_eq!(one.instance, run(1).to_string());
    db.refused(token(1)).await;
    db.done(detected(3, 60)).await;
}
