//! The signer, and what `audit verify` finds after somebody with full write access was there.

use std::path::{Path, PathBuf};

use chancery_core::{
    event::leaf_hash,
    log::{checkpoint::Checkpoint, folder, note::Note},
};
use chancery_daemon::clock;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection, raw_sql};
use tempfile::TempDir;

use super::{
    files::{CHECKPOINT, Folder},
    key::LogKey,
    verify::{Report, VerifyError, verify},
    *,
};
use crate::{
    run, sample,
    store::{Fact, RecordRow, ServerStarted, Store},
};

/// Commits many events a second into checkpoints at once.
const FAST: &str = "[log]\ninterval = \"100ms\"\nwitness_interval = \"100ms\"";

mod nodes;

/// A CA's folder, and what its configuration says more.
struct World {
    dir: TempDir,
    extra: String,
}

impl World {
    /// A record of some events, signed, the CA stopped.
    async fn of(events: usize) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), extra: FAST.into() };
        world.run(events).await;
        world
    }

    fn config(&self) -> Config {
        sample::config(self.dir.path(), &self.extra)
    }

    async fn begin(&self) -> Arc<State> {
        let (state, _) = sample::parts_with(self.dir.path(), clock::system(), &self.extra).await;
        start(&state).unwrap();
        state
    }

    /// The CA runs, more happens, and it stops cleanly.
    async fn run(&self, events: usize) {
        let state = self.begin().await;
        commit(&state, events).await;
        run::leave(&state).await.unwrap();
    }

    fn log(&self) -> Folder {
        Folder::new(&self.config().log_dir(), 0)
    }

    fn shown(&self) -> Vec<u8> {
        self.log().checkpoint().unwrap().unwrap()
    }

    fn size(&self) -> u64 {
        head_of(&self.shown()).head.size
    }

    async fn store(&self) -> Store {
        Store::open(&self.config().database(), "test").await.unwrap()
    }

    async fn verify_with(&self, since: Option<&[u8]>) -> Result<Report, VerifyError> {
        let store = self.store().await;
        let report = verify(&store, &self.config(), since, |_| {}).await;
        store.close().await;
        report
    }

    async fn verify(&self) -> Report {
        self.verify_with(None).await.unwrap()
    }

    /// The one thing that is found: the event it names, and what it says.
    async fn found(&self) -> (Option<i64>, String) {
        one(self.verify().await)
    }

    async fn sql(&self, sql: &str) {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", self.config().database())).await.unwrap();
        raw_sql(AssertSqlSafe(sql.to_string())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn row(&self, number: i64) -> RecordRow {
        let store = self.store().await;
        let row = store.record(0, number - 1, 1).await.unwrap().remove(0);
        store.close().await;
        row
    }

    /// Writes other bytes in the place of an event, with their hash: what somebody with full write access does.
    async fn rewrite(&self, number: i64, from: &str, to: &str) {
        let text = String::from_utf8(self.row(number).await.bytes).unwrap();
        assert!(text.contains(from), "{text}");
        let bytes = text.replacen(from, to, 1).into_bytes();
        let (hash, bytes) = (hex::encode(leaf_hash(&bytes)), hex::encode(bytes));
        self.sql(&format!("UPDATE events SET bytes = x'{bytes}', hash = x'{hash}' WHERE number = {number}")).await;
    }

    /// A copy of all its files.
    fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap(), extra: self.extra.clone() };
        copy_all(&self.dir.path().join("data"), &copy.dir.path().join("data"));
        copy
    }
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn one(report: Report) -> (Option<i64>, String) {
    assert_eq!(report.findings.len(), 1, "{report:?}");
    (report.findings[0].event, report.findings[0].what.clone())
}

fn head_of(note: &[u8]) -> Checkpoint {
    Checkpoint::parse(Note::parse(note).unwrap().unverified_text()).unwrap()
}

async fn commit(state: &State, events: usize) {
    let facts: Vec<_> = (0..events).map(|n| Fact::ServerStarted(ServerStarted { version: format!("v{n}") })).collect();
    for chunk in facts.chunks(500) {
        state.commit_all(chunk.to_vec()).await.unwrap();
    }
}

fn is_whole(report: &Report) -> bool {
    report.findings.is_empty() && report.epochs.iter().all(|epoch| epoch.events == epoch.vouched)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_leaves_a_record_that_is_whole_and_a_folder_that_verifies_alone() {
    let world = World::of(700).await;
    let report = world.verify().await;
    assert!(is_whole(&report) && report.epochs[0].events > 700, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("without --since")), "{report:?}");
    let key = LogKey::read(&world.config().log_key_file()).unwrap().unwrap();
    let checkpoint = Checkpoint::open(&world.shown(), "example.org/0", &[key.public()]).unwrap();
    let log = world.log();
    folder::verify(&checkpoint, 0, |tile| log.read(tile), |_| {}).unwrap();
    assert!(is_whole(&world.verify_with(Some(&world.shown())).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_goes_on_after_a_stop_and_parts_give_way_to_full_tiles() {
    let world = World::of(100).await;
    let first = world.size();
    let before = world.shown();
    assert!(world.config().log_dir().join(format!("0/tile/0/000.p/{first}")).exists());
    world.run(300).await;
    assert!(world.size() > first + 300);
    assert!(!world.config().log_dir().join("0/tile/0/000.p").exists());
    assert!(is_whole(&world.verify_with(Some(&before)).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_signed_while_the_ca_runs() {
    let world = World::of(0).await;
    let state = world.begin().await;
    commit(&state, 5).await;
    let size = *state.store.last_number().borrow() as u64 + 1;
    state.log.shown().wait_for(|shown| *shown >= size).await.unwrap();
    assert_eq!(state.log.problem().borrow().clone(), None);
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiles_that_are_gone_or_truncated_are_found_and_made_again() {
    let world = World::of(600).await;
    let tile = world.config().log_dir().join("0/tile/0/001");
    std::fs::write(&tile, &std::fs::read(&tile).unwrap()[..100]).unwrap();
    let (_, what) = world.found().await;
    assert!(what.contains("tile/0/001 has 100 bytes"), "{what}");
    std::fs::remove_dir_all(world.config().log_dir()).unwrap();
    world.run(1).await;
    assert!(is_whole(&world.verify().await));
    assert_eq!(std::fs::read(&tile).unwrap().len(), 8192);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_event_is_named() {
    let world = World::of(600).await;
    world.sql("UPDATE events SET bytes = x'7b7d' WHERE number = 300").await;
    assert_eq!(world.found().await, (Some(300), "edited: its hash is not that of its bytes".into()));
    world.sql("UPDATE events SET kind = 'other' WHERE number = 299").await;
    assert_eq!(world.found().await, (Some(299), "edited: its column kind differs from its bytes".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_rewritten_with_its_hash_is_named_by_the_tiles_and_without_them_bounded_by_checkpoints() {
    let world = World::of(600).await;
    world.rewrite(300, "\"version\":\"v", "\"version\":\"x").await;
    let (event, what) = world.found().await;
    assert!(event == Some(300) && what.contains("tile/entries/001"), "{event:?} {what}");
    std::fs::remove_dir_all(world.config().log_dir()).unwrap();
    let (event, what) = world.found().await;
    assert!(event.is_none() && what.contains("is not what it was") && what.contains("in the database"), "{what}");
    // The signer neither signs over it nor covers it up.
    let state = world.begin().await;
    state.log.problem().wait_for(Option::is_some).await.unwrap();
    let told = state.readiness().unwrap_err();
    assert!(told.contains("log: the record was altered"), "{told}");
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_event_is_named_wherever_it_was() {
    let world = World::of(300).await;
    let copy = world.copy();
    world.sql("DELETE FROM events WHERE number = 200").await;
    assert_eq!(world.found().await, (Some(200), "missing: the next one there is 201".into()));
    let last = copy.size() as i64 - 1;
    copy.sql(&format!("DELETE FROM events WHERE number = {last}")).await;
    let (event, what) = copy.found().await;
    assert!(event == Some(last) && what.contains("missing, and all after it"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swapped_events_are_named_even_with_their_numbers_changed() {
    let world = World::of(300).await;
    world
        .sql(
            "UPDATE events SET number = -1 WHERE number = 100; UPDATE events SET number = 100 WHERE number = 101; \
               UPDATE events SET number = 101 WHERE number = -1",
        )
        .await;
    assert_eq!(world.found().await, (Some(100), "edited: its column number differs from its bytes".into()));
    world.rewrite(100, "\"number\":101", "\"number\":100").await;
    world.rewrite(101, "\"number\":100", "\"number\":101").await;
    let (event, what) = world.found().await;
    assert!(event == Some(100) && what.contains("another one than in the log's folder"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_back_dated_event_is_named_also_before_it_is_in_a_checkpoint() {
    let world = World::of(50).await;
    // Committed by a CA that signs nothing.
    let signing = world.extra.clone();
    let world = World { extra: "[log]\nenabled = false".into(), ..world };
    world.run(20).await;
    let last = world.size() as i64 + 5;
    let at = world.row(last).await.at;
    world.rewrite(last, &format!("\"at\":{at}"), &format!("\"at\":{}", at - 61)).await;
    world.sql(&format!("UPDATE events SET at = {} WHERE number = {last}", at - 61)).await;
    let (event, what) = World { extra: signing, ..world }.found().await;
    assert!(event == Some(last) && what.starts_with("back-dated"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_after_the_last_checkpoint_are_named_and_no_fault() {
    let world = World::of(50).await;
    let size = world.size();
    let world = World { extra: "[log]\nenabled = false".into(), ..world };
    world.run(20).await;
    let report = world.verify().await;
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(report.notes.iter().any(|n| n.contains(&format!("events {size} to")) && n.contains("after the last")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_event_beyond_the_counter_is_named() {
    let world = World::of(20).await;
    let last = world.size() as i64;
    world
        .sql(&format!(
            "INSERT INTO events (epoch, number, at, server, kind, subject, bytes, hash) \
             SELECT epoch, {last}, at, server, kind, subject, bytes, hash FROM events WHERE number = {}",
            last - 1
        ))
        .await;
    let (event, what) = world.found().await;
    assert!(event == Some(last) && what.starts_with("planted"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_or_edited_checkpoint_is_found() {
    let world = World::of(50).await;
    let other = World::of(50).await;
    // Signed by somebody else's key, for this very tree.
    let stranger = LogKey::read(&other.config().log_key_file()).unwrap().unwrap();
    let forged = hex::encode(stranger.sign(&head_of(&world.shown())).unwrap());
    let copy = world.copy();
    copy.sql(&format!("UPDATE checkpoints SET note = x'{forged}'")).await;
    std::fs::write(copy.log().path().join(CHECKPOINT), hex::decode(&forged).unwrap()).unwrap();
    let (_, what) = copy.found().await;
    assert!(what.contains("not trusted here") && what.contains("log.trusted_keys"), "{what}");
    // With its own key, but another root.
    world.sql("UPDATE checkpoints SET root = x'00'").await;
    assert!(world.found().await.1.contains("was edited"));
    world.sql("UPDATE checkpoints SET note = x'00'").await;
    assert!(world.found().await.1.contains("is forged"));
    // The signer does not build on it either.
    let state = world.begin().await;
    state.log.problem().wait_for(Option::is_some).await.unwrap();
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_taken_out_of_the_database_under_a_running_signer_stop_it() {
    let world = World::of(50).await;
    let state = world.begin().await;
    state.log.shown().wait_for(|shown| *shown > 50).await.unwrap();
    world.sql("DELETE FROM checkpoints").await;
    commit(&state, 1).await;
    let told = state.log.problem().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(told.contains("is not the one that was stored"), "{told}");
    // Issuing goes on; that is another's to decide.
    commit(&state, 1).await;
    run::leave(&state).await.unwrap();
    assert!(world.found().await.1.contains("checkpoints were taken out of it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_records_cut_with_their_checkpoints_are_seen_only_with_one_kept_elsewhere() {
    let world = World::of(50).await;
    let older = world.copy();
    world.run(10).await;
    let kept = world.shown();
    let report = older.verify().await;
    assert!(is_whole(&report), "invisible: {report:?}");
    assert!(report.notes.iter().any(|note| note.contains("it cannot be seen whether the newest events were dropped")));
    let (event, what) = one(older.verify_with(Some(&kept)).await.unwrap());
    assert_eq!(event, Some(older.size() as i64));
    assert!(what.contains("the checkpoint of --since"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_copies_that_went_apart_are_a_split_view() {
    let world = World::of(50).await;
    let split = world.copy();
    world.run(20).await;
    split.run(30).await;
    assert!(is_whole(&world.verify().await) && is_whole(&split.verify().await));
    let (_, what) = one(split.verify_with(Some(&world.shown())).await.unwrap());
    assert!(what.contains("the checkpoint of --since has another root"), "{what}");
    let (_, what) = one(world.verify_with(Some(&split.shown())).await.unwrap());
    assert!(what.contains("--since"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_rewritten_with_the_stolen_key_is_found_only_by_an_older_checkpoint() {
    let world = World::of(50).await;
    let rewritten = World::of(80).await;
    std::fs::copy(world.config().log_key_file(), rewritten.config().log_key_file()).unwrap();
    rewritten.sql("DELETE FROM checkpoints").await;
    std::fs::remove_dir_all(rewritten.config().log_dir()).unwrap();
    rewritten.run(1).await;
    assert!(is_whole(&rewritten.verify().await), "nothing here can tell");
    let (_, what) = one(rewritten.verify_with(Some(&world.shown())).await.unwrap());
    assert!(what.contains("the checkpoint of --since has another root"), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_under_the_same_folder_is_not_signed() {
    let world = World::of(50).await;
    let older = world.copy();
    world.run(10).await;
    std::fs::remove_dir_all(older.config().log_dir()).unwrap();
    copy_all(&world.config().log_dir(), &older.config().log_dir());
    assert!(older.found().await.1.contains("the database is an older one"));
    let state = older.begin().await;
    let told = state.log.problem().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(told.contains("the database is an older one"), "{told}");
    run::leave(&state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_key_signs_on_and_the_old_one_is_told() {
    let world = World::of(5000).await;
    let old = LogKey::read(&world.config().log_key_file()).unwrap().unwrap().verifier("example.org/0").unwrap();
    let kept = world.shown();
    std::fs::rename(world.config().log_key_file(), world.dir.path().join("old.pem")).unwrap();
    world.run(5000).await;
    let report = world.verify().await;
    assert!(is_whole(&report), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("not trusted here")), "{report:?}");
    assert!(matches!(world.verify_with(Some(&kept)).await, Err(VerifyError::Since(_))));
    let world = World { extra: format!("[log]\ntrusted_keys = [\"{old}\"]"), ..world };
    let report = world.verify_with(Some(&kept)).await.unwrap();
    assert!(is_whole(&report) && report.notes.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_one_signs_and_the_other_goes_on_when_it_left() {
    let world = World::of(20).await;
    let first = world.begin().await;
    let size = *first.store.last_number().borrow() as u64 + 1;
    first.log.shown().wait_for(|shown| *shown >= size).await.unwrap();
    // Another server of the same database, with a folder and a key of its own.
    let database = world.config().database();
    let dir = tempfile::tempdir().unwrap();
    let config = sample::config(dir.path(), &format!("database = \"{database}\"\n{FAST}"));
    let shutdown = chancery_daemon::shutdown::Shutdown::manual();
    let (second, ..) = run::assemble(config.clone(), shutdown, clock::system()).await.unwrap();
    let fence = second.store.log_lease().await.unwrap().fence;
    start(&second).unwrap();
    commit(&first, 10).await;
    let size = *first.store.last_number().borrow() as u64 + 1;
    first.log.shown().wait_for(|shown| *shown >= size).await.unwrap();
    assert_eq!((*second.log.shown().borrow(), second.store.log_lease().await.unwrap().fence), (0, fence));
    run::leave(&first).await.unwrap();
    second.log.shown().wait_for(|shown| *shown > size).await.unwrap();
    assert_eq!(second.store.log_lease().await.unwrap().fence, fence + 1);
    run::leave(&second).await.unwrap();
    // Its folder was made from the database, and verifies alone.
    let key = LogKey::read(&config.log_key_file()).unwrap().unwrap();
    let log = Folder::new(&config.log_dir(), 0);
    let shown = log.checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::open(&shown, "example.org/0", &[key.public()]).unwrap();
    folder::verify(&checkpoint, 0, |tile| log.read(tile), |_| {}).unwrap();
    // Whoever trusts only the first key is told of the second.
    let (_, what) = world.found().await;
    assert!(what.contains("add it to log.trusted_keys"), "{what}");
    let trusted = key.verifier("example.org/0").unwrap();
    let world = World { extra: format!("[log]\ntrusted_keys = [\"{trusted}\"]"), ..world };
    assert!(is_whole(&world.verify().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_stops_no_commit_and_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("log");
    std::fs::write(&blocked, b"in the way").unwrap();
    let extra = format!("[log]\ninterval = \"100ms\"\ndir = \"{}\"", blocked.display());
    let world = World { dir: tempfile::tempdir().unwrap(), extra };
    let state = world.begin().await;
    commit(&state, 30).await;
    // Its last pass is one that failed.
    run::leave(&state).await.unwrap();
    let store = world.store().await;
    assert_eq!(store.last_checkpoint(0).await.unwrap(), None);
    store.close().await;
    // Nothing is shown that the folder cannot hold; once there is room the next pass makes it good.
    let state = world.begin().await;
    commit(&state, 5).await;
    std::fs::remove_file(&blocked).unwrap();
    state.log.shown().wait_for(|shown| *shown > 35).await.unwrap();
    run::leave(&state).await.unwrap();
    assert!(is_whole(&world.verify().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_values_may_be_erased_and_not_altered() {
    let world = World::of(0).await;
    let state = world.begin().await;
    sample::admit(&state, "n1", "7").await;
    run::leave(&state).await.unwrap();
    world.sql("UPDATE event_clear SET value = '192.0.2.9' WHERE value = '192.0.2.1'").await;
    assert!(world.found().await.1.contains("the clear value of"));
    world.sql("DELETE FROM event_clear").await;
    assert!(is_whole(&world.verify().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_key_nothing_is_verified() {
    let world = World::of(5).await;
    let path: PathBuf = world.config().log_key_file();
    std::fs::remove_file(path).unwrap();
    assert!(matches!(world.verify_with(None).await, Err(VerifyError::NoKey(_))));
}

#[test]
fn a_key_is_made_once_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log_key.pem");
    assert!(LogKey::read(&path).unwrap().is_none());
    let made = LogKey::open(&path).unwrap().public();
    assert_eq!(LogKey::open(&path).unwrap().public(), made);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(LogKey::open(&path).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(LogKey::open(&path).unwrap_err().to_string().contains("no Ed25519 key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_names_the_last_tree_and_is_a_log_of_its_own() {
    let world = World::of(50).await;
    let older = world.copy();
    world.run(10).await;
    let kept = world.shown();
    // The database is an older one; the folder beside it remembers.
    std::fs::remove_dir_all(older.config().log_dir()).unwrap();
    copy_all(&world.config().log_dir(), &older.config().log_dir());
    let tree = last_shown(&older.config()).unwrap().unwrap();
    assert_eq!((tree.epoch, tree.head), (0, head_of(&kept).head));
    Store::accept_restore(&older.config().database(), "test", None, Some(tree)).await.unwrap();
    older.run(20).await;
    let store = older.store().await;
    let first = String::from_utf8(store.leaves(1, -1, 1).await.unwrap().remove(0).bytes).unwrap();
    store.close().await;
    let told =
        format!("\"log_epoch\":0,\"log_root\":\"{}\",\"log_size\":{}", hex::encode(tree.head.root), tree.head.size);
    assert!(first.contains(&told), "{first}");
    let report = older.verify().await;
    assert_eq!(report.epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [0, 1]);
    // What was lost of the epoch before is told, and was accepted.
    assert!(report.findings.is_empty() && report.notes.iter().any(|n| n.contains("accepted")), "{report:?}");
    assert_eq!(report.epochs[1].events, report.epochs[1].vouched);
}
