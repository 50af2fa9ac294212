use chancery_ca::store::*;
use chancery_core::instance::Standing;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    an_instance_comes_back_as_it_went_in
    the_record_of_a_begin_holds_digests_of_personal_facts_only
    an_instance_begins_only_on_a_good_node_with_its_certificate
    an_instance_begins_only_of_the_class_it_was_decided_for
    an_instance_needs_an_active_authority
    an_instance_id_never_repeats
    a_process_never_begins_again
    the_same_start_token_may_begin_on_another_node
    a_key_never_belongs_to_another_instance
    a_node_runs_at_most_its_limit
    a_renewal_needs_the_running_process_of_its_node
    a_renewal_may_keep_its_key_or_take_a_new_one
    asking_to_begin_again_gives_no_new_key
    an_instance_ends_once_and_by_its_own_node
    an_operator_ends_any_instance
    reconciling_ends_what_does_not_live
    a_new_boot_ends_every_instance
    reconciling_needs_a_good_node
    instances_are_filtered_and_paged
}

async fn ready(db: &Bench) {
    for n in [1, 2] {
        db.done(Fact::AdmitNode(sample::admission(n))).await;
    }
    db.done(Fact::CreateClass(sample::class("a"))).await;
}

async fn begun(db: &Bench, runs: &[u8]) {
    ready(db).await;
    for run in runs {
        db.done(Fact::BeginInstance(sample::begin(1, *run))).await;
    }
}

async fn an_instance_comes_back_as_it_went_in(db: Bench) {
    ready(&db).await;
    let fact = sample::begin(1, 1);
    db.done(Fact::BeginInstance(fact.clone())).await;
    let want = fact.instance;
    assert_eq!(db.store.instance(&want.id).await.unwrap(), Some(want.clone()));
    assert_eq!(db.store.instance_of(&want.node_id, &[1; 32]).await.unwrap(), Some(want.clone()));
    assert_eq!(db.store.instance_of(&sample::node_id(2), &[1; 32]).await.unwrap(), None);
    assert_eq!(db.store.live_instances(&want.node_id).await.unwrap(), [want]);
    assert_eq!(db.store.live_instances(&sample::node_id(2)).await.unwrap(), []);
}

async fn the_record_of_a_begin_holds_digests_of_personal_facts_only(db: Bench) {
    ready(&db).await;
    let number = db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
    let event = json(&db.events().await[number as usize]);
    assert!(!event.to_string().contains("/usr/bin/agent"));
    assert!(event["fields"]["path"]["salted_sha256"].is_string());
    assert_eq!(event["fields"]["pid_proof"], "peer-pidfd");
    assert_eq!(event["fields"]["allow_unproven_nodes"], true);
    assert_eq!(event["fields"]["class"], "a");
}

async fn an_instance_begins_only_on_a_good_node_with_its_certificate(db: Bench) {
    ready(&db).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(3, 1))).await, Refusal::NodeNotGood);
    let stale = BeginInstance { node_serial: "9".into(), ..sample::begin(1, 1) };
    assert_eq!(db.refused(Fact::BeginInstance(stale)).await, Refusal::SerialNotCurrent);
    db.done(Fact::BanNode(NodeRef { id: sample::node_id(1) })).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 1))).await, Refusal::NodeNotGood);
}

async fn an_instance_begins_only_of_the_class_it_was_decided_for(db: Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 1))).await, Refusal::ClassGone);
    db.done(Fact::CreateClass(sample::class("a"))).await;
    let mut class = sample::class("a");
    class.revision = 1;
    db.done(Fact::UpdateClass(class)).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 1))).await, Refusal::ClassGone);
    db.done(Fact::BeginInstance(BeginInstance { class_revision: 1, ..sample::begin(1, 1) })).await;
}

async fn an_instance_needs_an_active_authority(db: Bench) {
    begun(&db, &[1]).await;
    db.done(Fact::RetireAuthority(AuthorityId { id: sample::X509.into() })).await;
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 2))).await, Refusal::AuthorityNotActive);
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 1))).await, Refusal::AuthorityNotActive);
}

async fn an_instance_id_never_repeats(db: Bench) {
    begun(&db, &[1]).await;
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    let mut fact = sample::begin(1, 2);
    fact.instance.id = sample::begin(1, 1).instance.id;
    assert_eq!(db.refused(Fact::BeginInstance(fact)).await, Refusal::AlreadyExists(None));
}

async fn a_process_never_begins_again(db: Bench) {
    begun(&db, &[1]).await;
    let mut fact = sample::begin(1, 2);
    fact.instance.start_token = [1; 32];
    assert_eq!(db.refused(Fact::BeginInstance(fact.clone())).await, Refusal::StartTokenUsed);
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    let ended = Refusal::ProcessEnded(sample::end(1, 1).id.to_string());
    assert_eq!(db.refused(Fact::BeginInstance(fact)).await, ended);
}

async fn the_same_start_token_may_begin_on_another_node(db: Bench) {
    begun(&db, &[1]).await;
    let mut fact = sample::begin(2, 2);
    fact.instance.start_token = [1; 32];
    db.done(Fact::BeginInstance(fact)).await;
}

async fn a_key_never_belongs_to_another_instance(db: Bench) {
    begun(&db, &[1, 2]).await;
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    let begin = BeginInstance { spki_sha256: [1; 32], ..sample::begin(1, 3) };
    assert_eq!(db.refused(Fact::BeginInstance(begin)).await, Refusal::KeyUsed);
    let renew = RenewInstance { spki_sha256: [1; 32], ..sample::renewal(1, 2) };
    assert_eq!(db.refused(Fact::RenewInstance(renew)).await, Refusal::KeyUsed);
}

async fn a_node_runs_at_most_its_limit(db: Bench) {
    begun(&db, &[1]).await;
    let fact = BeginInstance { max_live: 1, ..sample::begin(1, 2) };
    assert_eq!(db.refused(Fact::BeginInstance(fact.clone())).await, Refusal::TooManyLive { max: 1 });
    db.done(Fact::BeginInstance(BeginInstance { max_live: 1, ..sample::begin(2, 3) })).await;
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    db.done(Fact::BeginInstance(fact)).await;
}

async fn a_renewal_needs_the_running_process_of_its_node(db: Bench) {
    begun(&db, &[1]).await;
    let other_process = RenewInstance { start_token: [9; 32], ..sample::renewal(1, 1) };
    assert_eq!(db.refused(Fact::RenewInstance(other_process)).await, Refusal::InstanceNotGood);
    let other_node = RenewInstance { node_id: sample::node_id(2), node_serial: "20".into(), ..sample::renewal(1, 1) };
    assert_eq!(db.refused(Fact::RenewInstance(other_node)).await, Refusal::InstanceNotGood);
    let stale = RenewInstance { node_serial: "9".into(), ..sample::renewal(1, 1) };
    assert_eq!(db.refused(Fact::RenewInstance(stale)).await, Refusal::SerialNotCurrent);
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 2))).await, Refusal::InstanceNotGood);
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 1))).await, Refusal::InstanceNotGood);
}

async fn a_renewal_may_keep_its_key_or_take_a_new_one(db: Bench) {
    begun(&db, &[1]).await;
    for key in [1, 101, 101, 1] {
        let number =
            db.done(Fact::RenewInstance(RenewInstance { spki_sha256: [key; 32], ..sample::renewal(1, 1) })).await;
        let event = json(&db.events().await[number as usize]);
        assert_eq!(event["fields"]["spki_sha256"], hex::encode([key; 32]));
    }
    let newest = db.store.instance(&sample::renewal(1, 1).id).await.unwrap().unwrap().newest;
    assert_eq!(newest.serial, "81");
}

async fn asking_to_begin_again_gives_no_new_key(db: Bench) {
    begun(&db, &[1]).await;
    let again = |key| RenewInstance { spki_sha256: [key; 32], key: RenewalKey::Own, ..sample::renewal(1, 1) };
    db.done(Fact::RenewInstance(again(1))).await;
    assert_eq!(db.refused(Fact::RenewInstance(again(101))).await, Refusal::KeyNew);
    db.done(Fact::RenewInstance(sample::renewal(1, 1))).await;
    db.done(Fact::RenewInstance(again(101))).await;
}

async fn an_instance_ends_once_and_by_its_own_node(db: Bench) {
    begun(&db, &[1]).await;
    let other = EndInstance { node_id: Some(sample::node_id(2)), ..sample::end(1, 1) };
    assert_eq!(db.refused(Fact::EndInstance(other)).await, Refusal::NotFound);
    assert_eq!(db.refused(Fact::EndInstance(sample::end(1, 2))).await, Refusal::NotFound);
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(db.refused(Fact::EndInstance(sample::end(1, 1))).await, Refusal::InstanceNotGood);
    let ended = db.store.instance(&sample::end(1, 1).id).await.unwrap().unwrap();
    assert_eq!((ended.standing, ended.end_reason.as_str()), (Standing::Ended, "process-ended"));
    assert!(ended.ended_at.is_some());
}

async fn an_operator_ends_any_instance(db: Bench) {
    begun(&db, &[1]).await;
    db.done(Fact::EndInstance(EndInstance { node_id: None, reason: "operator", ..sample::end(1, 1) })).await;
    assert_eq!(db.store.live_instances(&sample::node_id(1)).await.unwrap(), []);
}

async fn live(db: &Bench) -> Vec<[u8; 32]> {
    db.store.live_instances(&sample::node_id(1)).await.unwrap().iter().map(|i| i.start_token).collect()
}

async fn reconciling_ends_what_does_not_live(db: Bench) {
    begun(&db, &[1, 2, 3]).await;
    db.done(Fact::Reconcile(sample::reconcile(1, 5, &[1, 3, 77]))).await;
    assert_eq!(live(&db).await, [[1; 32], [3; 32]]);
    let number = db.done(Fact::Reconcile(sample::reconcile(1, 5, &[3]))).await;
    assert_eq!(live(&db).await, [[3; 32]]);
    assert_eq!(db.kinds_from(number).await.len(), 1);
    assert_eq!(db.done(Fact::Reconcile(sample::reconcile(1, 5, &[3]))).await, number, "nothing changed, no event");
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.boot, node.version), (vec![5], 0));
}

async fn a_new_boot_ends_every_instance(db: Bench) {
    begun(&db, &[1, 2]).await;
    db.done(Fact::Reconcile(sample::reconcile(1, 5, &[1, 2]))).await;
    db.done(Fact::Reconcile(sample::reconcile(1, 6, &[1, 2]))).await;
    assert_eq!(live(&db).await, [[0u8; 32]; 0]);
    let ended = db.store.instance(&sample::end(1, 1).id).await.unwrap().unwrap();
    assert_eq!(ended.end_reason, "new-boot");
}

async fn reconciling_needs_a_good_node(db: Bench) {
    begun(&db, &[1]).await;
    let stale = Reconcile { node_serial: "9".into(), ..sample::reconcile(1, 5, &[]) };
    assert_eq!(db.refused(Fact::Reconcile(stale)).await, Refusal::SerialNotCurrent);
    assert_eq!(db.refused(Fact::Reconcile(sample::reconcile(3, 5, &[]))).await, Refusal::NodeNotGood);
    assert_eq!(live(&db).await, [[1; 32]]);
}

async fn instances_are_filtered_and_paged(db: Bench) {
    begun(&db, &[1, 2, 3]).await;
    db.done(Fact::BeginInstance(sample::begin(2, 4))).await;
    db.done(Fact::EndInstance(sample::end(1, 2))).await;
    let count = async |filter: InstanceFilter| db.store.instances(&filter).await.unwrap().len();
    let all = InstanceFilter::default();
    assert_eq!(count(all.clone()).await, 4);
    assert_eq!(count(InstanceFilter { class: Some("a".into()), ..all.clone() }).await, 4);
    assert_eq!(count(InstanceFilter { class: Some("b".into()), ..all.clone() }).await, 0);
    assert_eq!(count(InstanceFilter { node_id: Some(sample::node_id(1)), ..all.clone() }).await, 3);
    assert_eq!(count(InstanceFilter { standing: Some(Standing::Ended), ..all.clone() }).await, 1);
    let page = db.store.instances(&InstanceFilter { limit: Some(2), ..all.clone() }).await.unwrap();
    let after = Some(page[1].id.to_string());
    let rest = db.store.instances(&InstanceFilter { after, ..all }).await.unwrap();
    assert_eq!((page.len(), rest.len()), (2, 2));
    assert!(page[1].id < rest[0].id);
}
