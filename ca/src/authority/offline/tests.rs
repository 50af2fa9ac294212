use std::{fs, path::Path};

use chancery_core::csr::Csr;
use chancery_daemon::key_type::KeyType;
use chancery_sdk::{id::TrustDomain, x509 as sdk};

use super::*;
use crate::{
    authorities,
    authority::subordinate::{self, Draft, Parent},
    problem::Problem,
    sample::{self, Hand},
    state::State,
};

const HOUR: i64 = 3600;
const OFFLINE: &str = "[upstream]\nkind = \"offline\"\n";

/// What a ceremony has: certificates up to the root, its own first, and the key.
struct Room {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn Signer>,
}

fn draft<'a>(domain: &'a TrustDomain, spki: &'a [u8], path_len: u8, from: UnixTime, life: i64) -> Draft<'a> {
    let (not_before, not_after) = (from, from.plus(life));
    Draft { domain, spki, common_name: None, path_len: Some(path_len), not_before, not_after }
}

impl Room {
    fn new(path_len: u8, now: UnixTime) -> Self {
        let (key, _) = file::fresh(KeyType::EcP384).unwrap();
        let domain = sample::domain();
        let draft = draft(&domain, key.spki(), path_len, now.plus(-HOUR), 1000 * HOUR);
        Self { chain: vec![subordinate::root(&draft, key.as_ref()).unwrap()], key }
    }

    fn below(&self, path_len: u8, now: UnixTime) -> Self {
        let (key, _) = file::fresh(KeyType::EcP256).unwrap();
        let chain = [vec![self.signs(key.spki(), path_len, now, 900 * HOUR)], self.chain.clone()].concat();
        Self { chain, key }
    }

    fn signs(&self, spki: &[u8], path_len: u8, now: UnixTime, life: i64) -> CertificateDer<'static> {
        self.signs_for(&sample::domain(), spki, path_len, now, life)
    }

    fn signs_for(
        &self,
        domain: &TrustDomain,
        spki: &[u8],
        path_len: u8,
        from: UnixTime,
        life: i64,
    ) -> CertificateDer<'static> {
        let parent = Parent::new(&self.chain[0], Arc::clone(&self.key)).unwrap();
        parent.sign(&draft(domain, spki, path_len, from, life)).unwrap()
    }

    /// What comes back for a request, the root at the end.
    fn answers(&self, csr: &[u8], now: UnixTime, life: i64) -> Delivered {
        let csr = Csr::parse(csr).unwrap();
        let chain = [vec![self.signs(csr.spki_der(), 0, now, life)], self.chain.clone()].concat();
        Delivered { chain, roots: Vec::new() }
    }
}

async fn offline(dir: &Path, hand: &Hand) -> Arc<State> {
    sample::parts_with(dir, hand.clock(), OFFLINE).await.0
}

async fn csr(state: &State, which: Which) -> Waiting {
    state.authority.request(&state.store, which, state.now()).await.unwrap()
}

async fn import(state: &State, delivered: Delivered) -> Result<Authority, String> {
    state.authority.import(&state.store, delivered, state.now()).await.map_err(|e| e.to_string())
}

async fn rotate(state: &State) {
    state.authority.rotate(&state.store, state.now()).await.unwrap();
}

fn need(state: &State) -> Need {
    *state.authority.need().borrow()
}

/// A server whose first authority, of so many hours, was imported.
async fn signing(dir: &Path, hand: &Hand, room: &Room, hours: i64) -> (Arc<State>, Authority) {
    let state = offline(dir, hand).await;
    let asked = csr(&state, Which::Open).await;
    let made = import(&state, room.answers(&asked.csr, hand.read(), hours * HOUR)).await.unwrap();
    (state, made)
}

#[tokio::test]
async fn a_first_authority_is_asked_for_imported_and_signs_at_once() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let now = hand.read();
    let state = offline(dir.path(), &hand).await;
    assert_eq!((state.authority.x509_id(), need(&state), state.is_ready()), (None, Need::Now, false));
    assert!(state.authority.jwt_id().is_some(), "tokens are signed meanwhile");
    let asked = csr(&state, Which::Open).await;
    let room = Room::new(2, now).below(1, now);
    let made = import(&state, room.answers(&asked.csr, now, 100 * HOUR)).await.unwrap();
    assert_eq!((made.state, made.not_after), (AuthorityState::Active, now.plus(100 * HOUR)));
    assert_eq!((state.authority.x509_id(), need(&state)), (Some(made.id), Need::Nothing));
    assert!(state.is_ready());
    let (leaf, _) = sample::leaf(now, made.not_after, 600);
    let issued = state.authority.sign_x509(&leaf).unwrap();
    assert_eq!((issued.chain.len(), &issued.chain[2]), (3, &room.chain[0]));
    let bundles = state.authority.x509_bundles().load_full();
    assert_eq!(bundles.get(&sample::domain()).unwrap().authorities(), &room.chain[1..], "the root alone");
    assert_eq!(sdk::verify(&issued.chain, &bundles, now).unwrap().id, *leaf.id());
}

#[tokio::test]
async fn asking_again_gives_a_request_of_the_same_key_after_a_restart_too() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let state = offline(dir.path(), &hand).await;
    let first = csr(&state, Which::Open).await;
    let parsed = Csr::parse(&first.csr).unwrap();
    assert_eq!(hex::encode(parsed.spki_sha256()), first.key_sha256);
    assert_eq!(csr(&state, Which::Open).await.key_sha256, first.key_sha256);
    state.store.clone().close().await;
    drop(state);
    let config = sample::config(dir.path(), OFFLINE);
    let shutdown = chancery_daemon::shutdown::Shutdown::manual();
    let (state, _, _) = crate::run::assemble(config, shutdown, hand.clock()).await.unwrap();
    assert_eq!(csr(&state, Which::Open).await.key_sha256, first.key_sha256);
    assert_eq!(state.keys.labels().unwrap().len(), 2, "one key of each kind");
}

#[tokio::test]
async fn another_request_gives_up_the_one_before_and_its_key_is_destroyed() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(1, hand.read()));
    let state = offline(dir.path(), &hand).await;
    let first = csr(&state, Which::Open).await;
    let second = csr(&state, Which::New).await;
    assert_ne!(first.label, second.label);
    let refused = import(&state, room.answers(&first.csr, now, 100 * HOUR)).await.unwrap_err();
    assert!(refused.contains("condemned") && refused.contains("given up"), "{refused}");
    assert!(state.keys.labels().unwrap().contains(&first.label));
    hand.set(now.plus(25 * HOUR));
    rotate(&state).await;
    assert!(!state.keys.labels().unwrap().contains(&first.label));
    let gone = import(&state, room.answers(&first.csr, hand.read(), 100 * HOUR)).await.unwrap_err();
    assert!(gone.contains("destroyed"), "{gone}");
    import(&state, room.answers(&second.csr, hand.read(), 100 * HOUR)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_answer_to_the_open_request_is_refused_with_a_line() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(2, hand.read()));
    let state = offline(dir.path(), &hand).await;
    let asked = csr(&state, Which::Open).await;
    let spki = Csr::parse(&asked.csr).unwrap().spki_der().to_vec();
    let with_root = |der| Delivered { chain: [vec![der], room.chain.clone()].concat(), roots: Vec::new() };
    let stranger = file::fresh(KeyType::EcP256).unwrap().0;
    let other_domain = TrustDomain::new("other.org").unwrap();
    let tight = Room::new(1, now).below(0, now);
    let too_deep = {
        let domain = sample::domain();
        let draft = draft(&domain, &spki, 0, now, 100 * HOUR);
        let der = subordinate::signed_unjudged(&tight.chain[0], tight.key.as_ref(), &draft);
        Delivered { chain: [vec![der], tight.chain.clone()].concat(), roots: Vec::new() }
    };
    let mut altered = room.signs(&spki, 0, now, 100 * HOUR).to_vec();
    *altered.last_mut().unwrap() ^= 1;
    let unrelated = Room::new(2, now);
    let cases = [
        (with_root(room.signs(stranger.spki(), 0, now, 100 * HOUR)), "no request was made"),
        (with_root(room.signs_for(&other_domain, &spki, 0, now, 100 * HOUR)), "another trust domain"),
        (with_root(room.signs(&spki, 0, now.plus(-30 * 60), 20 * 60)), "ended already"),
        (with_root(room.signs(&spki, 0, now, HOUR)), "longer than the longest SVID"),
        (with_root(room.signs(&spki, 0, now.plus(HOUR), 100 * HOUR)), "begins at"),
        (with_root(CertificateDer::from(altered)), "no verifier would accept"),
        (too_deep, "no verifier would accept"),
        (Delivered { chain: vec![room.signs(&spki, 0, now, 100 * HOUR)], roots: Vec::new() }, "append it"),
        (
            Delivered { chain: vec![room.signs(&spki, 0, now, 100 * HOUR)], roots: unrelated.chain.clone() },
            "none of its anchors",
        ),
        (Delivered { chain: room.chain.clone(), roots: Vec::new() }, "append it"),
        (Delivered { chain: vec![CertificateDer::from(vec![1, 2, 3])], roots: room.chain.clone() }, "refused"),
    ];
    for (delivered, words) in cases {
        let refused = import(&state, delivered).await.unwrap_err();
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!((state.authority.x509_id(), need(&state)), (None, Need::Now), "nothing was published");
    let good = room.answers(&asked.csr, now, 100 * HOUR);
    import(&state, good.clone()).await.unwrap();
    assert!(import(&state, good).await.unwrap_err().contains("already"));
}

#[tokio::test]
async fn a_request_of_another_server_is_imported_there() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let room = Room::new(1, hand.read());
    let one = offline(dir.path(), &hand).await;
    let asked = csr(&one, Which::Open).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let extra = format!("server_id = \"two\"\ndatabase = \"{}\"\n{OFFLINE}", one.config.database());
    let two = sample::config(elsewhere.path(), &extra);
    std::fs::create_dir_all(&two.data_dir).unwrap();
    let shutdown = chancery_daemon::shutdown::Shutdown::manual();
    let (two, _, _) = crate::run::assemble(two, shutdown, hand.clock()).await.unwrap();
    let refused = import(&two, room.answers(&asked.csr, hand.read(), 100 * HOUR)).await.unwrap_err();
    assert!(refused.contains(&one.server_id) && refused.contains("import it there"), "{refused}");
    assert_ne!(csr(&two, Which::Open).await.label, asked.label);
}

#[tokio::test]
async fn people_are_told_at_half_of_the_life_and_what_they_bring_takes_over_in_time() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(1, hand.read()));
    let (state, first) = signing(dir.path(), &hand, &room, 120).await;
    let ends = first.not_after;
    let at = |hours: i64| hand.set(now.plus(hours * HOUR));
    for (hours, told) in [
        (59, Need::Nothing),
        (60, Need::Next { ends, late: false }),
        (79, Need::Next { ends, late: false }),
        (80, Need::Next { ends, late: true }),
        (101, Need::Next { ends, late: true }),
    ] {
        at(hours);
        rotate(&state).await;
        assert_eq!(need(&state), told, "after {hours} h");
    }
    let keys = state.keys.labels().unwrap().len();
    assert!(authorities::offline::needs(&state).contains("authority csr"));
    let asked = csr(&state, Which::Open).await;
    assert_eq!(state.keys.labels().unwrap().len(), keys + 1, "rotation made none by itself");
    at(61);
    let next = import(&state, room.answers(&asked.csr, hand.read(), 120 * HOUR)).await.unwrap();
    assert_eq!((next.state, need(&state)), (AuthorityState::Prepared, Need::Nothing));
    assert_eq!(state.authority.x509_id(), Some(first.id.clone()));
    at(100);
    rotate(&state).await;
    assert_eq!(state.authority.x509_id(), Some(next.id.clone()), "at 5/6 of the life");
    let (leaf, _) = sample::leaf(hand.read(), next.not_after, 600);
    let issued = state.authority.sign_x509(&leaf).unwrap();
    let bundles = state.authority.x509_bundles().load_full();
    sdk::verify(&issued.chain, &bundles, hand.read()).unwrap();
    at(122);
    rotate(&state).await;
    let left = state.store.authorities().await.unwrap();
    assert!(left.iter().all(|a| a.id != first.id), "the old one leaves when it has ended");
    at(182);
    rotate(&state).await;
    assert_eq!((need(&state), state.is_ready()), (Need::Now, false), "nobody made another one");
    let asked = csr(&state, Which::Open).await;
    import(&state, room.answers(&asked.csr, hand.read(), 120 * HOUR)).await.unwrap();
    assert!(state.is_ready(), "without a restart");
}

#[tokio::test]
async fn a_second_import_replaces_the_prepared_one_and_never_more_than_three_are_published() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(1, hand.read()));
    let (state, _) = signing(dir.path(), &hand, &room, 120).await;
    let bring = async || {
        let asked = csr(&state, Which::Open).await;
        import(&state, room.answers(&asked.csr, now, 120 * HOUR)).await
    };
    let second = bring().await.unwrap();
    let third = bring().await.unwrap();
    let published = async || state.store.authorities().await.unwrap();
    let x509 = async || published().await.into_iter().filter(|a| a.kind == AuthorityKind::X509).collect::<Vec<_>>();
    assert_eq!(x509().await.len(), 2);
    assert!(x509().await.iter().all(|a| a.id != second.id));
    state.authority.activate(&state.store, AuthorityKind::X509, &third.id, now).await.unwrap();
    let fourth = bring().await.unwrap();
    state.authority.activate(&state.store, AuthorityKind::X509, &fourth.id, now).await.unwrap();
    assert_eq!(x509().await.len(), 3);
    assert!(bring().await.unwrap_err().contains("publishes 3"));
    assert_eq!(x509().await.len(), 3);
}

#[tokio::test]
async fn after_a_taint_the_next_import_signs_at_once() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(1, hand.read()));
    let (state, first) = signing(dir.path(), &hand, &room, 120).await;
    state.authority.taint(&state.store, AuthorityKind::X509, &first.id, "op".into(), now).await.unwrap();
    assert_eq!((need(&state), state.is_ready()), (Need::Now, false));
    let asked = csr(&state, Which::Open).await;
    let next = import(&state, room.answers(&asked.csr, now, 120 * HOUR)).await.unwrap();
    assert_eq!((next.state, state.authority.x509_id()), (AuthorityState::Active, Some(next.id)));
    assert!(state.is_ready());
}

#[tokio::test]
async fn only_a_server_whose_authorities_are_signed_offline_has_requests() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (plain, _) = sample::parts(dir.path(), hand.clock()).await;
    let refused = authorities::offline::request(&plain, Which::Open).await.unwrap_err();
    assert!(matches!(&refused, Problem::Precondition(why) if why.contains("upstream.kind")), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = signing(dir.path(), &hand, &Room::new(1, hand.read()), 120).await;
    let refused = authorities::prepare(&state, AuthorityKind::X509).await.unwrap_err();
    assert!(matches!(&refused, Problem::Precondition(why) if why.contains("authority csr")), "{refused}");
    authorities::prepare(&state, AuthorityKind::Jwt).await.unwrap();
}

#[tokio::test]
async fn pinned_roots_are_the_only_ones_taken() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, pin) = (hand.read(), dir.path().join("roots.pem"));
    let (ours, other) = (Room::new(1, now), Room::new(1, now));
    fs::write(&pin, file::pem("CERTIFICATE", &ours.chain[0])).unwrap();
    let extra = format!("{OFFLINE}bundle = {pin:?}\n");
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
    let asked = csr(&state, Which::Open).await;
    assert!(import(&state, other.answers(&asked.csr, now, 100 * HOUR)).await.unwrap_err().contains("upstream.bundle"));
    let mut bare = ours.answers(&asked.csr, now, 100 * HOUR);
    bare.chain.truncate(1);
    import(&state, bare).await.unwrap();
    assert!(state.is_ready());
}

#[tokio::test]
async fn a_delegated_issuer_needs_its_place_in_an_imported_path() {
    let (dir, hand) = (tempfile::tempdir().unwrap(), Hand::now());
    let (now, room) = (hand.read(), Room::new(2, hand.read()));
    let extra = format!("{OFFLINE}[keys]\ndelegated_issuer = \"3h\"\n");
    let (state, _) = sample::parts_with(dir.path(), hand.clock(), &extra).await;
    let asked = csr(&state, Which::Open).await;
    let refused = import(&state, room.answers(&asked.csr, now, 100 * HOUR)).await.unwrap_err();
    assert!(refused.contains("path length 0"), "{refused}");
    let spki = Csr::parse(&asked.csr).unwrap().spki_der().to_vec();
    let chain = vec![room.signs(&spki, 1, now, 100 * HOUR)];
    import(&state, Delivered { chain, roots: room.chain.clone() }).await.unwrap();
    assert!(state.is_ready());
}

#[test]
fn people_are_told_again_daily_when_it_is_late_and_hourly_when_nothing_signs() {
    let ends = UnixTime(9);
    assert_eq!(Need::Nothing.again(), None);
    assert_eq!(Need::Next { ends, late: false }.again(), None);
    assert_eq!(Need::Next { ends, late: true }.again(), Some(86_400));
    assert_eq!(Need::Now.again(), Some(3600));
}
