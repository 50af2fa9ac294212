use std::sync::Arc;

use chancery_ca::store::*;
use chancery_core::{crypto::sha256, evidence::exchange::Exchange, reason::Reason};

use crate::{
    bench::{Bench, json, on_both},
    sample,
};

on_both! {
    what_a_node_said_is_kept_under_the_digest_in_its_event
    what_is_said_again_is_kept_once_and_as_long_as_the_newest_that_names_it
    a_failure_of_the_nodes_own_has_its_evidence_too
    a_message_that_is_said_in_two_places_is_kept_once
    a_node_that_attests_all_the_time_leaves_digests_and_no_more
}

const DAY: i64 = 86_400;

/// Said by a node that answers `answer`; kept for this many days.
fn kept(answer: &[u8], days: i64) -> KeptEvidence {
    let said = Exchange { kind: "tpm", opening: b"EK", csr: b"CSR", challenge: b"nonce", answer };
    KeptEvidence { what: Arc::new(said.kept("example.org", None)), until: sample::now().plus(days * DAY) }
}

fn admission(n: u8, kept: &KeptEvidence) -> Fact {
    Fact::AdmitNode(AdmitNode { kept: Some(kept.clone()), ..sample::admission(n) })
}

/// Digest in the event of this number.
async fn digest(db: &Bench, number: i64) -> String {
    json(&db.events().await[usize::try_from(number).unwrap()])["fields"]["evidence"].as_str().unwrap().to_owned()
}

async fn is_there(db: &Bench, bytes: &[u8]) -> bool {
    db.store.kept_evidence(sha256(&[bytes])).await.unwrap().is_some_and(|found| found == bytes)
}

async fn prune(db: &Bench, days: i64) {
    db.done_or_nothing(Fact::PruneRecords(Moment { now: sample::now().plus(days * DAY) })).await;
}

async fn what_a_node_said_is_kept_under_the_digest_in_its_event(db: Bench) {
    let kept = kept(b"quote 1", 30);
    let number = db.done(admission(1, &kept)).await;
    assert_eq!(digest(&db, number).await, hex::encode(kept.what.digest()));
    for blob in kept.what.blobs() {
        assert!(is_there(&db, &blob.bytes).await);
    }
    assert_eq!(kept.what.blobs().count(), 5);
    assert_eq!(db.store.kept_evidence([7; 32]).await.unwrap(), None);
    // An admission that is refused keeps nothing.
    let other = crate::evidence::kept(b"quote 2", 30);
    db.refused(admission(1, &other)).await;
    assert!(!is_there(&db, b"quote 2").await);
}

async fn what_is_said_again_is_kept_once_and_as_long_as_the_newest_that_names_it(db: Bench) {
    let (first, second) = (kept(b"quote 1", 30), kept(b"quote 2", 40));
    let number = db.done(admission(1, &first)).await;
    let second_number = db.done(admission(2, &second)).await;
    // Somebody whose configuration keeps less does not shorten what another one needs.
    db.done(admission(3, &kept(b"quote 3", 1))).await;
    prune(&db, 31).await;
    for gone in [b"quote 1", b"quote 3"] {
        assert!(!is_there(&db, gone).await);
    }
    for stays in [&b"quote 2"[..], b"EK", b"CSR", b"nonce"] {
        assert!(is_there(&db, stays).await, "{stays:?}");
    }
    prune(&db, 41).await;
    for gone in [&b"quote 2"[..], b"EK", b"CSR", b"nonce"] {
        assert!(!is_there(&db, gone).await, "{gone:?}");
    }
    // The record knows for ever what there was.
    assert_eq!(digest(&db, number).await, hex::encode(first.what.digest()));
    assert_eq!(digest(&db, second_number).await, hex::encode(second.what.digest()));
}

async fn a_failure_of_the_nodes_own_has_its_evidence_too(db: Bench) {
    db.done(Fact::AdmitNode(sample::admission(1))).await;
    let kept = kept(b"a quote of another boot", 30);
    let fail = FailNode {
        id: sample::node_id(1),
        reason: Reason::PcrPolicy,
        steps: Vec::new(),
        detail: String::new(),
        kept: Some(kept.clone()),
    };
    let number = db.done(Fact::FailNode(fail)).await;
    assert_eq!(digest(&db, number).await, hex::encode(kept.what.digest()));
    assert!(is_there(&db, b"a quote of another boot").await);
}

async fn a_message_that_is_said_in_two_places_is_kept_once(db: Bench) {
    let kept = kept(b"CSR", 30);
    db.done(admission(1, &kept)).await;
    assert!(is_there(&db, b"CSR").await);
}

async fn a_node_that_attests_all_the_time_leaves_digests_and_no_more(db: Bench) {
    let attested = |version: Option<i64>, secs: i64, kept: &KeptEvidence| {
        let mut fact = AdmitNode { kept: Some(kept.clone()), expected_version: version, ..sample::admission(1) };
        (fact.node.attested_at, fact.cert) =
            (sample::now().plus(secs), sample::cert(&format!("9{}", version.unwrap_or(9))));
        fact.svid_key = [u8::try_from(version.unwrap_or(9)).unwrap(); 32];
        Fact::AdmitNode(fact)
    };
    // A node whose last proof was a moment ago, by the store's clock.
    db.done(attested(None, 0, &kept(b"quote 1", 30))).await;
    let second = kept(b"quote 2", 30);
    let number = db.done(attested(Some(0), 0, &second)).await;
    assert_eq!(digest(&db, number).await, hex::encode(second.what.digest()));
    assert!(is_there(&db, b"quote 1").await && !is_there(&db, b"quote 2").await);
    // And one whose last was long ago; then it fails, and again.
    db.done(attested(Some(1), -3600, &kept(b"quote 3", 30))).await;
    db.done(attested(Some(2), -3600, &kept(b"quote 4", 30))).await;
    assert!(!is_there(&db, b"quote 3").await && is_there(&db, b"quote 4").await);
    for said in [b"fail 1", b"fail 2"] {
        let (reason, kept) = (Reason::PcrPolicy, Some(kept(said, 30)));
        let fail = FailNode { id: sample::node_id(1), reason, steps: Vec::new(), detail: String::new(), kept };
        db.done(Fact::FailNode(fail)).await;
    }
    assert!(is_there(&db, b"fail 1").await && !is_there(&db, b"fail 2").await);
}
