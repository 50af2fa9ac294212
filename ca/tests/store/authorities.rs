use chancery_ca::store::*;
use chancery_sdk::time::UnixTime;

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    an_authority_goes_from_prepared_to_removed
    an_activation_retires_the_one_before
    an_authority_needs_a_generated_key_of_its_server_and_kind
    the_bundle_revision_moves_with_the_published_authorities_only
    a_server_publishes_three_authorities_of_a_kind
    a_tainted_authority_signs_no_more_and_stays_published
    only_a_tainted_authority_is_revoked_and_then_it_is_out_of_the_bundle
    any_server_taints_another_servers_authority
}

fn named(id: &str) -> AuthorityId {
    AuthorityId { id: id.into() }
}

fn removal(id: &str) -> Fact {
    Fact::RemoveAuthority(RemoveAuthority { id: id.into(), keep_until: UnixTime(500) })
}

fn taint(id: &str) -> TaintAuthority {
    TaintAuthority { id: id.into(), kind: AuthorityKind::X509, why: "operator", caller: "uid 0".into() }
}

fn revocation(id: &str) -> RevokeAuthority {
    RevokeAuthority { id: id.into(), kind: AuthorityKind::X509, keep_until: UnixTime(500), caller: "uid 0".into() }
}

async fn state(db: &Bench, id: &str) -> Option<AuthorityState> {
    db.store.authorities().await.unwrap().into_iter().find(|a| a.id == id).map(|a| a.state)
}

async fn key_state(db: &Bench, id: &str) -> KeyState {
    let label = sample::authority(id).label;
    db.store.keys().await.unwrap().into_iter().find(|k| k.label == label).unwrap().state
}

async fn an_authority_goes_from_prepared_to_removed(db: Bench) {
    assert_eq!(db.refused(Fact::ActivateAuthority(named("bb"))).await, Refusal::NotFound);
    assert_eq!(db.refused(Fact::RetireAuthority(named("bb"))).await, Refusal::NotFound);
    assert_eq!(db.refused(removal("bb")).await, Refusal::NotFound);
    db.prepare(sample::authority("bb")).await;
    assert_eq!(db.refused(Fact::PrepareAuthority(sample::authority("bb"))).await, Refusal::AlreadyExists(None));
    assert_eq!(db.refused(Fact::RetireAuthority(named("bb"))).await, Refusal::Stale);
    db.done(Fact::ActivateAuthority(named("bb"))).await;
    assert_eq!(state(&db, "bb").await, Some(AuthorityState::Active));
    assert_eq!(db.refused(Fact::ActivateAuthority(named("bb"))).await, Refusal::Stale);
    assert_eq!(db.refused(removal("bb")).await, Refusal::Stale);
    db.done(Fact::RetireAuthority(named("bb"))).await;
    assert_eq!(state(&db, "bb").await, Some(AuthorityState::Old));
    let number = db.done(removal("bb")).await;
    assert_eq!(state(&db, "bb").await, None);
    assert_eq!(key_state(&db, "bb").await, KeyState::Condemned);
    let told: Vec<_> = db.kinds_from(number).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(told, ["authority.removed", "key.condemned"]);
}

async fn an_activation_retires_the_one_before(db: Bench) {
    db.prepare(sample::authority("bb")).await;
    let number = db.done(Fact::ActivateAuthority(named("bb"))).await;
    let told = db.kinds_from(number).await;
    let told: Vec<_> = told.iter().map(|(kind, subject)| (kind.as_str(), subject.as_str())).collect();
    assert_eq!(told, [("authority.activated", "bb"), ("authority.retired", sample::X509)]);
    assert_eq!(state(&db, sample::X509).await, Some(AuthorityState::Old));
    assert_eq!(state(&db, sample::JWT).await, Some(AuthorityState::Active), "another kind is another matter");
}

async fn an_authority_needs_a_generated_key_of_its_server_and_kind(db: Bench) {
    let authority = || Fact::PrepareAuthority(sample::authority("bb"));
    assert_eq!(db.refused(authority()).await, Refusal::KeyNotGenerated);
    db.done(Fact::PlanKey(sample::plan("bb", AuthorityKind::X509))).await;
    assert_eq!(db.refused(authority()).await, Refusal::KeyNotGenerated);
    db.done(Fact::MoveKey(sample::step("bb", 0, KeyStep::Generate))).await;
    assert_eq!(db.refused(authority()).await, Refusal::KeyNotGenerated);
    db.done(Fact::MoveKey(sample::step("bb", 1, sample::recorded("bb")))).await;
    let other = Authority { server: "other".into(), ..sample::authority("bb") };
    assert_eq!(db.refused(Fact::PrepareAuthority(other)).await, Refusal::KeyNotGenerated);
    let jwt = Authority { kind: AuthorityKind::Jwt, ..sample::authority("bb") };
    assert_eq!(db.refused(Fact::PrepareAuthority(jwt)).await, Refusal::KeyNotGenerated);
    db.done(authority()).await;
}

async fn the_bundle_revision_moves_with_the_published_authorities_only(db: Bench) {
    let revision = async || db.store.bundle_revision().await.unwrap().revision;
    let first = revision().await;
    db.generate("bb", AuthorityKind::X509, "test").await;
    assert_eq!(revision().await, first);
    db.done(Fact::PrepareAuthority(sample::authority("bb"))).await;
    assert_eq!(revision().await, first + 1);
    db.done(Fact::ActivateAuthority(named("bb"))).await;
    db.done(Fact::RetireAuthority(named("bb"))).await;
    db.refused(Fact::PrepareAuthority(sample::authority("bb"))).await;
    assert_eq!(revision().await, first + 1);
    db.done(Fact::TaintAuthority(taint("bb"))).await;
    assert_eq!(revision().await, first + 2);
    db.done(Fact::RevokeAuthority(revocation("bb"))).await;
    assert_eq!(revision().await, first + 3);
    db.prepare(sample::authority("cc")).await;
    db.done(removal("cc")).await;
    assert_eq!(revision().await, first + 5);
    assert_eq!(BundleRevision { epoch: 1, revision: 2 }.sequence(), (1 << 32) + 2);
}

async fn a_server_publishes_three_authorities_of_a_kind(db: Bench) {
    for id in ["bb", "cc"] {
        db.prepare(sample::authority(id)).await;
    }
    db.generate("dd", AuthorityKind::X509, "test").await;
    let refusal = db.refused(Fact::PrepareAuthority(sample::authority("dd"))).await;
    assert_eq!(refusal, Refusal::TooManyAuthorities { max: 3 });
    db.prepare(Authority { server: "other".into(), ..sample::authority("ee") }).await;
    // What was revoked is not published any more.
    db.done(Fact::TaintAuthority(taint("bb"))).await;
    db.done(Fact::RevokeAuthority(revocation("bb"))).await;
    db.done(Fact::PrepareAuthority(sample::authority("dd"))).await;
}

async fn a_tainted_authority_signs_no_more_and_stays_published(db: Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
    db.done(Fact::RecordX509(sample::svid(1, "e1"))).await;
    let number = db.done(Fact::TaintAuthority(taint(sample::X509))).await;
    let event = json(&db.events().await[number as usize]);
    assert_eq!((event["kind"].as_str(), event["fields"]["of"].as_str()), (Some("authority.tainted"), Some("test")));
    assert_eq!(db.refused(Fact::RecordX509(sample::svid(1, "e1"))).await, Refusal::AuthorityNotActive);
    assert_eq!(db.refused(Fact::AdmitNode(sample::admission(2))).await, Refusal::AuthorityNotActive);
    assert_eq!(state(&db, sample::X509).await, Some(AuthorityState::Active));
    assert_eq!(db.refused(Fact::TaintAuthority(taint(sample::X509))).await, Refusal::Stale);
    assert_eq!(db.refused(Fact::TaintAuthority(taint(sample::JWT))).await, Refusal::NotFound, "of another kind");
}

async fn only_a_tainted_authority_is_revoked_and_then_it_is_out_of_the_bundle(db: Bench) {
    db.prepare(sample::authority("bb")).await;
    assert_eq!(db.refused(Fact::RevokeAuthority(revocation("zz"))).await, Refusal::NotFound);
    assert_eq!(db.refused(Fact::RevokeAuthority(revocation("bb"))).await, Refusal::NotTainted);
    db.done(Fact::TaintAuthority(taint("bb"))).await;
    assert_eq!(db.refused(Fact::ActivateAuthority(named("bb"))).await, Refusal::Stale);
    db.done(Fact::RevokeAuthority(revocation("bb"))).await;
    assert_eq!(state(&db, "bb").await, None);
    let kept = db.store.authority("bb").await.unwrap().unwrap();
    assert_eq!(kept.state, AuthorityState::Revoked);
    assert_eq!(key_state(&db, "bb").await, KeyState::Condemned);
    assert_eq!(db.refused(Fact::RevokeAuthority(revocation("bb"))).await, Refusal::Stale);
    assert_eq!(db.refused(removal("bb")).await, Refusal::Stale);
    // It does not come back under its ID, and goes with its key.
    assert_eq!(db.refused(Fact::PrepareAuthority(sample::authority("bb"))).await, Refusal::AlreadyExists(None));
    db.done(Fact::MoveKey(sample::step("bb", 3, KeyStep::Destroy { now: UnixTime(500) }))).await;
    assert_eq!(db.store.authority("bb").await.unwrap(), None);
}

async fn any_server_taints_another_servers_authority(db: Bench) {
    db.prepare(Authority { server: "dead".into(), ..sample::authority("bb") }).await;
    db.done(Fact::ActivateAuthority(named("bb"))).await;
    db.done(Fact::TaintAuthority(taint("bb"))).await;
    db.done(Fact::RevokeAuthority(revocation("bb"))).await;
    assert_eq!(state(&db, "bb").await, None);
    assert_eq!(state(&db, sample::X509).await, Some(AuthorityState::Active));
}
