//! The life of a challenge, by a clock that the test sets. All else about evidence is tested in the core,
//! and from outside with real TPMs.

use chancery_core::{
    evidence::{
        exchange::Exchange,
        pkcs11 as token,
        tpm::{Payload, Response, claimed_ek},
    },
    reason::Reason,
    transcript::Exporters,
};

use super::{CHALLENGE_SECS, KeptEvidence, Refused, Suspect, exporters, kept, pkcs11, record, tpm};
use crate::{
    sample::{Hand, parts},
    state::State,
    store::{Anchor, EnrolEk, EnrolKey, Fact},
};

macro_rules! fixture {
    ($name:literal) => {
        hex::decode(include_str!(concat!("../../core/src/evidence/tpm/fixtures/", $name, ".hex")).trim()).unwrap()
    };
}

/// An emulated TPM's opening; its EK is enrolled and its manufacturer trusted.
async fn known_applicant(state: &State) -> Payload {
    let payload = applicant_known_elsewhere(state).await;
    state.reload().await.unwrap();
    payload
}

/// The same where another server was told: both facts are in the database only.
async fn applicant_known_elsewhere(state: &State) -> Payload {
    let payload = Payload {
        version: 1,
        ek_certificate: fixture!("ek_p384"),
        ak_public: fixture!("ak_public"),
        node_public: fixture!("node_public"),
        ..Payload::default()
    };
    let anchor = Anchor {
        fingerprint: "aa".into(),
        der: fixture!("issuer"),
        subject: "CN=swtpm-localca".into(),
        manufacturer: "id:00001014".into(),
        not_after: state.now().plus(3600),
        note: String::new(),
        imported_at: state.now(),
    };
    let ek_hash = claimed_ek(&payload).unwrap();
    for fact in [Fact::EnrolEk(EnrolEk { ek_hash, note: String::new() }), Fact::ImportAnchor(anchor)] {
        state.commit(fact).await.unwrap().done().unwrap();
    }
    payload
}

/// Nobody looks at it: what is refused to a stranger is not kept.
fn nothing(state: &State) -> KeptEvidence {
    kept(state, &Exchange { kind: "", opening: &[], csr: &[], challenge: &[], answer: &[] }, None)
}

#[tokio::test]
async fn an_anchor_that_another_server_imported_counts_before_a_no() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _tls) = parts(dir.path(), Hand::now().clock()).await;
    let payload = applicant_known_elsewhere(&state).await;
    assert_eq!(state.trust.load().loaded().anchors, 0);
    tpm::challenge(&state, &payload, None, b"payload", &fixture!("csr")).await.unwrap();
    assert_eq!(state.trust.load().loaded().anchors, 1);
}

#[tokio::test]
async fn case_21_a_challenge_lives_a_minute_and_no_second_more() {
    // In time, the empty answer fails for what it is.
    for (after, reason) in [(CHALLENGE_SECS, Reason::ActivationFailed), (CHALLENGE_SECS + 1, Reason::ChallengeExpired)]
    {
        let dir = tempfile::tempdir().unwrap();
        let hand = Hand::now();
        let (state, _tls) = parts(dir.path(), hand.clock()).await;
        let payload = known_applicant(&state).await;
        let (open, _) = tpm::challenge(&state, &payload, None, b"payload", &fixture!("csr")).await.unwrap();
        hand.set(hand.read().plus(after));
        let source = [192, 0, 2, 1].into();
        let (exporters, response) = (Exporters { tpm: [0; 32], pkcs11: [0; 32] }, Response::default());
        let answer =
            tpm::Answer { message: Vec::new(), response, token: None, exporters, source, kept: nothing(&state) };
        let Err(Refused::Denied(denied)) = tpm::answer(&state, open, answer).await else { panic!("admitted") };
        assert_eq!((denied.reason, denied.attributable), (reason, false), "after {after} s");

        record(&state, tpm::TYPE, Suspect { source: Some(source), ..Suspect::default() }, &denied).await;
        state.failures.flush(&state.store, state.now()).await;
        let events = state.store.events(None, 64).await.unwrap();
        let last = String::from_utf8(events.last().unwrap().bytes.clone()).unwrap();
        assert!(last.contains("strangers.refused") && last.contains(reason.code()), "{last}");
        assert!(state.store.nodes().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn token_case_08_a_challenge_lives_a_minute_and_no_second_more() {
    for (after, reason) in [(CHALLENGE_SECS, Reason::KeyProof), (CHALLENGE_SECS + 1, Reason::ChallengeExpired)] {
        let dir = tempfile::tempdir().unwrap();
        let hand = Hand::now();
        let (state, _tls) = parts(dir.path(), hand.clock()).await;
        let (key, svid) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let key = rcgen::PublicKeyData::subject_public_key_info(&key);
        let csr = rcgen::CertificateParams::default().serialize_request(&svid).unwrap().der().to_vec();
        let enrol = EnrolKey { key_sha256: chancery_core::crypto::sha256(&[&key]), note: String::new() };
        state.commit(Fact::EnrolKey(enrol)).await.unwrap().done().unwrap();
        let payload = token::Payload { version: 1, key, ..token::Payload::default() };
        let (open, _) = pkcs11::challenge(&state, &payload, b"payload", &csr).await.unwrap();
        hand.set(hand.read().plus(after));
        let (response, source) = (token::Response::default(), [192, 0, 2, 1].into());
        let answer = pkcs11::Answer { message: Vec::new(), response, exporter: [0; 32], source, kept: nothing(&state) };
        let Err(Refused::Denied(denied)) = pkcs11::answer(&state, open, answer).await else { panic!("admitted") };
        assert_eq!((denied.reason, denied.attributable), (reason, false), "after {after} s");
        assert!(state.store.nodes().await.unwrap().is_empty());
    }
}

#[test]
fn case_47_nothing_is_attested_without_an_exporter() {
    let Err(denied) = exporters(None) else { panic!("attested without a channel") };
    assert_eq!((denied.reason, denied.attributable), (Reason::ChannelUnbound, false));
    let given = Exporters { tpm: [1; 32], pkcs11: [2; 32] };
    assert_eq!(exporters(Some(given)).unwrap().pkcs11, [2; 32]);
}
