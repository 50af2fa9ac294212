use chancery_ca::store::*;
use chancery_daemon::key_type::KeyType;
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_key_is_written_down_before_it_exists_and_kept_after_it_is_destroyed
    a_step_is_a_compare_and_swap
    steps_go_one_way
    a_public_half_belongs_to_one_key
    a_server_has_three_unused_keys_of_a_kind_at_most
    a_key_is_not_destroyed_before_its_time
    a_published_authority_keeps_its_key
    a_lost_key_is_found_again_and_is_not_condemned_with_its_authority
    a_key_that_turns_up_late_is_condemned
    two_servers_step_one_key_once
}

fn plan(id: &str) -> Fact {
    Fact::PlanKey(sample::plan(id, AuthorityKind::X509))
}

fn step(id: &str, version: i64, step: KeyStep) -> Fact {
    Fact::MoveKey(sample::step(id, version, step))
}

fn condemn() -> KeyStep {
    KeyStep::Condemn { keep_until: UnixTime(500), why: "test" }
}

async fn key(db: &Bench, id: &str) -> KeyRecord {
    let label = sample::authority(id).label;
    db.store.keys().await.unwrap().into_iter().find(|k| k.label == label).unwrap()
}

async fn a_key_is_written_down_before_it_exists_and_kept_after_it_is_destroyed(db: Bench) {
    let number = db.done(plan("bb")).await;
    let planned = key(&db, "bb").await;
    assert_eq!((planned.state, planned.version, planned.spki), (KeyState::Planned, 0, None));
    assert_eq!((planned.key_type, planned.server.as_str()), (KeyType::EcP256, "test"));
    assert_eq!(db.refused(plan("bb")).await, Refusal::AlreadyExists(None));
    db.done(step("bb", 0, KeyStep::Generate)).await;
    db.done(step("bb", 1, sample::recorded("bb"))).await;
    assert_eq!(key(&db, "bb").await.spki.as_deref(), Some(b"spki of bb".as_slice()));
    db.done(step("bb", 2, condemn())).await;
    db.done(step("bb", 3, KeyStep::Destroy { now: UnixTime(500) })).await;
    let last = key(&db, "bb").await;
    assert_eq!((last.state, last.version), (KeyState::Destroyed, 4));
    assert!(db.store.keys_of("test").await.unwrap().iter().all(|k| k.label != last.label));
    let told: Vec<_> = db.kinds_from(number).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(told, ["key.planned", "key.generating", "key.generated", "key.condemned", "key.destroyed"]);
    let destroyed = json(db.events().await.last().unwrap());
    assert_eq!(destroyed["fields"]["spki_sha256"].as_str().unwrap().len(), 64);
}

async fn a_step_is_a_compare_and_swap(db: Bench) {
    db.done(plan("bb")).await;
    assert_eq!(db.refused(step("bb", 1, KeyStep::Generate)).await, Refusal::Stale);
    assert_eq!(db.refused(step("cc", 0, KeyStep::Generate)).await, Refusal::NotFound);
    db.done(step("bb", 0, KeyStep::Generate)).await;
    assert_eq!(db.refused(step("bb", 0, KeyStep::Generate)).await, Refusal::Stale);
}

/// From each state, every step that is not its own is refused.
async fn steps_go_one_way(db: Bench) {
    let record = || sample::recorded("bb");
    let destroy = || KeyStep::Destroy { now: UnixTime(500) };
    let refused = async |version: i64, steps: Vec<KeyStep>| {
        for wrong in steps {
            assert_eq!(db.refused(step("bb", version, wrong.clone())).await, Refusal::Stale, "{wrong:?}");
        }
    };
    db.done(plan("bb")).await;
    refused(0, vec![condemn(), destroy(), KeyStep::Find, KeyStep::Lose, record()]).await;
    db.done(step("bb", 0, KeyStep::Generate)).await;
    refused(1, vec![destroy(), KeyStep::Find, KeyStep::Generate, KeyStep::Lose]).await;
    db.done(step("bb", 1, record())).await;
    refused(2, vec![KeyStep::Abandon, destroy(), KeyStep::Find, KeyStep::Generate, record()]).await;
    db.done(step("bb", 2, KeyStep::Fault { what: "w".into() })).await;
    assert_eq!((key(&db, "bb").await.state, key(&db, "bb").await.note.as_str()), (KeyState::Generated, "w"));
    db.done(step("bb", 3, condemn())).await;
    refused(4, vec![KeyStep::Abandon, condemn(), KeyStep::Find, KeyStep::Generate, KeyStep::Lose, record()]).await;
    db.done(step("bb", 4, destroy())).await;
    refused(5, vec![KeyStep::Abandon, condemn(), destroy(), KeyStep::Find, KeyStep::Lose, record()]).await;
}

async fn a_public_half_belongs_to_one_key(db: Bench) {
    db.generate("bb", AuthorityKind::X509, "other").await;
    db.done(plan("cc")).await;
    db.done(step("cc", 0, KeyStep::Generate)).await;
    assert_eq!(db.refused(step("cc", 1, sample::recorded("bb"))).await, Refusal::KeyKnown("key-bb".into()));
}

async fn a_server_has_three_unused_keys_of_a_kind_at_most(db: Bench) {
    db.done(plan("bb")).await;
    db.done(plan("cc")).await;
    db.generate("dd", AuthorityKind::X509, "test").await;
    assert_eq!(db.refused(plan("ee")).await, Refusal::TooManyKeys { max: 3 });
    db.done(Fact::PlanKey(sample::plan("ff", AuthorityKind::Jwt))).await;
    db.done(step("bb", 0, KeyStep::Abandon)).await;
    db.done(plan("ee")).await;
}

async fn a_key_is_not_destroyed_before_its_time(db: Bench) {
    db.generate("bb", AuthorityKind::X509, "test").await;
    db.done(step("bb", 2, condemn())).await;
    let early = db.refused(step("bb", 3, KeyStep::Destroy { now: UnixTime(499) })).await;
    assert_eq!(early, Refusal::TooEarly { keep_until: UnixTime(500) });
    db.done(step("bb", 3, KeyStep::Destroy { now: UnixTime(500) })).await;
}

async fn a_published_authority_keeps_its_key(db: Bench) {
    db.prepare(sample::authority("bb")).await;
    assert_eq!(db.refused(step("bb", 2, condemn())).await, Refusal::AuthorityPublished);
}

async fn a_lost_key_is_found_again_and_is_not_condemned_with_its_authority(db: Bench) {
    db.prepare(sample::authority("bb")).await;
    db.done(step("bb", 2, KeyStep::Lose)).await;
    db.done(step("bb", 3, KeyStep::Find)).await;
    db.done(step("bb", 4, KeyStep::Lose)).await;
    let removal = RemoveAuthority { id: "bb".into(), keep_until: UnixTime(500) };
    db.done(Fact::RemoveAuthority(removal)).await;
    assert_eq!(key(&db, "bb").await.state, KeyState::Lost);
    db.done(step("bb", 5, condemn())).await;
}

async fn a_key_that_turns_up_late_is_condemned(db: Bench) {
    db.done(plan("bb")).await;
    db.done(step("bb", 0, KeyStep::Generate)).await;
    db.done(step("bb", 1, KeyStep::Abandon)).await;
    db.done(step("bb", 2, condemn())).await;
    assert_eq!(key(&db, "bb").await.state, KeyState::Condemned);
}

async fn two_servers_step_one_key_once(db: Bench) {
    let second = Store::open(&db.url, "second").await.unwrap();
    db.done(plan("bb")).await;
    let (one, two) = tokio::join!(
        db.store.commit(step("bb", 0, KeyStep::Generate)),
        second.commit(step("bb", 0, KeyStep::Generate))
    );
    let outcomes = [one.unwrap(), two.unwrap()];
    assert!(outcomes.contains(&Outcome::Refused(Refusal::Stale)), "{outcomes:?}");
    assert!(outcomes.iter().any(|o| matches!(o, Outcome::Done { .. })), "{outcomes:?}");
    second.close().await;
}
