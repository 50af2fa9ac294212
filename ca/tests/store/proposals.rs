//! Proposals of detectors: what they write, what they hold, and that they do nothing else.

use std::{collections::BTreeSet, sync::OnceLock};

use chancery_ca::store::*;
use chancery_core::{
    detect::{Detector, Evidence, Verdict},
    instance::HoldSpan,
};
use chancery_sdk::{id::SpiffeId, time::UnixTime};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_proposal_has_its_event_and_its_addresses_are_kept_apart
    one_proposal_is_open_for_an_instance_and_detector_until_it_is_reviewed
    only_a_running_instance_is_proposed
    a_detectors_hold_goes_with_its_proposal_and_what_is_capped_is_said
    a_detector_gone_wild_writes_so_many_holds_one_in_twenty_and_does_nothing_else
    an_incident_dwells_until_it_was_contained_and_an_open_one_is_counted_as_such
    proposals_are_listed_page_by_page
    a_review_of_what_is_not_open_is_refused
}

/// One time for a whole test: what was committed came then or later.
fn base() -> UnixTime {
    static BASE: OnceLock<UnixTime> = OnceLock::new();
    *BASE.get_or_init(sample::now)
}

fn run(run: u8) -> SpiffeId {
    sample::begin(1, run).instance.id
}

async fn begun(db: &Bench, runs: std::ops::RangeInclusive<u8>) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    for run in runs {
        db.done(Fact::BeginInstance(sample::begin(1, run))).await;
    }
}

fn proposal(n: u8, hold: Option<i64>) -> Propose {
    let places = ["192.0.2.1", "192.0.2.9"].map(|place| place.parse().unwrap()).into();
    let evidence = Evidence { count: 3, first: base().plus(-30), last: base(), places };
    let hold = hold.map(|secs| HoldSpan::new(secs).unwrap());
    Propose { instance: run(n), detector: Detector::TwoPlaces, evidence, hold }
}

fn propose(n: u8, hold: Option<i64>) -> Fact {
    Fact::Propose(proposal(n, hold))
}

fn review(number: i64, verdict: Verdict, began: Option<UnixTime>) -> Fact {
    let order = Order { reason: "looked at it".into(), caller: "uid 0".into() };
    Fact::ReviewProposal(ReviewProposal { epoch: None, number, verdict, began, order })
}

async fn listed(db: &Bench, open: bool) -> Vec<Proposal> {
    db.store.proposals((-1, -1), open, 1000).await.unwrap()
}

async fn a_proposal_has_its_event_and_its_addresses_are_kept_apart(db: Bench) {
    begun(&db, 1..=1).await;
    let number = db.done(propose(1, None)).await;
    let [event] = &db.store.events(Some(number - 1), 9).await.unwrap()[..] else { panic!("one event") };
    let text = String::from_utf8(event.bytes.clone()).unwrap();
    assert!(!text.contains("192.0.2"), "{text}");
    let event = json(event);
    assert_eq!((event["kind"].as_str(), event["subject"].as_str()), (Some("hold.proposed"), Some(run(1).as_str())));
    let fields = &event["fields"];
    assert_eq!((&fields["detector"], &fields["count"], &fields["hold"]), (&"two_places".into(), &3.into(), &"".into()));
    assert_eq!(fields["places"]["salted_sha256"].as_str().map(str::len), Some(64));
    let [one] = &listed(&db, true).await[..] else { panic!("one") };
    assert_eq!((one.number, one.instance.as_str(), one.class.as_str()), (number, run(1).as_str(), "a"));
    assert_eq!((one.places.as_str(), one.standing.as_str()), ("192.0.2.1,192.0.2.9", "good"));
    let seen = proposal(1, None).evidence;
    assert_eq!(one.evidence, format!("{{\"count\":3,\"first\":{},\"last\":{}}}", seen.first, seen.last));
    assert_eq!((one.hold.as_str(), one.review.is_none()), ("", true));
    db.sql("DELETE FROM event_clear WHERE field = 'places'").await;
    assert_eq!(listed(&db, true).await[0].places, "", "erased with the event's clear values");
    // It takes nothing from the instance.
    assert_eq!(db.store.instance(&run(1)).await.unwrap().unwrap().held_until, None);
}

async fn one_proposal_is_open_for_an_instance_and_detector_until_it_is_reviewed(db: Bench) {
    begun(&db, 1..=2).await;
    let number = db.done(propose(1, None)).await;
    assert_eq!(db.refused(propose(1, Some(60))).await, Refusal::AlreadyExists(None));
    assert_eq!(db.store.instance(&run(1)).await.unwrap().unwrap().held_until, None, "more evidence does no more");
    db.done(Fact::Propose(Propose { detector: Detector::Denials, ..proposal(1, None) })).await;
    db.done(propose(2, None)).await;
    db.done(review(number, Verdict::FalseAlarm, None)).await;
    assert_eq!(listed(&db, true).await.len(), 2);
    db.done(propose(1, None)).await;
    assert_eq!((listed(&db, true).await.len(), listed(&db, false).await.len()), (3, 4));
}

async fn only_a_running_instance_is_proposed(db: Bench) {
    begun(&db, 1..=1).await;
    assert_eq!(db.refused(propose(9, None)).await, Refusal::NotFound);
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(db.refused(propose(1, Some(60))).await, Refusal::InstanceNotGood);
}

async fn a_detectors_hold_goes_with_its_proposal_and_what_is_capped_is_said(db: Bench) {
    begun(&db, 1..=20).await;
    let number = db.done(propose(1, Some(600))).await;
    let kinds = db.kinds_from(number).await;
    assert_eq!(kinds.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["hold.proposed", "instance.held"]);
    let held = db.store.instance(&run(1)).await.unwrap().unwrap().held_until.unwrap();
    assert!(held > base().plus(500), "{held}");
    let number = db.done(propose(2, Some(600))).await;
    assert_eq!(db.kinds_from(number).await.len(), 1, "one in twenty");
    let all = listed(&db, true).await;
    assert_eq!(all.iter().map(|one| one.hold.as_str()).collect::<Vec<_>>(), ["placed", "capped"]);
    assert_eq!(all[0].capped, "");
    assert!(all[1].capped.contains("one in 20"), "{}", all[1].capped);
    assert_eq!(db.store.instance(&run(2)).await.unwrap().unwrap().held_until, None);
}

/// Thousands of flags on a class of 60: so many proposals as there are instances, 5 % held, and no other kind of event.
async fn a_detector_gone_wild_writes_so_many_holds_one_in_twenty_and_does_nothing_else(db: Bench) {
    begun(&db, 1..=60).await;
    let before = db.events().await.len();
    for _ in 0..20 {
        let both = |n| {
            [propose(n, Some(900)), Fact::Propose(Propose { detector: Detector::Denials, ..proposal(n, Some(900)) })]
        };
        db.store.commit_all((1..=60).flat_map(both).collect()).await.unwrap();
    }
    let events = db.store.events(Some(i64::try_from(before).unwrap() - 1), u32::MAX).await.unwrap();
    let kinds: Vec<String> = events.iter().map(|event| json(event)["kind"].as_str().unwrap().to_owned()).collect();
    let of = |kind: &str| kinds.iter().filter(|one| *one == kind).count();
    assert_eq!((of("hold.proposed"), of("instance.held"), kinds.len()), (120, 3, 123));
    assert_eq!(listed(&db, true).await.iter().filter(|one| one.hold == "placed").count(), 3);
    let good = db.store.live_instances(&sample::node_id(1)).await.unwrap();
    assert_eq!(good.len(), 60, "nobody's standing is touched");
    assert!(db.store.closures().await.unwrap().is_empty());
    // A larger class: the open ones are bounded, and another class has room all the same.
    for n in 61..=200 {
        db.done(Fact::BeginInstance(BeginInstance { max_live: 1000, ..sample::begin(1, n) })).await;
    }
    let outcomes = db.store.commit_all((61..=200).map(|n| propose(n, None)).collect()).await.unwrap();
    let full = outcomes.iter().filter(|o| **o == Outcome::Refused(Refusal::TooManyProposals { max: 100 })).count();
    assert_eq!((full, db.store.proposal_figures(base()).await.unwrap().open), (100, 160));
}

async fn an_incident_dwells_until_it_was_contained_and_an_open_one_is_counted_as_such(db: Bench) {
    begun(&db, 1..=40).await;
    let figures = async |secs: i64| db.store.proposal_figures(base().plus(secs)).await.unwrap();
    assert_eq!(figures(0).await, ProposalFigures::default());
    let (a, b, c) =
        (db.done(propose(1, Some(600))).await, db.done(propose(2, None)).await, db.done(propose(3, None)).await);
    // First evidence was 30 s before base().
    let open = figures(70).await;
    assert_eq!((open.open, open.open_age_secs, open.incidents), (3, 300, 0));
    let began = base().plus(-1000);
    db.done(review(a, Verdict::Incident, Some(began))).await;
    db.done(Fact::EndInstance(sample::end(1, 2))).await;
    // Whoever says that it began after it was seen makes it no shorter.
    db.done(review(b, Verdict::Incident, Some(base().plus(-1)))).await;
    db.done(review(c, Verdict::FalseAlarm, None)).await;
    let done = figures(10_000).await;
    assert_eq!((done.open, done.open_age_secs, done.incidents, done.false_alarms), (0, 0, 2, 1));
    let all = listed(&db, false).await;
    let reviews: Vec<&Review> = all.iter().map(|one| one.review.as_ref().unwrap()).collect();
    assert_eq!((reviews[0].began_at, reviews[0].contained_at), (began, all[0].opened_at), "held with the proposal");
    let ended = db.store.instance(&run(2)).await.unwrap().unwrap().ended_at.unwrap();
    assert_eq!((reviews[1].began_at, reviews[1].contained_at), (base().plus(-30), ended));
    let dwell: i64 = reviews[..2].iter().map(|one| one.contained_at.since(one.began_at)).sum();
    assert_eq!(done.dwell_secs, dwell);
    assert!(dwell >= 1030, "{dwell}");
    assert_eq!((reviews[2].verdict.as_str(), reviews[2].reason.as_str()), ("false-alarm", "looked at it"));
    let told = db.store.events(None, u32::MAX).await.unwrap();
    let told: Vec<_> = told.iter().map(json).filter(|event| event["kind"] == "proposal.reviewed").collect();
    assert_eq!(
        (told.len(), &told[0]["fields"]["began"], &told[0]["fields"]["proposal"]),
        (3, &began.0.into(), &a.into())
    );
    assert!(told[0]["fields"]["caller"]["salted_sha256"].is_string() && told[2]["fields"].get("began").is_none());
}

async fn proposals_are_listed_page_by_page(db: Bench) {
    begun(&db, 1..=5).await;
    for n in 1..=5 {
        db.done(propose(n, None)).await;
    }
    let (mut after, mut seen) = ((-1, -1), BTreeSet::new());
    loop {
        let page = db.store.proposals(after, true, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = (last.epoch, last.number);
        assert!(page.iter().all(|one| seen.insert(one.instance.clone())));
    }
    assert_eq!(seen.len(), 5);
}

async fn a_review_of_what_is_not_open_is_refused(db: Bench) {
    begun(&db, 1..=1).await;
    let number = db.done(propose(1, None)).await;
    assert_eq!(db.refused(review(number + 1, Verdict::Incident, None)).await, Refusal::NotFound);
    db.done(review(number, Verdict::Incident, None)).await;
    assert_eq!(db.refused(review(number, Verdict::FalseAlarm, None)).await, Refusal::Stale);
}
