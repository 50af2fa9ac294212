use chancery_ca::store::*;
use chancery_core::entry::{Entry, Rights};
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_key_of_a_downstream_server_is_in_the_bundle_until_its_end
    a_key_id_is_one_keys_for_as_long_as_it_is_published
    a_downstream_entry_publishes_sixteen_keys_at_once
    what_a_downstream_server_published_goes_with_its_entry
    the_bundle_above_is_followed_whole_and_only_its_changes_are_events
}

const FAR: i64 = 9_000_000_000;

async fn downstream(db: &Bench, id: &str) -> Entry {
    let entry = Entry { rights: Rights { admin: false, downstream: true }, ..sample::entry(id) };
    db.done(Fact::CreateEntry(entry.clone())).await;
    entry
}

fn key(entry: &Entry, id: &str, spki: &[u8]) -> PublishKey {
    PublishKey {
        entry_id: entry.id.clone(),
        entry_revision: entry.revision,
        key_id: id.into(),
        spki: spki.to_vec(),
        not_after: UnixTime(FAR),
    }
}

async fn revision(db: &Bench) -> i64 {
    db.store.bundle_revision().await.unwrap().revision
}

async fn ids(db: &Bench) -> Vec<String> {
    db.store.guests().await.unwrap().into_iter().map(|guest| guest.id).collect()
}

async fn a_key_of_a_downstream_server_is_in_the_bundle_until_its_end(db: Bench) {
    let entry = downstream(&db, "e1").await;
    let before = revision(&db).await;
    let number = db.done(Fact::PublishKey(key(&entry, "k1", b"one"))).await;
    let event = json(&db.store.events(Some(number - 1), 1).await.unwrap()[0]);
    assert_eq!((event["kind"].as_str(), event["subject"].as_str()), (Some("authority.published"), Some("k1")));
    assert_eq!((ids(&db).await, revision(&db).await), (vec!["k1".to_string()], before + 1));
    // The same again says nothing new; a later end does.
    assert_eq!(db.done(Fact::PublishKey(key(&entry, "k1", b"one"))).await, number);
    let longer = PublishKey { not_after: UnixTime(FAR + 1), ..key(&entry, "k1", b"one") };
    assert_eq!(db.done(Fact::PublishKey(longer)).await, number + 1);
    db.done(Fact::ExpireGuests(Moment { now: UnixTime(FAR + 60) })).await;
    assert_eq!(ids(&db).await, ["k1"], "a clock may be behind by a minute");
    db.done(Fact::ExpireGuests(Moment { now: UnixTime(FAR + 61) })).await;
    assert!(ids(&db).await.is_empty());
    assert_eq!(revision(&db).await, before + 3);
}

async fn a_key_id_is_one_keys_for_as_long_as_it_is_published(db: Bench) {
    let (first, second) = (downstream(&db, "e1").await, downstream(&db, "e2").await);
    db.done(Fact::PublishKey(key(&first, "k1", b"one"))).await;
    assert_eq!(db.refused(Fact::PublishKey(key(&second, "k1", b"two"))).await, Refusal::KeyIdTaken);
    assert_eq!(db.refused(Fact::PublishKey(key(&first, "k1", b"two"))).await, Refusal::KeyIdTaken);
    assert_eq!(db.refused(Fact::PublishKey(key(&first, sample::JWT, b"two"))).await, Refusal::KeyIdTaken);
    // A key of our own, which may have been revoked, is not published again from below, under whatever ID.
    let own = db.store.authority(sample::JWT).await.unwrap().unwrap().public;
    for id in [sample::JWT, "k9"] {
        assert_eq!(db.refused(Fact::PublishKey(key(&first, id, &own))).await, Refusal::KeyIdTaken);
    }
    db.done(Fact::PublishKey(key(&second, "k1", b"one"))).await;
    let stale = PublishKey { entry_revision: 7, ..key(&first, "k2", b"three") };
    assert_eq!(db.refused(Fact::PublishKey(stale)).await, Refusal::Stale);
    let plain = sample::entry("e3");
    db.done(Fact::CreateEntry(plain.clone())).await;
    assert_eq!(db.refused(Fact::PublishKey(key(&plain, "k2", b"three"))).await, Refusal::EntryGone);
}

async fn a_downstream_entry_publishes_sixteen_keys_at_once(db: Bench) {
    let entry = downstream(&db, "e1").await;
    for n in 0..16_u8 {
        db.done(Fact::PublishKey(key(&entry, &format!("k{n}"), &[n]))).await;
    }
    let refused = db.refused(Fact::PublishKey(key(&entry, "k16", b"x"))).await;
    assert_eq!(refused, Refusal::TooManyAuthorities { max: 16 });
    let longer = PublishKey { not_after: UnixTime(FAR + 1), ..key(&entry, "k3", &[3]) };
    db.done(Fact::PublishKey(longer)).await;
    let other = downstream(&db, "e2").await;
    db.done(Fact::PublishKey(key(&other, "k16", b"x"))).await;
}

async fn what_a_downstream_server_published_goes_with_its_entry(db: Bench) {
    let (first, second) = (downstream(&db, "e1").await, downstream(&db, "e2").await);
    db.done(Fact::PublishKey(key(&first, "k1", b"one"))).await;
    db.done(Fact::PublishKey(key(&second, "k2", b"two"))).await;
    db.done(Fact::DeleteEntry(EntryRef { id: first.id })).await;
    db.done(Fact::ExpireGuests(Moment { now: UnixTime(1) })).await;
    assert_eq!(ids(&db).await, ["k2"]);
    let rights = Rights { admin: false, downstream: false };
    db.done(Fact::UpdateEntry(Entry { rights, revision: second.revision + 1, ..second })).await;
    let number = db.done(Fact::ExpireGuests(Moment { now: UnixTime(1) })).await;
    let event = json(&db.store.events(Some(number - 1), 1).await.unwrap()[0]);
    assert_eq!((event["kind"].as_str(), event["subject"].as_str()), (Some("authority.unpublished"), Some("k2")));
    assert!(ids(&db).await.is_empty());
}

async fn the_bundle_above_is_followed_whole_and_only_its_changes_are_events(db: Bench) {
    let followed = |kind, id: &str, tainted| Followed {
        kind,
        id: id.into(),
        public: id.as_bytes().to_vec(),
        not_after: UnixTime(FAR),
        tainted,
    };
    let follow = |authorities| Fact::FollowUpstream(FollowUpstream { server: "s1".into(), authorities });
    let (root, jwt) = (followed(AuthorityKind::X509, "r", false), followed(AuthorityKind::Jwt, "j", false));
    let before = revision(&db).await;
    let number = db.done(follow(vec![root.clone(), jwt.clone()])).await;
    assert_eq!(ids(&db).await, ["j", "r"]);
    assert_eq!(db.done(follow(vec![jwt.clone(), root.clone()])).await, number, "nothing new");
    let tainted = followed(AuthorityKind::X509, "r", true);
    assert_eq!(db.done(follow(vec![tainted, jwt])).await, number + 1);
    let guests = db.store.guests().await.unwrap();
    assert_eq!(guests[1].follower(), Some("s1"));
    assert!(guests[1].tainted_at.is_some() && guests[0].tainted_at.is_none());
    db.done(Fact::ExpireGuests(Moment { now: UnixTime(1) })).await;
    assert_eq!(ids(&db).await.len(), 2, "they are no entry's");
    db.done(follow(Vec::new())).await;
    assert!(ids(&db).await.is_empty());
    assert_eq!(revision(&db).await, before + 3);
}
