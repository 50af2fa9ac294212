//! The journal against key stores that lose, swap, hide and refuse keys.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use chancery_daemon::key_type::KeyType;

use super::*;
use crate::{
    authority::{AuthorityManager, Settings},
    keys::MemoryKeys,
    sample,
    store::{AuthorityState, MoveKey, PlanKey},
};

const T0: UnixTime = UnixTime(1_800_000_000);

/// A key store that outlives the process, with an operator's hands in it.
#[derive(Debug, Default)]
struct Shelf {
    keys: MemoryKeys,
    /// Makes no keys.
    is_full: AtomicBool,
    /// Guards the labels that are not shown.
    hidden: Mutex<BTreeSet<String>>,
}

impl Shelf {
    fn hide(&self, label: &str) {
        self.hidden.lock().unwrap().insert(label.into());
    }

    fn show(&self) {
        self.hidden.lock().unwrap().clear();
    }

    fn shows(&self, label: &str) -> bool {
        !self.hidden.lock().unwrap().contains(label)
    }

    fn swap(&self, label: &str) {
        let old = self.keys.open(label, None).unwrap().unwrap();
        self.keys.delete(label, old.spki()).unwrap();
        self.keys.generate(label, KeyType::EcP256).unwrap();
    }
}

impl KeyStore for Shelf {
    fn generate(&self, label: &str, kind: KeyType) -> Result<Arc<dyn Signer>, KeyError> {
        if self.is_full.load(Ordering::SeqCst) { Err(KeyError::Sign) } else { self.keys.generate(label, kind) }
    }

    fn open(&self, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        if self.shows(label) { self.keys.open(label, spki) } else { Ok(None) }
    }

    fn delete(&self, label: &str, spki: &[u8]) -> Result<(), KeyError> {
        self.keys.delete(label, spki)
    }

    fn labels(&self) -> Result<Vec<String>, KeyError> {
        Ok(self.keys.labels()?.into_iter().filter(|label| self.shows(label)).collect())
    }

    fn persistent(&self) -> bool {
        true
    }
}

struct World {
    store: Store,
    shelf: Arc<Shelf>,
    manager: AuthorityManager,
    _dir: tempfile::TempDir,
}

fn settings() -> Settings {
    Settings {
        trust_domain: sample::domain(),
        server: "s1".into(),
        life_secs: 86_400,
        publish_delay_secs: 30,
        refresh_hint_secs: 300,
        jwt_issuer: None,
        x509_key_type: KeyType::EcP256,
        jwt_key_type: KeyType::EcP256,
        longest_ttl_secs: 60,
        destroy_after_secs: 100,
        missing_patience_secs: 60,
        delegated_issuer_secs: None,
        upstream: None,
        offline: None,
    }
}

impl World {
    /// One active authority of each kind.
    async fn begun() -> Self {
        let world = Self::empty().await;
        world.at(0).await;
        world
    }

    async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, shelf) = (sample::store(dir.path()).await, Arc::new(Shelf::default()));
        let manager = AuthorityManager::new(settings(), Arc::clone(&shelf) as Arc<dyn KeyStore>);
        Self { store, shelf, manager, _dir: dir }
    }

    /// As after a restart.
    fn again(self) -> Self {
        let manager = AuthorityManager::new(settings(), Arc::clone(&self.shelf) as Arc<dyn KeyStore>);
        Self { manager, ..self }
    }

    /// `secs` after the start.
    async fn at(&self, secs: i64) {
        self.manager.rotate(&self.store, T0.plus(secs)).await.unwrap();
    }

    async fn active(&self) -> Authority {
        let all = self.store.authorities().await.unwrap();
        all.into_iter().find(|a| a.kind == AuthorityKind::X509 && a.state == AuthorityState::Active).unwrap()
    }

    async fn key(&self, label: &str) -> KeyRecord {
        self.store.keys().await.unwrap().into_iter().find(|k| k.label == label).unwrap()
    }

    async fn commit(&self, fact: Fact) {
        self.store.commit(fact).await.unwrap().done().unwrap();
    }
}

#[tokio::test]
async fn a_missing_key_is_waited_for_then_lost_and_replaced_and_found_again() {
    let world = World::begun().await;
    let first = world.active().await;
    world.shelf.hide(&first.label);
    for secs in [60, 80, 100] {
        world.at(secs).await;
        assert_eq!(world.key(&first.label).await.state, KeyState::Generated, "after {secs} s");
        assert_eq!(world.manager.x509_id().as_ref(), Some(&first.id));
    }
    world.at(120).await;
    assert_eq!(world.key(&first.label).await.state, KeyState::Lost);
    let second = world.active().await;
    assert_ne!((world.manager.x509_id(), &second.id), (Some(first.id.clone()), &first.id));
    // What it signed verifies until its end: it stays published.
    assert_eq!(world.store.authority(&first.id).await.unwrap().unwrap().state, AuthorityState::Old);
    world.shelf.show();
    world.at(200).await;
    assert_eq!(world.key(&first.label).await.state, KeyState::Generated);
    assert_eq!(world.active().await.id, second.id);
}

#[tokio::test]
async fn a_key_swapped_under_its_label_is_tainted_and_never_signs_again() {
    let world = World::begun().await;
    let first = world.active().await;
    world.shelf.swap(&first.label);
    world.at(60).await;
    let tainted = world.store.authority(&first.id).await.unwrap().unwrap();
    assert!(tainted.tainted_at.is_some());
    assert!(world.key(&first.label).await.note.contains("not the recorded one"));
    assert_ne!(world.manager.x509_id(), Some(first.id.clone()));
    // Neither is it destroyed: it is not the key that the journal knows.
    world.manager.revoke(&world.store, &tainted, "uid 0".into(), T0.plus(61)).await.unwrap();
    world.at(200_000).await;
    assert!(world.shelf.keys.open(&first.label, None).unwrap().is_some());
}

#[tokio::test]
async fn a_start_with_a_swapped_key_is_refused_with_a_line_that_says_what_to_do() {
    let world = World::begun().await;
    world.shelf.swap(&world.active().await.label);
    let world = world.again();
    let clock: chancery_daemon::clock::Clock = Arc::new(|| T0.plus(5));
    let told = world.manager.start(&world.store, &clock).await.unwrap_err().to_string();
    assert!(told.contains("another public half") && told.contains("Put the recorded key back"), "{told}");
    assert!(world.store.authorities().await.unwrap().iter().all(|a| a.tainted_at.is_none()));
}

#[tokio::test]
async fn a_key_without_a_row_is_told_and_left_alone() {
    let world = World::begun().await;
    world.shelf.keys.generate("chancery/x509/stranger", KeyType::EcP256).unwrap();
    world.at(60).await;
    world.at(200_000).await;
    assert_eq!(*world.manager.orphans(), ["chancery/x509/stranger"]);
    assert!(world.shelf.keys.open("chancery/x509/stranger", None).unwrap().is_some());
    // Another server's key on the same token has a row.
    let plan = PlanKey {
        label: "chancery/x509/stranger".into(),
        kind: AuthorityKind::X509,
        server: "s2".into(),
        key_type: KeyType::EcP256,
    };
    world.commit(Fact::PlanKey(plan)).await;
    world.at(200_100).await;
    assert!(world.manager.orphans().is_empty());
}

#[tokio::test]
async fn a_removed_key_is_destroyed_when_its_time_has_come_and_no_sooner() {
    let world = World::begun().await;
    let prepared = world.manager.prepare(&world.store, AuthorityKind::X509, T0).await.unwrap();
    // It never signed: the patience alone keeps it.
    let second = world.manager.prepare(&world.store, AuthorityKind::X509, T0.plus(10)).await.unwrap();
    assert_ne!(prepared.id, second.id);
    assert_eq!(world.key(&prepared.label).await.state, KeyState::Condemned);
    world.at(109).await;
    assert!(world.shelf.keys.open(&prepared.label, None).unwrap().is_some());
    world.at(200).await;
    assert_eq!(world.key(&prepared.label).await.state, KeyState::Destroyed);
    assert!(world.shelf.keys.open(&prepared.label, None).unwrap().is_none());
}

#[tokio::test]
async fn a_revoked_key_that_signed_is_kept_until_its_authority_would_have_ended() {
    let world = World::begun().await;
    let first = world.active().await;
    let second = world.manager.prepare(&world.store, AuthorityKind::X509, T0).await.unwrap();
    world.manager.activate(&world.store, AuthorityKind::X509, &second.id, T0).await.unwrap();
    let (store, kind) = (&world.store, AuthorityKind::X509);
    world.manager.taint(store, kind, &first.id, "uid 0".into(), T0).await.unwrap();
    let tainted = store.authority(&first.id).await.unwrap().unwrap();
    world.manager.revoke(store, &tainted, "uid 0".into(), T0).await.unwrap();
    assert!(world.manager.published().borrow().authorities.iter().all(|a| a.id != first.id));
    assert_eq!(world.key(&first.label).await.keep_until, Some(first.not_after));
    world.at(86_399).await;
    assert_eq!(world.key(&first.label).await.state, KeyState::Condemned);
    world.at(86_460).await;
    assert_eq!(world.key(&first.label).await.state, KeyState::Destroyed);
    assert_eq!(store.authority(&first.id).await.unwrap(), None);
}

#[tokio::test]
async fn another_server_taints_our_active_authority_and_we_sign_with_the_next_at_once() {
    let world = World::begun().await;
    let first = world.active().await;
    let fact = TaintAuthority { id: first.id.clone(), kind: first.kind, why: "operator", caller: "uid 0".into() };
    world.commit(Fact::TaintAuthority(fact)).await;
    world.at(1).await;
    assert_ne!(world.manager.x509_id(), Some(first.id.clone()));
    assert!(!world.manager.stands(&first.id));
    assert_eq!(world.store.authority(&first.id).await.unwrap().unwrap().state, AuthorityState::Old);
}

#[tokio::test]
async fn a_store_that_makes_no_key_is_asked_again_after_a_while() {
    let world = World::empty().await;
    world.shelf.is_full.store(true, Ordering::SeqCst);
    for secs in 0..30 {
        let done = world.manager.rotate(&world.store, T0.plus(secs)).await;
        assert_eq!(done.is_err(), secs == 0, "after {secs} s");
    }
    // Both kinds tried once; what came to nothing was given up.
    let states: Vec<_> = world.store.keys().await.unwrap().into_iter().map(|k| k.state).collect();
    assert!(states.len() <= 2, "{states:?}");
    world.shelf.is_full.store(false, Ordering::SeqCst);
    world.at(31).await;
    assert!(world.manager.x509_id().is_some() && world.manager.jwt_id().is_some());
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_used_or_given_up() {
    let world = World::empty().await;
    let plan = |label: &str| PlanKey {
        label: label.into(),
        kind: AuthorityKind::X509,
        server: "s1".into(),
        key_type: KeyType::EcP256,
    };
    let generate = |label: &str| MoveKey { label: label.into(), version: 0, step: KeyStep::Generate };
    for label in ["chancery/x509/unmade", "chancery/x509/made"] {
        world.commit(Fact::PlanKey(plan(label))).await;
        world.commit(Fact::MoveKey(generate(label))).await;
    }
    world.shelf.keys.generate("chancery/x509/made", KeyType::EcP256).unwrap();
    world.at(0).await;
    assert_eq!(world.active().await.label, "chancery/x509/made");
    assert_eq!(world.key("chancery/x509/unmade").await.state, KeyState::Destroyed);
    // Its slow store makes it after all: nobody used it, so it goes.
    world.shelf.keys.generate("chancery/x509/unmade", KeyType::EcP256).unwrap();
    world.at(60).await;
    assert_eq!(world.key("chancery/x509/unmade").await.state, KeyState::Condemned);
    world.at(220).await;
    assert!(world.shelf.keys.open("chancery/x509/unmade", None).unwrap().is_none());
    assert!(world.manager.orphans().is_empty());
}
