use chancery_ca::store::{BeatClaim, Fact, Outcome, Refusal, ReleaseClaim, ServerClaim, Store, StoreError, TakeClaim};

use crate::{
    bench::{Bench, on_both},
    sample,
};

on_both! {
    a_claim_is_taken_once_beats_and_is_given_up
    a_store_whose_claim_was_taken_over_commits_nothing
    a_claim_changes_without_an_event
}

fn take(nonce: &str, over: Option<ServerClaim>) -> Fact {
    Fact::TakeClaim(TakeClaim { server: "test".into(), nonce: nonce.into(), over })
}

fn beat(nonce: &str, beat: i64) -> Fact {
    Fact::BeatClaim(BeatClaim { server: "test".into(), nonce: nonce.into(), beat })
}

fn claim(nonce: &str, beat: i64) -> Option<ServerClaim> {
    Some(ServerClaim { nonce: nonce.into(), beat })
}

/// Another process of the same server.
async fn other(db: &Bench) -> Store {
    Store::open(&db.url, "test").await.unwrap()
}

async fn refused(store: &Store, fact: Fact) {
    assert_eq!(store.commit(fact.clone()).await.unwrap(), Outcome::Refused(Refusal::Stale), "{fact:?}");
}

async fn a_claim_is_taken_once_beats_and_is_given_up(db: Bench) {
    assert_eq!(db.store.server_claim("test").await.unwrap(), None);
    refused(&db.store, take("one", claim("none", 0))).await;
    db.done(take("one", None)).await;
    let second = other(&db).await;
    refused(&second, take("two", None)).await;
    db.done(beat("one", 0)).await;
    refused(&db.store, beat("one", 0)).await;
    refused(&second, take("two", claim("one", 0))).await; // it beat since
    assert_eq!(db.store.server_claim("test").await.unwrap(), claim("one", 1));
    assert_eq!(db.store.server_claim("another").await.unwrap(), None);
    let release = |nonce: &str| Fact::ReleaseClaim(ReleaseClaim { server: "test".into(), nonce: nonce.into() });
    refused(&second, release("two")).await;
    db.done(release("one")).await;
    assert_eq!(db.store.server_claim("test").await.unwrap(), None);
    second.close().await;
}

async fn a_store_whose_claim_was_taken_over_commits_nothing(db: Bench) {
    db.done(take("one", None)).await;
    let second = other(&db).await;
    second.commit(take("two", claim("one", 0))).await.unwrap().done().unwrap();
    for fact in [Fact::CreateClass(sample::class("a")), beat("one", 0), take("one", claim("two", 0))] {
        let told = db.store.commit(fact).await.unwrap_err();
        assert!(matches!(told, StoreError::Overtaken), "{told}");
    }
    assert!(second.classes().await.unwrap().is_empty());
    second.commit(Fact::CreateClass(sample::class("a"))).await.unwrap().done().unwrap();
    second.close().await;
}

async fn a_claim_changes_without_an_event(db: Bench) {
    let before = db.store.events(None, 1000).await.unwrap().len();
    db.done(take("one", None)).await;
    db.done(beat("one", 0)).await;
    assert_eq!(db.store.events(None, 1000).await.unwrap().len(), before);
    assert_eq!(db.store.server_claim("test").await.unwrap(), claim("one", 1));
    // The log goes on without a gap.
    db.done(Fact::CreateClass(sample::class("a"))).await;
    assert_eq!(db.store.events(None, 1000).await.unwrap().len(), before + 1);
}
