use chancery_ca::store::{ClassRef, DeleteFederatedBundle, DeleteMode, EntryRef, Fact, Moment, Refusal, SetMode};
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    an_entry_comes_back_as_it_went_in
    both_halves_together_hold_each_entry_once
    an_equal_entry_is_refused_and_named
    a_used_entry_id_is_refused_without_a_name
    an_entry_may_federate_only_with_stored_bundles
    an_update_needs_the_next_revision
    an_update_may_make_an_equal_entry
    a_deleted_entry_is_gone
    pruning_takes_expired_entries_only
    a_bundle_in_use_is_deleted_as_the_mode_says
    a_bundle_is_set_as_the_mode_says
    a_class_comes_back_as_it_went_in
    a_class_update_needs_the_next_revision
    deleting_a_class_ends_its_instances
}

async fn an_entry_comes_back_as_it_went_in(db: Bench) {
    db.done(Fact::SetFederatedBundle(sample::bundle("z.org", SetMode::Create))).await;
    db.done(Fact::SetFederatedBundle(sample::bundle("a.org", SetMode::Create))).await;
    let mut entry = sample::entry("e1");
    entry.federates_with = vec![sample::domain("z.org"), sample::domain("a.org")];
    entry.expires_at = Some(UnixTime(99));
    let number = db.done(Fact::CreateEntry(entry.clone())).await;
    db.done(Fact::CreateEntry(sample::entry("e0"))).await;
    assert_eq!(db.store.entry("e1").await.unwrap(), Some(entry.clone()));
    assert_eq!(db.store.entry("none").await.unwrap(), None);
    assert_eq!(db.store.entries("", 1000).await.unwrap(), [sample::entry("e0"), entry]);
    let event = json(&db.events().await[number as usize]);
    assert_eq!((&event["kind"], &event["subject"]), (&"entry.created".into(), &"e1".into()));
    assert_eq!(event["fields"]["selectors"], serde_json::json!(["unix:gid:7", "unix:uid:1000"]));
}

async fn both_halves_together_hold_each_entry_once(db: Bench) {
    assert_eq!(db.store.middle_entry().await.unwrap(), None);
    // Databases differ in how they order these.
    let ids = ["B", "a", "A-1", "a.1", "_", "b", "10", "9", "Z", "a-1"];
    for id in ids {
        db.done(Fact::CreateEntry(sample::entry(id))).await;
    }
    let middle = db.store.middle_entry().await.unwrap().unwrap();
    let (mut lower, mut last) = (Vec::new(), String::new());
    loop {
        let page = db.store.entries_until(&last, &middle, 2).await.unwrap();
        let Some(newest) = page.last() else { break };
        last.clone_from(&newest.id);
        lower.extend(page.into_iter().map(|entry| entry.id));
    }
    let upper: Vec<_> = db.store.entries(&middle, 1000).await.unwrap().into_iter().map(|entry| entry.id).collect();
    assert!((4..=6).contains(&lower.len()) && (4..=6).contains(&upper.len()), "{lower:?} {upper:?}");
    let all: std::collections::BTreeSet<_> = lower.iter().chain(&upper).map(String::as_str).collect();
    assert_eq!((all, lower.len() + upper.len()), (ids.into(), ids.len()));
}

async fn an_equal_entry_is_refused_and_named(db: Bench) {
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    let mut equal = sample::entry("e1");
    equal.id = "e2".into();
    assert_eq!(db.refused(Fact::CreateEntry(equal)).await, Refusal::AlreadyExists(Some("e1".into())));
}

async fn a_used_entry_id_is_refused_without_a_name(db: Bench) {
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    let mut other = sample::entry("e2");
    other.id = "e1".into();
    assert_eq!(db.refused(Fact::CreateEntry(other)).await, Refusal::AlreadyExists(None));
}

async fn an_entry_may_federate_only_with_stored_bundles(db: Bench) {
    let mut entry = sample::entry("e1");
    entry.federates_with = vec![sample::domain("b.org")];
    let unknown = Refusal::FederationUnknown(sample::domain("b.org"));
    assert_eq!(db.refused(Fact::CreateEntry(entry.clone())).await, unknown);
    assert_eq!(db.store.entries("", 1000).await.unwrap(), []);
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    entry.revision = 1;
    assert_eq!(db.refused(Fact::UpdateEntry(entry)).await, unknown);
}

async fn an_update_needs_the_next_revision(db: Bench) {
    let mut entry = sample::entry("e1");
    entry.revision = 1;
    assert_eq!(db.refused(Fact::UpdateEntry(entry.clone())).await, Refusal::NotFound);
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    entry.hint = "new".into();
    entry.dns_names.clear();
    db.done(Fact::UpdateEntry(entry.clone())).await;
    assert_eq!(db.store.entry("e1").await.unwrap(), Some(entry.clone()));
    assert_eq!(db.refused(Fact::UpdateEntry(entry.clone())).await, Refusal::Stale);
    entry.revision = 3;
    assert_eq!(db.refused(Fact::UpdateEntry(entry)).await, Refusal::Stale);
}

async fn an_update_may_make_an_equal_entry(db: Bench) {
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    db.done(Fact::CreateEntry(sample::entry("e2"))).await;
    let mut twin = sample::entry("e1");
    twin.id = "e2".into();
    twin.revision = 1;
    db.done(Fact::UpdateEntry(twin)).await;
}

async fn a_deleted_entry_is_gone(db: Bench) {
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    let delete = Fact::DeleteEntry(EntryRef { id: "e1".into() });
    db.done(delete.clone()).await;
    assert_eq!(db.store.entry("e1").await.unwrap(), None);
    assert_eq!(db.refused(delete).await, Refusal::NotFound);
}

async fn pruning_takes_expired_entries_only(db: Bench) {
    for (name, end) in [("e1", Some(100)), ("e2", Some(101)), ("e3", None)] {
        let mut entry = sample::entry(name);
        entry.expires_at = end.map(UnixTime);
        db.done(Fact::CreateEntry(entry)).await;
    }
    let number = db.done(Fact::PruneEntries(Moment { now: UnixTime(100) })).await;
    assert_eq!(db.kinds_from(number).await, [("entry.pruned".to_string(), "e1".to_string())]);
    assert_eq!(db.store.entries("", 1000).await.unwrap().len(), 2);
    let again = db.done(Fact::PruneEntries(Moment { now: UnixTime(100) })).await;
    assert_eq!(again, number, "nothing to prune makes no event");
}

async fn a_bundle_in_use_is_deleted_as_the_mode_says(db: Bench) {
    let trust_domain = sample::domain("b.org");
    let delete = |mode| Fact::DeleteFederatedBundle(DeleteFederatedBundle { trust_domain: trust_domain.clone(), mode });
    assert_eq!(db.refused(delete(DeleteMode::Delete)).await, Refusal::NotFound);
    for name in ["b.org", "c.org"] {
        db.done(Fact::SetFederatedBundle(sample::bundle(name, SetMode::Set))).await;
    }
    let mut entry = sample::entry("e1");
    entry.federates_with = vec![sample::domain("b.org"), sample::domain("c.org")];
    db.done(Fact::CreateEntry(entry)).await;
    assert_eq!(db.refused(delete(DeleteMode::Restrict)).await, Refusal::FederationInUse);
    db.done(delete(DeleteMode::Dissociate)).await;
    let left = db.store.entry("e1").await.unwrap().unwrap();
    assert_eq!((left.federates_with, left.revision), (vec![sample::domain("c.org")], 1));
    let trust_domain = sample::domain("c.org");
    let mode = DeleteMode::Delete;
    db.done(Fact::DeleteFederatedBundle(DeleteFederatedBundle { trust_domain, mode })).await;
    assert_eq!(db.store.entries("", 1000).await.unwrap(), []);
    assert_eq!(db.store.federated_bundles().await.unwrap(), []);
}

async fn a_bundle_is_set_as_the_mode_says(db: Bench) {
    let set = |mode| Fact::SetFederatedBundle(sample::bundle("b.org", mode));
    assert_eq!(db.refused(set(SetMode::Update)).await, Refusal::NotFound);
    db.done(set(SetMode::Create)).await;
    assert_eq!(db.refused(set(SetMode::Create)).await, Refusal::AlreadyExists(None));
    db.done(set(SetMode::Update)).await;
    db.done(set(SetMode::Set)).await;
    let stored = db.store.federated_bundle(&sample::domain("b.org")).await.unwrap().unwrap();
    assert_eq!(stored.json, b"{\"keys\":[]}");
    assert_eq!(db.store.federated_bundle(&sample::domain("c.org")).await.unwrap(), None);
}

async fn a_class_comes_back_as_it_went_in(db: Bench) {
    let class = sample::class("finance/refund-agent");
    db.done(Fact::CreateClass(class.clone())).await;
    assert_eq!(db.refused(Fact::CreateClass(class.clone())).await, Refusal::AlreadyExists(None));
    assert_eq!(db.store.class("finance/refund-agent").await.unwrap(), Some(class.clone()));
    assert_eq!(db.store.class("finance").await.unwrap(), None);
    assert_eq!(db.store.classes().await.unwrap(), [class]);
}

async fn a_class_update_needs_the_next_revision(db: Bench) {
    let mut class = sample::class("a");
    class.revision = 1;
    assert_eq!(db.refused(Fact::UpdateClass(class.clone())).await, Refusal::NotFound);
    db.done(Fact::CreateClass(sample::class("a"))).await;
    class.selectors = sample::selectors(&["unix:uid:2"]);
    db.done(Fact::UpdateClass(class.clone())).await;
    assert_eq!(db.store.class("a").await.unwrap(), Some(class.clone()));
    assert_eq!(db.refused(Fact::UpdateClass(class)).await, Refusal::Stale);
}

async fn deleting_a_class_ends_its_instances(db: Bench) {
    let delete = Fact::DeleteClass(ClassRef { name: "a".into() });
    assert_eq!(db.refused(delete.clone()).await, Refusal::NotFound);
    db.done(Fact::CreateClass(sample::class("a"))).await;
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    db.done(delete).await;
    let ended = db.store.instance(&sample::begin(1, 1).instance.id).await.unwrap().unwrap();
    assert_eq!(ended.end_reason, "class-deleted");
    db.done(Fact::CreateClass(sample::class("a"))).await;
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 1))).await, Refusal::InstanceNotGood);
}
