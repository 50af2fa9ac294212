//! The newest certificate revocation list of each CA.

use chancery_ca::store::{Fact, Refusal, StoredCrl, Taken};
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    the_newest_list_of_a_ca_replaces_the_one_before_and_no_other
    a_list_names_what_is_revoked_of_its_authority_and_ends_late_enough
    lists_of_cas_that_ended_go_with_the_next_one
}

fn crl(issuer: &str, number: i64) -> StoredCrl {
    let now = sample::now();
    StoredCrl {
        issuer: issuer.into(),
        authority: sample::X509.into(),
        number,
        this_update: now,
        next_update: now.plus(60),
        issuer_ends: now.plus(3600),
        revoked: 2,
        chain: vec![1, 2],
        der: vec![3, u8::try_from(number).unwrap()],
    }
}

async fn the_newest_list_of_a_ca_replaces_the_one_before_and_no_other(db: Bench) {
    let number = db.done(Fact::SignCrl(crl("a", 1))).await;
    assert_eq!(db.kinds_from(number).await, [("crl.signed".to_owned(), "a".to_owned())]);
    db.done(Fact::SignCrl(crl("b", 7))).await;
    db.done(Fact::SignCrl(crl("a", 2))).await;
    assert_eq!(db.store.crls().await.unwrap(), [crl("a", 2), crl("b", 7)]);
    for number in [1, 2] {
        assert_eq!(db.refused(Fact::SignCrl(crl("a", number))).await, Refusal::Stale);
    }
    assert_eq!(db.store.crl("a").await.unwrap(), Some(crl("a", 2)));
    assert_eq!(db.store.crl("c").await.unwrap(), None);
    let told = json(db.events().await.last().unwrap());
    let digest = hex::encode(chancery_core::crypto::sha256(&[&[3, 2]]));
    assert_eq!((&told["fields"]["sha256"], &told["fields"]["revoked"]), (&digest.into(), &2.into()));
    let followed = db.store.changes(number - 1, 10).await.unwrap();
    assert_eq!(followed.changes.iter().filter(|change| change.kind == "crl.signed").count(), 3, "servers hear of it");
}

async fn a_list_names_what_is_revoked_of_its_authority_and_ends_late_enough(db: Bench) {
    let rows = "('aa', '9', 'spiffe://td/x', 500, 5, '', '', ''), ('aa', '8', 'spiffe://td/x', 600, 6, '', '', ''), \
        ('aa', '7', 'spiffe://td/x', 400, 4, '', '', ''), ('bb', '6', 'spiffe://td/x', 900, 9, '', '', '')";
    let insert =
        "INSERT INTO revocations (authority, serial, subject, expires_at, revoked_at, reason, cause_kind, cause)";
    db.sql(&format!("{insert} VALUES {rows}")).await;
    let taken = |serial: &str, at| Taken { serial: serial.into(), at: UnixTime(at) };
    let all = db.store.taken_back("aa", UnixTime(450), 10).await.unwrap();
    assert_eq!(all, [taken("8", 6), taken("9", 5)]);
    assert_eq!(db.store.taken_back("aa", UnixTime(0), 2).await.unwrap().len(), 2);
    assert!(db.store.taken_back("cc", UnixTime(0), 2).await.unwrap().is_empty());
}

async fn lists_of_cas_that_ended_go_with_the_next_one(db: Bench) {
    db.done(Fact::SignCrl(StoredCrl { issuer_ends: UnixTime(1), ..crl("over", 1) })).await;
    db.done(Fact::SignCrl(crl("a", 1))).await;
    assert_eq!(db.store.crls().await.unwrap(), [crl("a", 1)]);
}
