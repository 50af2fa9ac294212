use chancery_daemon::shutdown::Shutdown;

use super::*;
use crate::{
    run::{self, RunError},
    sample::{self, Hand},
    store::ServerStarted,
};

const SERVER: &str = "s1";
/// Less than a watch of another machine's run takes.
const AT_ONCE: Duration = Duration::from_secs(5);
/// For runs that are silent.
const SHORT: Patience = Patience { watch: Duration::from_millis(200), look: Duration::from_millis(50) };

async fn database(dir: &Path) -> String {
    let url = dir.join("ca.sqlite3").display().to_string();
    Store::migrate(&url).await.unwrap();
    url
}

async fn open(url: &str) -> Store {
    Store::open(url, SERVER).await.unwrap()
}

fn started() -> Fact {
    Fact::ServerStarted(ServerStarted { version: "1".into() })
}

/// As kill -9 leaves it: the lock is free, the claim stands.
async fn killed(claim: Claim, store: Store) {
    drop(claim);
    store.close().await;
}

#[tokio::test]
async fn a_killed_run_is_followed_at_once_on_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    for _ in 0..3 {
        let store = open(&url).await;
        let taken = tokio::time::timeout(AT_ONCE, Claim::take(dir.path(), SERVER, &store)).await;
        let claim = taken.expect("no watching").unwrap();
        claim.beat(&store).await.unwrap();
        claim.beat(&store).await.unwrap();
        store.commit(started()).await.unwrap();
        killed(claim, store).await;
    }
    assert_eq!(std::fs::read_to_string(dir.path().join(FILE)).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_run_killed_between_its_note_and_its_claim_hides_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    let store = open(&url).await;
    killed(Claim::take(dir.path(), SERVER, &store).await.unwrap(), store).await;
    LockFile::open(dir.path()).unwrap().note("never claimed").unwrap();
    let store = open(&url).await;
    tokio::time::timeout(AT_ONCE, Claim::take(dir.path(), SERVER, &store)).await.expect("no watching").unwrap();
}

#[tokio::test]
async fn a_second_process_on_one_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&database(dir.path()).await).await;
    let claim = Claim::take(dir.path(), SERVER, &store).await.unwrap();
    let told = Claim::take(dir.path(), SERVER, &store).await.unwrap_err();
    assert!(matches!(told, ClaimError::Locked { .. }) && told.to_string().contains("stop it first"), "{told}");
    claim.release(&store).await.unwrap();
}

/// A copy of a folder with what a clone of its disk has: server id and lock file.
fn clone_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join(FILE), copy.path().join(FILE)).unwrap();
    copy
}

#[tokio::test]
async fn a_copied_folder_is_refused_while_its_first_run_beats() {
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    let (first, second) = (open(&url).await, open(&url).await);
    let claim = Claim::take(dir.path(), SERVER, &first).await.unwrap();
    let copy = clone_of(dir.path());
    let beating = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            claim.beat(&first).await.unwrap();
        }
    };
    let told = tokio::select! {
        told = Claim::take_after(Patience { look: SHORT.look, ..PATIENCE }, copy.path(), SERVER, &second) => told.unwrap_err(),
        () = beating => unreachable!("it beats for ever"),
    };
    assert!(matches!(told, ClaimError::Taken(_)), "{told}");
    let line = told.to_string();
    assert!(line.contains("cloned disk") && line.contains("empty data_dir") && !line.contains('\n'), "{line}");
    // Nothing of the first run was disturbed.
    first.commit(started()).await.unwrap();
}

#[tokio::test]
async fn a_silent_run_is_overtaken_and_writes_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    let (first, second) = (open(&url).await, open(&url).await);
    let claim = Claim::take(dir.path(), SERVER, &first).await.unwrap();
    first.commit(started()).await.unwrap();
    let copy = clone_of(dir.path());
    let began = tokio::time::Instant::now();
    let over = Claim::take_after(SHORT, copy.path(), SERVER, &second).await.unwrap();
    assert!(began.elapsed() >= SHORT.watch, "another machine's run is watched first");
    let told = first.commit(started()).await.unwrap_err();
    assert!(matches!(told, StoreError::Overtaken), "{told}");
    assert!(matches!(claim.beat(&first).await, Err(ClaimError::Overtaken(_))));
    assert!(matches!(claim.release(&first).await, Err(ClaimError::Overtaken(_))));
    over.beat(&second).await.unwrap();
    second.commit(started()).await.unwrap();
    over.release(&second).await.unwrap();
}

#[tokio::test]
async fn two_runs_of_one_nonce_cannot_both_beat() {
    // A running machine was copied, memory and all.
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    let (store, other) = (open(&url).await, open(&url).await);
    let claim = Claim::take(dir.path(), SERVER, &store).await.unwrap();
    let copied = Claim {
        server: claim.server.clone(),
        nonce: claim.nonce.clone(),
        beat: AsyncMutex::new(Some(0)),
        overtaken: AtomicBool::new(false),
        lock: Mutex::new(None),
    };
    copied.beat(&other).await.unwrap();
    assert!(matches!(claim.beat(&store).await, Err(ClaimError::Overtaken(_))));
}

#[tokio::test]
async fn a_claim_given_up_is_free_at_once_and_its_run_writes_nothing_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let url = database(dir.path()).await;
    let store = open(&url).await;
    let claim = Claim::take(dir.path(), SERVER, &store).await.unwrap();
    claim.release(&store).await.unwrap();
    assert!(matches!(store.commit(started()).await, Err(StoreError::Overtaken)));
    assert_eq!(store.server_claim(SERVER).await.unwrap(), None);
    let (elsewhere, store) = (tempfile::tempdir().unwrap(), open(&url).await);
    tokio::time::timeout(AT_ONCE, Claim::take(elsewhere.path(), SERVER, &store)).await.expect("no watching").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overtaken_ca_stops_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let running = sample::running(dir.path()).await;
    let state = std::sync::Arc::clone(&running.state);
    let store = Store::open(&state.config.database(), &state.server_id).await.unwrap();
    let over = loop {
        // It beats meanwhile: whoever takes over must name the beat that it saw.
        let over = store.server_claim(&state.server_id).await.unwrap();
        let take = TakeClaim { server: state.server_id.clone(), nonce: "another".into(), over };
        if let Ok(number) = store.commit(Fact::TakeClaim(take)).await.unwrap().done() {
            break number;
        }
    };
    assert!(over >= 0);
    assert!(matches!(state.store.commit(started()).await, Err(StoreError::Overtaken)));
    let ended = tokio::time::timeout(Duration::from_secs(30), running.stopped()).await.expect("it stops by itself");
    assert!(matches!(ended, Err(RunError::Claim(ClaimError::Overtaken(_)))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_left_is_followed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::now();
    let (state, _) = sample::parts(dir.path(), hand.clock()).await;
    let told = run::assemble(sample::config(dir.path(), ""), Shutdown::manual(), hand.clock()).await.err().unwrap();
    assert!(matches!(told, RunError::Claim(ClaimError::Locked { .. })), "{told}");
    run::leave(&state).await.unwrap();
    run::assemble(sample::config(dir.path(), ""), Shutdown::manual(), hand.clock()).await.unwrap();
}
