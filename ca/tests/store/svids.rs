use chancery_ca::store::*;
use chancery_sdk::{origin::Origin, time::UnixTime};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    an_x509_svid_is_recorded_for_a_good_node_and_the_same_entry
    a_jwt_svid_of_an_entry_is_recorded
    a_jwt_svid_of_an_instance_is_recorded_while_it_runs
    a_downstream_ca_is_recorded_for_the_entry_it_was_decided_on
    a_mint_is_recorded_without_naming_the_caller
}

async fn ready(db: &Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    db.done(Fact::CreateEntry(sample::entry("e1"))).await;
}

async fn an_x509_svid_is_recorded_for_a_good_node_and_the_same_entry(db: Bench) {
    ready(&db).await;
    let number = db.done(Fact::RecordX509(sample::svid(1, "e1"))).await;
    let event = json(&db.events().await[number as usize]);
    assert_eq!(event["subject"], sample::entry("e1").spiffe_id.as_str());
    assert_eq!(event["fields"]["serial"], "99");
    let faults = [
        (RecordX509 { entry_id: "e2".into(), ..sample::svid(1, "e1") }, Refusal::EntryGone),
        (RecordX509 { entry_revision: 1, ..sample::svid(1, "e1") }, Refusal::Stale),
        (RecordX509 { node_serial: "9".into(), ..sample::svid(1, "e1") }, Refusal::SerialNotCurrent),
        (RecordX509 { authority: "zz".into(), ..sample::svid(1, "e1") }, Refusal::AuthorityNotActive),
        (sample::svid(2, "e1"), Refusal::NodeNotGood),
    ];
    for (fact, refusal) in faults {
        assert_eq!(db.refused(Fact::RecordX509(fact)).await, refusal);
    }
}

async fn a_jwt_svid_of_an_entry_is_recorded(db: Bench) {
    ready(&db).await;
    let of = |id: &str, revision| JwtSubject::Entry { id: id.into(), revision };
    db.done(Fact::RecordJwt(sample::jwt(1, of("e1", 0)))).await;
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(1, of("e2", 0)))).await, Refusal::EntryGone);
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(1, of("e1", 1)))).await, Refusal::Stale);
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(2, of("e1", 0)))).await, Refusal::NodeNotGood);
    let wrong = RecordJwt { authority: sample::X509.into(), ..sample::jwt(1, of("e1", 0)) };
    assert_eq!(db.refused(Fact::RecordJwt(wrong)).await, Refusal::AuthorityNotActive);
}

async fn a_jwt_svid_of_an_instance_is_recorded_while_it_runs(db: Bench) {
    ready(&db).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    let begin = sample::begin(1, 1);
    let of = |token| JwtSubject::Instance { id: begin.instance.id.clone(), start_token: token };
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(1, of([1; 32])))).await, Refusal::InstanceNotGood);
    db.done(Fact::BeginInstance(begin.clone())).await;
    let origin = Origin::NONE.with_request_id("order-17").unwrap();
    let number = db.done(Fact::RecordJwt(RecordJwt { origin, ..sample::jwt(1, of([1; 32])) })).await;
    assert_eq!(json(&db.events().await[number as usize])["fields"]["request_id"], "order-17");
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(1, of([2; 32])))).await, Refusal::InstanceNotGood);
    db.done(Fact::EndInstance(sample::end(1, 1))).await;
    assert_eq!(db.refused(Fact::RecordJwt(sample::jwt(1, of([1; 32])))).await, Refusal::InstanceNotGood);
}

async fn a_downstream_ca_is_recorded_for_the_entry_it_was_decided_on(db: Bench) {
    ready(&db).await;
    let svid = sample::svid(1, "e1");
    let ca = RecordCa {
        entry_id: svid.entry_id,
        entry_revision: 0,
        key_sha256: [7; 32],
        cert: svid.cert,
        authority: svid.authority,
    };
    let number = db.done(Fact::RecordCa(ca.clone())).await;
    let event = json(&db.events().await[number as usize]);
    assert_eq!(event["subject"], sample::entry("e1").spiffe_id.as_str());
    assert_eq!(event["fields"]["key"], "07".repeat(32));
    let faults = [
        (RecordCa { entry_id: "e2".into(), ..ca.clone() }, Refusal::EntryGone),
        (RecordCa { entry_revision: 1, ..ca.clone() }, Refusal::Stale),
        (RecordCa { authority: "zz".into(), ..ca }, Refusal::AuthorityNotActive),
    ];
    for (fact, refusal) in faults {
        assert_eq!(db.refused(Fact::RecordCa(fact)).await, refusal);
    }
}

async fn a_mint_is_recorded_without_naming_the_caller(db: Bench) {
    let mint = |kind, authority: &str| {
        Fact::RecordMint(RecordMint {
            id: sample::id("/service/x"),
            kind,
            serial: "5".into(),
            audience: vec![],
            expires_at: UnixTime(100),
            authority: authority.into(),
            caller: "uid 1234".into(),
        })
    };
    let number = db.done(mint(AuthorityKind::X509, sample::X509)).await;
    assert!(!json(&db.events().await[number as usize]).to_string().contains("uid 1234"));
    assert_eq!(db.refused(mint(AuthorityKind::Jwt, sample::X509)).await, Refusal::AuthorityNotActive);
}
