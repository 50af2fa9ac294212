//! Many issuances in one transaction: each is judged as if it were alone, after those before it.

use chancery_ca::store::*;

use crate::{
    bench::{Bench, check, json, on_both},
    sample,
};

on_both! {
    a_submission_is_one_transaction_with_an_outcome_for_each
    what_is_refused_among_many_changes_nothing_of_the_others
    an_issuance_meets_what_was_begun_before_it_in_the_same_transaction
    nothing_is_issued_after_a_ban_in_the_same_transaction
    a_node_has_room_for_no_more_than_its_limit_in_one_transaction
    the_newest_of_two_renewals_in_one_transaction_counts
    any_number_of_issuances_fits_its_statements
}

async fn ready(db: &Bench) {
    for n in [1, 2] {
        db.done(Fact::AdmitNode(sample::admission(n))).await;
    }
    db.done(Fact::CreateClass(sample::class("a"))).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
}

fn svid(serial: &str) -> Fact {
    Fact::RecordX509(RecordX509 { cert: sample::cert(serial), ..sample::svid(1, "e1") })
}

async fn outcomes(db: &Bench, facts: Vec<Fact>) -> Vec<Outcome> {
    db.store.commit_all(facts).await.unwrap()
}

async fn a_submission_is_one_transaction_with_an_outcome_for_each(db: Bench) {
    ready(&db).await;
    let first = db.events().await.len() as i64;
    let mut told = db.store.last_number();
    told.borrow_and_update();
    let outcomes = outcomes(&db, (0..32).map(|n| svid(&n.to_string())).collect()).await;
    let numbers: Vec<i64> = outcomes.into_iter().map(|outcome| outcome.done().unwrap()).collect();
    assert_eq!(numbers, (first..first + 32).collect::<Vec<_>>());
    assert_eq!(*told.borrow_and_update(), first + 31, "told once, of the last");
    let events = db.events().await;
    assert_eq!(json(&events[first as usize + 7])["fields"]["serial"], "7");
    check(&events).unwrap();
    assert!(db.store.commit_all(Vec::new()).await.unwrap().is_empty());
}

async fn what_is_refused_among_many_changes_nothing_of_the_others(db: Bench) {
    ready(&db).await;
    let before = db.events().await.len();
    let gone = Fact::RecordX509(sample::svid(1, "gone"));
    let stranger = Fact::RecordX509(sample::svid(7, "e1"));
    let used = |run, key| Fact::BeginInstance(BeginInstance { spki_sha256: [key; 32], ..sample::begin(1, run) });
    let facts = vec![svid("1"), gone, used(1, 1), used(2, 1), stranger, svid("2"), used(3, 3)];
    let outcomes = outcomes(&db, facts).await;
    let refused: Vec<_> = outcomes.iter().map(|outcome| outcome.clone().done().err()).collect();
    let (gone, key, node) = (Some(Refusal::EntryGone), Some(Refusal::KeyUsed), Some(Refusal::NodeNotGood));
    assert_eq!(refused, [None, gone, None, key, node, None, None]);
    assert_eq!(db.events().await.len(), before + 4);
    let running = db.store.live_instances(&sample::node_id(1)).await.unwrap();
    assert_eq!(running.iter().map(|one| one.start_token[0]).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(db.store.key_owner(&[1; 32]).await.unwrap(), Some(sample::begin(1, 1).instance.id));
}

async fn an_issuance_meets_what_was_begun_before_it_in_the_same_transaction(db: Bench) {
    ready(&db).await;
    let begin = sample::begin(1, 1);
    let token = || {
        let subject = JwtSubject::Instance { id: begin.instance.id.clone(), start_token: [1; 32] };
        Fact::RecordJwt(sample::jwt(1, subject))
    };
    let again = || Fact::BeginInstance(begin.clone());
    let mut other_id = sample::begin(1, 2);
    other_id.instance.start_token = [1; 32];
    let renewal = || Fact::RenewInstance(sample::renewal(1, 1));
    let facts = vec![token(), renewal(), again(), again(), Fact::BeginInstance(other_id), token(), renewal()];
    let outcomes = outcomes(&db, facts).await;
    let refused: Vec<_> = outcomes.into_iter().map(|outcome| outcome.done().err()).collect();
    let early = Some(Refusal::InstanceNotGood);
    let (twice, process) = (Some(Refusal::AlreadyExists(None)), Some(Refusal::StartTokenUsed));
    assert_eq!(refused, [early.clone(), early, None, twice, process, None, None]);
    assert_eq!(db.store.instance(&begin.instance.id).await.unwrap().unwrap().newest.serial, "81");
}

async fn nothing_is_issued_after_a_ban_in_the_same_transaction(db: Bench) {
    ready(&db).await;
    let ban = Fact::BanNode(NodeRef { id: sample::node_id(1) });
    let begin = |run| Fact::BeginInstance(sample::begin(1, run));
    let facts = vec![svid("1"), begin(1), ban, svid("2"), begin(2), Fact::RenewInstance(sample::renewal(1, 1))];
    let outcomes = outcomes(&db, facts).await;
    let refused: Vec<_> = outcomes.into_iter().map(|outcome| outcome.done().err()).collect();
    let bad = || Some(Refusal::NodeNotGood);
    assert_eq!(refused, [None, None, None, bad(), bad(), bad()]);
    assert_eq!(db.store.live_instances(&sample::node_id(1)).await.unwrap(), []);
}

async fn a_node_has_room_for_no_more_than_its_limit_in_one_transaction(db: Bench) {
    ready(&db).await;
    let begin = |n, run| Fact::BeginInstance(BeginInstance { max_live: 2, ..sample::begin(n, run) });
    let outcomes = outcomes(&db, vec![begin(1, 1), begin(1, 2), begin(1, 3), begin(2, 4)]).await;
    let refused: Vec<_> = outcomes.into_iter().map(|outcome| outcome.done().err()).collect();
    assert_eq!(refused, [None, None, Some(Refusal::TooManyLive { max: 2 }), None]);
}

async fn the_newest_of_two_renewals_in_one_transaction_counts(db: Bench) {
    ready(&db).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    db.done(Fact::BeginInstance(sample::begin(1, 2))).await;
    let renew =
        |serial: &str| Fact::RenewInstance(RenewInstance { cert: sample::cert(serial), ..sample::renewal(1, 1) });
    let facts = vec![renew("100"), Fact::RenewInstance(sample::renewal(1, 2)), renew("200")];
    assert!(outcomes(&db, facts).await.into_iter().all(|outcome| outcome.done().is_ok()));
    let serial =
        async |run| db.store.instance(&sample::begin(1, run).instance.id).await.unwrap().unwrap().newest.serial;
    assert_eq!((serial(1).await, serial(2).await), ("200".into(), "82".into()));
}

/// Around the powers of two, where the places of a statement are filled up or just full.
async fn any_number_of_issuances_fits_its_statements(db: Bench) {
    ready(&db).await;
    let mut run = 0;
    for count in [1, 2, 3, 4, 5, 8, 9, 31, 33] {
        let runs: Vec<u8> = (run..run + count).collect();
        run += count;
        let of = |fact: fn(u8, u8) -> Fact| runs.iter().map(move |run| fact(1, *run));
        let begins = of(|n, run| Fact::BeginInstance(sample::begin(n, run)));
        let renewals = of(|n, run| Fact::RenewInstance(sample::renewal(n, run)));
        let outcomes = outcomes(&db, begins.chain(renewals).collect()).await;
        assert!(outcomes.into_iter().all(|outcome| outcome.done().is_ok()), "{count}");
    }
    let running = db.store.live_instances(&sample::node_id(1)).await.unwrap();
    assert_eq!(running.len(), usize::from(run));
    assert!(running.iter().all(|one| one.newest.serial.starts_with('8')), "each was renewed");
}
