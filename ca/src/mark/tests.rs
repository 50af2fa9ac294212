use chancery_core::node::Standing;
use chancery_daemon::shutdown::Shutdown;

use super::*;
use crate::{
    run::{self, RunError},
    sample::{self, Hand},
    store::{AuthorityKind, Fact, ServerStarted},
};

/// What the sweep and the end of the process do.
async fn leave(state: &crate::State) {
    run::leave(state).await.unwrap();
}

/// A SQLite database with what is not yet in its main file.
fn copy(from: &str, to: &str) {
    for part in ["", "-wal", "-shm"] {
        let (from, to) = (format!("{from}{part}"), format!("{to}{part}"));
        match Path::new(&from).exists() {
            true => drop(std::fs::copy(from, to).unwrap()),
            false => drop(std::fs::remove_file(to)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_old_database_is_refused_until_an_operator_accepts_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let hand = Hand::now();
    let (state, _) = sample::parts(dir.path(), hand.clock()).await;
    sample::admit(&state, "n1", "7").await;
    let (database, server) = (state.config.database(), state.server_id.clone());
    leave(&state).await;
    let backup = dir.path().join("backup").display().to_string();
    copy(&database, &backup);

    // Started again on the newest one, which goes on.
    let (state, _) = sample::parts(dir.path(), hand.clock()).await;
    let kind = AuthorityKind::X509;
    let made = state.authority.prepare(&state.store, kind, hand.read()).await.unwrap();
    state.authority.activate(&state.store, kind, &made.id, hand.read()).await.unwrap();
    let before = state.authority.published().borrow().sequence;
    leave(&state).await;

    copy(&backup, &database);
    let config = || sample::config(dir.path(), "");
    let refused = run::assemble(config(), Shutdown::manual(), hand.clock()).await.err().unwrap();
    assert!(matches!(refused, RunError::Mark(MarkError::Restored { found: "missing", .. })), "{refused}");
    let told = refused.to_string();
    assert!(told.contains("restore a newer backup") && told.contains("restore-accept") && !told.contains('\n'));

    // As many other events do not make it the same log.
    let store = Store::open(&database, "other").await.unwrap();
    for n in 0..40 {
        store.commit(Fact::ServerStarted(ServerStarted { version: n.to_string() })).await.unwrap();
    }
    store.close().await;
    let refused = run::assemble(config(), Shutdown::manual(), hand.clock()).await.err().unwrap();
    assert!(matches!(refused, RunError::Mark(MarkError::Restored { found: "another one", .. })), "{refused}");

    let seen = Keeper::new(&config().data_dir).read().unwrap();
    let done = Store::accept_restore(&database, &server, seen.as_ref(), None).await.unwrap();
    assert_eq!((done.epoch, done.nodes), (1, 1));
    let (state, _, _) = run::assemble(config(), Shutdown::manual(), hand.clock()).await.unwrap();
    assert!(state.authority.published().borrow().sequence >= 1 << 32, "and above {before}");
    let node = state.store.node(&sample::node_id("n1")).await.unwrap().unwrap();
    assert_eq!(node.standing, Standing::Failed);
    let first = state.store.events(None, 1).await.unwrap().remove(0);
    assert_eq!((first.epoch, first.number), (1, 0));
    assert!(String::from_utf8(first.bytes).unwrap().contains("epoch.begun"));
    // The key of the lost rotation is nobody's here: told, never deleted.
    assert_eq!(*state.authority.orphans(), [made.label]);
}

#[tokio::test]
async fn a_mark_that_is_no_mark_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), b"{}").unwrap();
    let told = Keeper::new(dir.path()).read().unwrap_err().to_string();
    assert!(told.contains(FILE) && told.contains("remove the file"), "{told}");
}
