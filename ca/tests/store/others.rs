use chancery_ca::store::*;
use chancery_core::reason::Reason;
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_join_token_is_spent_once
    a_refused_admission_spends_no_token
    an_expired_join_token_is_spent_by_asking
    a_token_hash_is_used_once
    a_token_comes_with_its_alias_or_not_at_all
    eviction_of_a_join_token_node_takes_its_alias
    an_anchor_is_imported_once
    strangers_are_counted_without_their_address
}

fn token(hash: &str, lives: i64) -> CreateToken {
    CreateToken { hash_hex: hash.into(), expires_at: sample::now().plus(lives), alias: None }
}

fn alias(hash: &str) -> chancery_core::entry::Entry {
    let mut entry = sample::entry("alias");
    entry.parent_id = sample::id(&format!("/spire/agent/join_token/{hash}"));
    entry.selectors = sample::selectors(&[&format!("spiffe_id:{}", entry.parent_id)]);
    entry
}

async fn a_join_token_is_spent_once(db: Bench) {
    let fact = Fact::AdmitNode(sample::token_admission("aa"));
    assert_eq!(db.refused(fact.clone()).await, Refusal::TokenUnknown);
    db.done(Fact::CreateToken(token("aa", 60))).await;
    let tries = futures_util::future::join_all((0..4).map(|_| db.store.commit(fact.clone()))).await;
    let done = tries.into_iter().filter(|t| matches!(t, Ok(Outcome::Done { .. }))).count();
    assert_eq!(done, 1);
    let evict = NodeRef { id: sample::token_admission("aa").node.id };
    db.done(Fact::EvictNode(evict)).await;
    assert_eq!(db.refused(fact).await, Refusal::TokenUnknown);
}

async fn a_refused_admission_spends_no_token(db: Bench) {
    db.done(Fact::CreateToken(token("aa", 60))).await;
    let wrong = AdmitNode { authority: "zz".into(), ..sample::token_admission("aa") };
    assert_eq!(db.refused(Fact::AdmitNode(wrong)).await, Refusal::AuthorityNotActive);
    db.done(Fact::AdmitNode(sample::token_admission("aa"))).await;
}

async fn an_expired_join_token_is_spent_by_asking(db: Bench) {
    db.done(Fact::CreateToken(token("aa", 0))).await;
    let fact = Fact::AdmitNode(sample::token_admission("aa"));
    let outcome = db.store.commit(fact.clone()).await.unwrap();
    assert_eq!(outcome, Outcome::Refused(Refusal::TokenExpired));
    let last = db.events().await.pop().unwrap();
    assert_eq!(json(&last)["kind"], "token.expired");
    assert_eq!(db.refused(fact).await, Refusal::TokenUnknown);
    assert_eq!(db.store.nodes().await.unwrap(), []);
}

async fn a_token_hash_is_used_once(db: Bench) {
    db.done(Fact::CreateToken(token("aa", 60))).await;
    assert_eq!(db.refused(Fact::CreateToken(token("aa", 60))).await, Refusal::AlreadyExists(None));
}

async fn a_token_comes_with_its_alias_or_not_at_all(db: Bench) {
    let with_alias = |hash: &str| Fact::CreateToken(CreateToken { alias: Some(alias("aa")), ..token(hash, 60) });
    db.done(with_alias("aa")).await;
    assert_eq!(db.store.entries("", 1000).await.unwrap(), [alias("aa")]);
    assert_eq!(db.refused(with_alias("bb")).await, Refusal::AlreadyExists(Some("alias".into())));
    assert_eq!(db.refused(Fact::AdmitNode(sample::token_admission("bb"))).await, Refusal::TokenUnknown);
}

async fn eviction_of_a_join_token_node_takes_its_alias(db: Bench) {
    db.done(Fact::CreateToken(CreateToken { alias: Some(alias("aa")), ..token("aa", 60) })).await;
    let mut child = sample::entry("child");
    child.parent_id = alias("aa").parent_id;
    db.done(Fact::CreateEntry(child.clone())).await;
    db.done(Fact::AdmitNode(sample::token_admission("aa"))).await;
    db.done(Fact::EvictNode(NodeRef { id: child.parent_id.clone() })).await;
    assert_eq!(db.store.entries("", 1000).await.unwrap(), [child]);
}

async fn an_anchor_is_imported_once(db: Bench) {
    let anchor = Anchor {
        fingerprint: "ff".into(),
        der: vec![1, 2],
        subject: "CN=Maker".into(),
        manufacturer: "id:00001014".into(),
        not_after: UnixTime(9),
        note: String::new(),
        imported_at: UnixTime(8),
    };
    db.done(Fact::ImportAnchor(anchor.clone())).await;
    let again = db.refused(Fact::ImportAnchor(anchor.clone())).await;
    assert_eq!(again, Refusal::AlreadyExists(Some("ff".into())));
    assert_eq!(db.store.anchors().await.unwrap(), [anchor]);
}

async fn strangers_are_counted_without_their_address(db: Bench) {
    let (source_prefix, reason) = ("192.0.2.0/24".to_string(), Reason::EkUnknown);
    let fact = RefusedStrangers { source_prefix, reason, count: 12, second: UnixTime(7) };
    let number = db.done(Fact::RefusedStrangers(fact)).await;
    let event = json(&db.events().await[number as usize]);
    assert_eq!((&event["subject"], &event["fields"]["count"]), (&"EK_UNKNOWN".into(), &12.into()));
    assert!(!event.to_string().contains("192.0.2"));
}
