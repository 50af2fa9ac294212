use super::*;
use crate::{
    peer::LocalPeer,
    sample::{self, Hand},
};

const KINDS: [AuthorityKind; 2] = [AuthorityKind::X509, AuthorityKind::Jwt];

fn operator() -> Caller {
    Caller::Local(LocalPeer { uid: 0, pid: 1 })
}

fn invalid<T: std::fmt::Debug>(answer: Result<T, Problem>) {
    assert!(matches!(answer, Err(Problem::Invalid(_))), "{answer:?}");
}

fn internal<T: std::fmt::Debug>(answer: Result<T, Problem>) {
    assert!(matches!(answer, Err(Problem::Internal(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_goes_through_spires_life() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), Hand::now().clock()).await;
    for kind in KINDS {
        let first = slots(&state, kind).await.unwrap();
        assert!(first.prepared.is_none() && first.old.is_none());
        let made = prepare(&state, kind).await.unwrap();
        assert_eq!(made.state, AuthorityState::Prepared);
        let active = activate(&state, kind, &made.id).await.unwrap();
        assert_eq!((active.state, &active.id), (AuthorityState::Active, &made.id));
        let now = slots(&state, kind).await.unwrap();
        assert_eq!((now.active.id, now.old.unwrap().id), (made.id, first.active.id.clone()));
        let tainted = taint(&state, &operator(), kind, &first.active.id).await.unwrap();
        assert!(tainted.tainted_at.is_some());
        let bundle = crate::bundles::own(&state);
        let flags = |list: &[Authority]| list.iter().filter(|a| a.tainted_at.is_some()).count();
        assert_eq!(flags(&bundle.x509) + flags(&bundle.jwt), 1);
        let revoked = revoke(&state, &operator(), kind, &first.active.id).await.unwrap();
        assert_eq!(revoked.state, AuthorityState::Revoked);
        let bundle = crate::bundles::own(&state);
        assert!(bundle.x509.iter().chain(&bundle.jwt).all(|a| a.id != first.active.id));
    }
}

/// Source: spire-wire 1.6, the table of errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_done_is_answered_as_spire_does() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), Hand::now().clock()).await;
    let who = operator();
    for kind in KINDS {
        let first = slots(&state, kind).await.unwrap().active.id;
        for id in ["", "unknown", &first] {
            invalid(activate(&state, kind, id).await);
            invalid(taint(&state, &who, kind, id).await);
            invalid(revoke(&state, &who, kind, id).await);
        }
        let second = prepare(&state, kind).await.unwrap().id;
        invalid(taint(&state, &who, kind, &second).await);
        activate(&state, kind, &second).await.unwrap();
        internal(activate(&state, kind, &first).await);
        internal(revoke(&state, &who, kind, &first).await);
        taint(&state, &who, kind, &first).await.unwrap();
        internal(taint(&state, &who, kind, &first).await);
        revoke(&state, &who, kind, &first).await.unwrap();
        invalid(revoke(&state, &who, kind, &first).await);
    }
    let x509 = slots(&state, AuthorityKind::X509).await.unwrap().active.id;
    invalid(taint(&state, &who, AuthorityKind::Jwt, &x509).await);
    assert!(matches!(upstream(&state, &x509).await, Err(Problem::Precondition(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preparing_again_gives_up_what_was_prepared_before() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), Hand::now().clock()).await;
    let kind = AuthorityKind::X509;
    let one = prepare(&state, kind).await.unwrap();
    let two = prepare(&state, kind).await.unwrap();
    assert_ne!(one.id, two.id);
    assert_eq!(slots(&state, kind).await.unwrap().prepared.unwrap().id, two.id);
    assert_eq!(state.store.authority(&one.id).await.unwrap(), None);
    invalid(activate(&state, kind, &one.id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_is_listed_with_its_hash_and_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = sample::parts(dir.path(), Hand::now().clock()).await;
    let (listed, orphans) = list(&state).await.unwrap();
    assert_eq!((listed.len(), orphans.len()), (2, 0));
    for one in &listed {
        assert_eq!(spki_sha256(one).len(), 64);
        assert_eq!(one.authority.as_ref().unwrap().state, AuthorityState::Active);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_svid_leaves_a_tainted_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (state, tls) = sample::parts(dir.path(), Hand::now().clock()).await;
    let first = slots(&state, AuthorityKind::X509).await.unwrap().active.id;
    assert_eq!(*tls.authority(), first);
    let second = prepare(&state, AuthorityKind::X509).await.unwrap().id;
    activate(&state, AuthorityKind::X509, &second).await.unwrap();
    assert!(state.authority.stands(&first));
    taint(&state, &operator(), AuthorityKind::X509, &first).await.unwrap();
    assert!(!state.authority.stands(&first));
    crate::sweep::renew_own_svid(&state, &tls).await.unwrap();
    assert_eq!(*tls.authority(), second);
}
