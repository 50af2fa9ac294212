use chancery_ca::store::*;
use chancery_core::{
    evidence::Step,
    node::{KeyBinding, Standing},
    reason::Reason,
};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    a_node_comes_back_as_it_went_in
    two_first_admissions_of_one_ek_give_one_node
    an_admission_needs_the_version_it_was_decided_on
    an_admission_needs_an_active_authority
    an_admission_may_need_an_enrolled_ek
    an_ek_belongs_to_one_node
    an_attestation_key_belongs_to_one_node
    a_tokens_key_belongs_to_one_node_and_comes_back
    an_admission_may_need_an_enrolled_key
    the_key_of_an_svid_is_one_identitys
    a_second_certificate_is_fresh_until_it_is_used
    activation_is_idempotent
    a_renewal_needs_the_current_certificate
    a_failure_takes_certificates_and_instances_at_once
    a_failed_node_comes_back_with_a_current_certificate
    a_failure_of_an_unknown_node_leaves_no_node
    a_failure_does_not_soften_a_ban
    a_ban_survives_attestation_and_ends_with_eviction
    eviction_ends_instances_and_frees_the_ek
    a_new_boot_ends_instances_within_the_admission
    a_silent_node_loses_its_instances_once
    the_agent_version_is_kept_across_admissions
}

fn again(n: u8, version: i64) -> AdmitNode {
    let cert = sample::cert(&format!("{n}1"));
    AdmitNode { expected_version: Some(version), cert, evidence: None, ..sample::admission(n) }
}

async fn admitted(db: &Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
}

/// One node, one class, one running instance.
async fn running(db: &Bench) {
    admitted(db).await;
    db.done(Fact::CreateClass(sample::class("a"))).await;
    db.done(Fact::BeginInstance(sample::begin(1, 1))).await;
}

fn node_ref(n: u8) -> NodeRef {
    NodeRef { id: sample::node_id(n) }
}

fn failure(n: u8) -> FailNode {
    let step = Step { name: "quote.pcrs", passed: false, detail: "PCR 7".into() };
    FailNode {
        id: sample::node_id(n),
        reason: Reason::PcrPolicy,
        steps: vec![step],
        detail: "PCR 7".into(),
        kept: None,
    }
}

async fn a_node_comes_back_as_it_went_in(db: Bench) {
    let number = db.done(Fact::AdmitNode(sample::admission(1))).await;
    let mut want = sample::node(1);
    want.current = Some(sample::admission(1).cert);
    let got = db.store.node(&want.id).await.unwrap().unwrap();
    assert_eq!(got.current.as_ref().unwrap().serial, "10");
    want.current = got.current.clone();
    assert_eq!(got, want);
    assert_eq!(db.store.nodes().await.unwrap(), [want.clone()]);
    assert_eq!(db.store.evidence(&want.id).await.unwrap(), Some(vec![9, 9]));
    assert_eq!(db.store.evidence(&sample::node_id(2)).await.unwrap(), None);
    let event = json(&db.events().await[number as usize]);
    assert_eq!(event["fields"]["steps"][0]["name"], "quote.nonce");
    assert!(!event.to_string().contains("192.0.2.1"), "the source address is in the record");
}

async fn two_first_admissions_of_one_ek_give_one_node(db: Bench) {
    let facts = (0..8).map(|_| db.store.commit(Fact::AdmitNode(sample::admission(1))));
    let outcomes: Vec<_> = futures_util::future::join_all(facts).await.into_iter().map(Result::unwrap).collect();
    let done = outcomes.iter().filter(|o| matches!(o, Outcome::Done { .. })).count();
    assert_eq!(done, 1);
    let exists = Refusal::AlreadyExists(Some(sample::node_id(1).to_string()));
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Refused(exists.clone())).count(), 7);
    assert_eq!(db.store.nodes().await.unwrap().len(), 1);
}

async fn an_admission_needs_the_version_it_was_decided_on(db: Bench) {
    assert_eq!(db.refused(Fact::AdmitNode(again(1, 0))).await, Refusal::NotFound);
    admitted(&db).await;
    assert_eq!(db.refused(Fact::AdmitNode(again(1, 1))).await, Refusal::Stale);
    db.done(Fact::AdmitNode(again(1, 0))).await;
    assert_eq!(db.refused(Fact::AdmitNode(again(1, 0))).await, Refusal::Stale);
}

async fn an_admission_needs_an_active_authority(db: Bench) {
    for authority in ["unknown", sample::JWT] {
        let fact = AdmitNode { authority: authority.into(), ..sample::admission(1) };
        assert_eq!(db.refused(Fact::AdmitNode(fact)).await, Refusal::AuthorityNotActive);
    }
}

async fn an_admission_may_need_an_enrolled_ek(db: Bench) {
    let fact = AdmitNode { require_enrolled: true, ..sample::admission(1) };
    assert_eq!(db.refused(Fact::AdmitNode(fact.clone())).await, Refusal::EkNotEnrolled);
    let enrol = Fact::EnrolEk(EnrolEk { ek_hash: [1; 32], note: "rack 4".into() });
    db.done(enrol.clone()).await;
    assert_eq!(db.refused(enrol).await, Refusal::AlreadyExists(None));
    db.done(Fact::AdmitNode(fact)).await;
    let enrolment = db.store.ek_enrolled(&[1; 32]).await.unwrap().unwrap();
    assert_eq!(enrolment.note, "rack 4");
    assert_eq!(db.store.ek_enrolled(&[2; 32]).await.unwrap(), None);
}

async fn an_ek_belongs_to_one_node(db: Bench) {
    admitted(&db).await;
    let mut fact = sample::admission(2);
    fact.node.tpm = sample::node(1).tpm;
    fact.node.tpm.as_mut().unwrap().ak_name = vec![5];
    assert_eq!(db.refused(Fact::AdmitNode(fact)).await, Refusal::EkTaken);
}

async fn an_attestation_key_belongs_to_one_node(db: Bench) {
    admitted(&db).await;
    let mut fact = sample::admission(2);
    fact.node.tpm.as_mut().unwrap().ak_name = sample::node(1).tpm.unwrap().ak_name;
    assert_eq!(db.refused(Fact::AdmitNode(fact)).await, Refusal::AkTaken);
}

/// Node `n` proven by its token alone.
fn token_node(n: u8) -> AdmitNode {
    let mut fact = sample::admission(n);
    (fact.node.attestation_type, fact.node.tpm) = ("pkcs11".into(), None);
    fact.node.pkcs11 = Some(KeyBinding { key_sha256: [n; 32], source: "192.0.2.1".into() });
    fact
}

async fn a_tokens_key_belongs_to_one_node_and_comes_back(db: Bench) {
    let number = db.done(Fact::AdmitNode(token_node(1))).await;
    let event = json(&db.events().await[number as usize]);
    assert_eq!(event["fields"]["key_sha256"], "01".repeat(32));
    assert!(!event.to_string().contains("192.0.2.1"), "the source address is in the record");
    let stored = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((stored.pkcs11, stored.tpm), (token_node(1).node.pkcs11, None));
    let mut other = token_node(2);
    other.node.pkcs11 = token_node(1).node.pkcs11;
    assert_eq!(db.refused(Fact::AdmitNode(other.clone())).await, Refusal::KeyTaken);
    // Evidence without the token leaves it bound; eviction frees it.
    let without = AdmitNode { expected_version: Some(0), ..sample::admission(1) };
    db.done(Fact::AdmitNode(without)).await;
    assert_eq!(db.store.node(&sample::node_id(1)).await.unwrap().unwrap().pkcs11, other.node.pkcs11);
    db.done(Fact::EvictNode(node_ref(1))).await;
    db.done(Fact::AdmitNode(other)).await;
}

async fn an_admission_may_need_an_enrolled_key(db: Bench) {
    let fact = AdmitNode { require_key_enrolled: true, ..token_node(1) };
    assert_eq!(db.refused(Fact::AdmitNode(fact.clone())).await, Refusal::KeyNotEnrolled);
    let enrol = Fact::EnrolKey(EnrolKey { key_sha256: [1; 32], note: "rack 4".into() });
    db.done(enrol.clone()).await;
    assert_eq!(db.refused(enrol).await, Refusal::AlreadyExists(None));
    db.done(Fact::AdmitNode(fact)).await;
    assert_eq!(db.store.key_enrolled(&[1; 32]).await.unwrap().unwrap().note, "rack 4");
    assert_eq!(db.store.key_enrolled(&[2; 32]).await.unwrap(), None);
    assert_eq!(db.store.ek_enrolled(&[1; 32]).await.unwrap(), None, "a key is no EK");
}

async fn the_key_of_an_svid_is_one_identitys(db: Bench) {
    running(&db).await;
    db.done(Fact::AdmitNode(token_node(3))).await;
    let node = |svid_key| Fact::AdmitNode(AdmitNode { svid_key, ..sample::admission(2) });
    let of = |fact: AdmitNode| fact.svid_key;
    for taken in [of(sample::admission(1)), sample::begin(1, 1).spki_sha256, [3; 32]] {
        assert_eq!(db.refused(node(taken)).await, Refusal::SvidKeyTaken);
    }
    // A token's key that is a node's own key for TLS would sign more than transcripts.
    let mut doubled = token_node(2);
    doubled.node.pkcs11.as_mut().unwrap().key_sha256 = of(sample::admission(1));
    assert_eq!(db.refused(Fact::AdmitNode(doubled)).await, Refusal::KeyTaken);
    db.done(Fact::AdmitNode(again(1, 0))).await;
}

async fn a_second_certificate_is_fresh_until_it_is_used(db: Bench) {
    admitted(&db).await;
    db.done(Fact::AdmitNode(again(1, 0))).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.current.unwrap().serial, node.fresh.unwrap().serial), ("10".into(), "11".into()));
    assert_eq!(db.store.evidence(&node.id).await.unwrap(), Some(vec![9, 9]), "evidence that did not come stays");
    let use_serial =
        |s: &str| Fact::ActivateNodeSerial(ActivateNodeSerial { id: sample::node_id(1), serial: s.into() });
    db.done(use_serial("11")).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.current.unwrap().serial, node.fresh), ("11".into(), None));
    assert_eq!(db.refused(use_serial("10")).await, Refusal::SerialNotCurrent);
}

async fn activation_is_idempotent(db: Bench) {
    admitted(&db).await;
    db.done(Fact::AdmitNode(again(1, 0))).await;
    let fact = Fact::ActivateNodeSerial(ActivateNodeSerial { id: sample::node_id(1), serial: "11".into() });
    let number = db.done(fact.clone()).await;
    assert_eq!(db.done(fact).await, number, "the second makes no event");
    let other = ActivateNodeSerial { id: sample::node_id(2), serial: "11".into() };
    assert_eq!(db.refused(Fact::ActivateNodeSerial(other)).await, Refusal::NodeNotGood);
}

async fn a_renewal_needs_the_current_certificate(db: Bench) {
    let renewal = |serial: &str, fresh: &str| {
        let (id, current_serial) = (sample::node_id(1), serial.into());
        Fact::RenewNode(RenewNode { id, current_serial, fresh: sample::cert(fresh), authority: sample::X509.into() })
    };
    assert_eq!(db.refused(renewal("10", "11")).await, Refusal::NodeNotGood);
    admitted(&db).await;
    db.done(renewal("10", "11")).await;
    db.done(renewal("10", "12")).await;
    assert_eq!(db.refused(renewal("11", "13")).await, Refusal::SerialNotCurrent);
    assert_eq!(db.refused(renewal("12", "13")).await, Refusal::SerialNotCurrent, "a fresh one must be used first");
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!(node.fresh.unwrap().serial, "12");
}

async fn a_failure_takes_certificates_and_instances_at_once(db: Bench) {
    running(&db).await;
    db.done(Fact::AdmitNode(again(1, 0))).await;
    let number = db.done(Fact::FailNode(failure(1))).await;
    let instance = sample::begin(1, 1).instance.id;
    let node = sample::node_id(1);
    // The SVID of the instance, and both of the node's: the new one was not used yet.
    let want = [
        ("node.failed", &node),
        ("instance.revoked", &instance),
        ("svid.revoked", &instance),
        ("svid.revoked", &node),
        ("svid.revoked", &node),
    ];
    assert_eq!(db.kinds_from(number).await, want.map(|(k, s)| (k.to_string(), s.to_string())));
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.standing, node.reason.as_str()), (Standing::Failed, "PCR_POLICY"));
    assert_eq!((node.current, node.fresh), (None, None));
    let ended = db.store.instance(&instance).await.unwrap().unwrap();
    assert_eq!((ended.end_reason.as_str(), ended.ended_at.is_some()), ("node-failed", true));
    assert_eq!(db.refused(Fact::BeginInstance(sample::begin(1, 2))).await, Refusal::NodeNotGood);
    assert_eq!(db.refused(Fact::RenewInstance(sample::renewal(1, 1))).await, Refusal::NodeNotGood);
}

async fn a_failed_node_comes_back_with_a_current_certificate(db: Bench) {
    admitted(&db).await;
    db.done(Fact::FailNode(failure(1))).await;
    db.done(Fact::AdmitNode(again(1, 1))).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.standing, node.reason.as_str(), node.version), (Standing::Good, "", 2));
    assert_eq!((node.current.unwrap().serial, node.fresh), ("11".into(), None));
}

async fn a_failure_of_an_unknown_node_leaves_no_node(db: Bench) {
    let number = db.done(Fact::FailNode(failure(1))).await;
    assert_eq!(db.kinds_from(number).await[0].0, "node.refused");
    assert_eq!(db.store.nodes().await.unwrap(), []);
}

async fn a_failure_does_not_soften_a_ban(db: Bench) {
    admitted(&db).await;
    db.done(Fact::BanNode(node_ref(1))).await;
    db.done(Fact::FailNode(failure(1))).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!(node.standing, Standing::Banned);
}

async fn a_ban_survives_attestation_and_ends_with_eviction(db: Bench) {
    assert_eq!(db.refused(Fact::BanNode(node_ref(1))).await, Refusal::NotFound);
    running(&db).await;
    db.done(Fact::BanNode(node_ref(1))).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!((node.standing, node.current), (Standing::Banned, None));
    assert_eq!(db.store.live_instances(&node.id).await.unwrap(), []);
    assert_eq!(db.refused(Fact::AdmitNode(again(1, node.version))).await, Refusal::NodeNotGood);
    db.done(Fact::EvictNode(node_ref(1))).await;
    admitted(&db).await;
}

async fn eviction_ends_instances_and_frees_the_ek(db: Bench) {
    assert_eq!(db.refused(Fact::EvictNode(node_ref(1))).await, Refusal::NotFound);
    running(&db).await;
    db.done(Fact::EvictNode(node_ref(1))).await;
    assert_eq!(db.store.node(&sample::node_id(1)).await.unwrap(), None);
    let instance = db.store.instance(&sample::begin(1, 1).instance.id).await.unwrap().unwrap();
    assert_eq!(instance.end_reason, "node-evicted");
    let mut fact = sample::admission(2);
    fact.node.tpm = sample::node(1).tpm;
    db.done(Fact::AdmitNode(fact)).await;
}

async fn a_new_boot_ends_instances_within_the_admission(db: Bench) {
    running(&db).await;
    let number = db.done(Fact::AdmitNode(AdmitNode { ends_instances: true, ..again(1, 0) })).await;
    let kinds: Vec<_> = db.kinds_from(number).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["node.attested", "instance.ended"]);
    assert_eq!(db.store.live_instances(&sample::node_id(1)).await.unwrap(), []);
}

async fn a_silent_node_loses_its_instances_once(db: Bench) {
    running(&db).await;
    let sweep = |later| Fact::ExpireNodes(Moment { now: sample::now().plus(later) });
    db.done(sweep(60)).await;
    assert_eq!(db.store.live_instances(&sample::node_id(1)).await.unwrap().len(), 1);
    let number = db.done(sweep(4000)).await;
    let kinds: Vec<_> = db.kinds_from(number).await.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["node.silent", "instance.ended"]);
    assert_eq!(db.done(sweep(4000)).await, number + 1, "the second sweep makes no event");
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!(node.standing, Standing::Good, "it may come back by itself");
}

async fn the_agent_version_is_kept_across_admissions(db: Bench) {
    let fact = Fact::SetAgentVersion(SetAgentVersion { id: sample::node_id(1), version: "1.2".into() });
    assert_eq!(db.refused(fact.clone()).await, Refusal::NotFound);
    admitted(&db).await;
    let number = db.done(fact.clone()).await;
    assert_eq!(db.done(fact).await, number, "the same version makes no event");
    db.done(Fact::AdmitNode(again(1, 0))).await;
    let node = db.store.node(&sample::node_id(1)).await.unwrap().unwrap();
    assert_eq!(node.agent_version, "1.2");
}
