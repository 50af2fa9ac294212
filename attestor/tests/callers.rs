//! Attacks on the workload socket: the caller is a process of its own that ends, becomes another program, or lends
//! its connection. None of them gets an identity that is not that process's own.

mod support;

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc, time::Duration};

use chancery_attestor::{
    peer::{Caller, PeerError, PidProof},
    workload::{AttestError, Attestors, Unix},
};
use tokio::net::UnixStream;
use tonic::Code;

use support::{
    Client, FakeCa, Node, class,
    client::next,
    code, entry,
    helper::{self, Helper},
};

/// Not a test: what [`Helper`] runs.
#[test]
fn helper_process() {
    helper::body();
}

fn exe_selector(path: &Path) -> String {
    format!("unix:path:{}", path.canonicalize().unwrap().display())
}

/// The selector of this very program, which the helpers run too.
fn this_program() -> String {
    exe_selector(&std::env::current_exe().unwrap())
}

async fn over(stream: std::os::unix::net::UnixStream) -> Client {
    stream.set_nonblocking(true).unwrap();
    Client::over(UnixStream::from_std(stream).unwrap()).await
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn we_23_caller_that_ended_before_it_was_looked_at_is_refused() {
    // What the kernel answers for a recycled number: the pidfd of a reaped process, which says -1.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("w.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (helper, _connection) = Helper::connect(&socket, None);
    helper.end();
    let (accepted, _) = listener.accept().unwrap();
    let refused = Caller::of(&accepted, PidProof::StartTime);
    assert!(matches!(refused, Err(PeerError::Ended { .. })), "{refused:?}");
}

#[tokio::test]
async fn we_23_socket_whose_opener_has_ended_gives_nothing_and_its_stream_ends() {
    let node = Node::start(FakeCa::new(vec![entry("w", &[&this_program()])], vec![])).await;
    let (helper, connection) = Helper::connect(&node.socket(), None);
    let client = over(connection).await;
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    helper.end();
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
    assert_eq!(code(client.jwt(&["a"], "").await), Code::PermissionDenied);
}

#[tokio::test]
async fn zombie_gets_nothing() {
    let node = Node::start(FakeCa::new(vec![entry("w", &[&this_program()])], vec![])).await;
    let (mut helper, connection) = Helper::connect(&node.socket(), None);
    let client = over(connection).await;
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    helper.exit();
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
    // Nobody has waited for it: it is still there, and dead.
    assert!(Path::new(&format!("/proc/{}", helper.pid())).exists());
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
}

#[tokio::test]
async fn process_that_became_another_program_loses_the_identity_of_the_first() {
    let node = Node::start(FakeCa::new(vec![entry("w", &[&this_program()])], vec![])).await;
    let (mut helper, connection) = Helper::connect(&node.socket(), None);
    let client = over(connection).await;
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    helper.exec("/bin/cat");
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
    // The open stream is looked at again before it carries another key.
    node.ca.change(|s| s.entries[0].revision += 1);
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
}

#[tokio::test]
async fn exec_between_attestation_and_answer_gets_nothing() {
    let node = Node::start(FakeCa::new(vec![], vec![class("agents", &[&this_program()])])).await;
    node.ca.open.send_replace(false);
    let (mut helper, connection) = Helper::connect(&node.socket(), None);
    let client = over(connection).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.x509().await }
    });
    // The caller was attested and matched: its Begin is at the CA.
    let begun = node.ca.open.clone();
    node.retry(|| async { begun.receiver_count() > 0 }).await;
    helper.exec("/bin/cat");
    node.ca.open.send_replace(true);
    assert_eq!(code(asking.await.unwrap()), Code::Unavailable);
    // Asked again, it is the other program.
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
}

#[tokio::test]
async fn exec_between_attestation_and_token_gets_nothing() {
    let node = Node::start(FakeCa::new(vec![entry("w", &[&this_program()])], vec![])).await;
    let (mut helper, connection) = Helper::connect(&node.socket(), None);
    let client = over(connection).await;
    client.x509().await.unwrap();
    node.ca.open.send_replace(false);
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.jwt(&["a"], "").await }
    });
    let asked = node.ca.open.clone();
    node.retry(|| async { asked.receiver_count() > 0 }).await;
    helper.exec("/bin/cat");
    node.ca.open.send_replace(true);
    assert_eq!(code(asking.await.unwrap()), Code::Unavailable);
}

#[tokio::test]
async fn setuid_program_does_not_lend_its_user_to_who_connected() {
    if !root() {
        eprintln!("skipped: needs root to make a set-uid program");
        return;
    }
    let selectors = ["unix:uid:0", "unix:uid:65534"].map(|uid| entry(&uid.replace(':', "-"), &[uid]));
    let node = Node::start(FakeCa::new(selectors.into(), vec![])).await;
    open_to_all(node.dir.path());
    let program = node.dir.path().join("cat");
    std::fs::copy("/bin/cat", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let (mut helper, connection) = Helper::connect(&node.socket(), Some(65534));
    let client = over(connection).await;
    let before = client.x509().await.unwrap();
    assert_eq!(before.svids[0].spiffe_id, "spiffe://example.org/unix-uid-65534");
    let mut stream = client.watch_x509().await.unwrap();
    next(&mut stream).await.unwrap();
    helper.exec(program.to_str().unwrap());
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper.pid())).unwrap();
    assert!(status.contains("Uid:\t65534\t0\t0\t0"), "the file system ignores set-uid: {status}");
    assert_eq!(code(client.x509().await), Code::PermissionDenied);
    assert_eq!(code(client.jwt(&["a"], "").await), Code::PermissionDenied);
    node.ca.change(|s| s.entries.iter_mut().for_each(|e| e.revision += 1));
    assert_eq!(code(next(&mut stream).await), Code::PermissionDenied);
}

/// Lets other users reach the socket, and run what lies beside it.
fn open_to_all(dir: &Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn we_21_user_decides_whose_identity_it_is() {
    if !root() {
        eprintln!("skipped: needs root to become another user");
        return;
    }
    let node = Node::start(FakeCa::new(vec![entry("w", &["unix:uid:65534"])], vec![])).await;
    open_to_all(node.dir.path());
    let (_other, connection) = Helper::connect(&node.socket(), Some(65534));
    assert!(over(connection).await.x509().await.is_ok());
    assert_eq!(code(node.client().await.x509().await), Code::PermissionDenied);
}

#[tokio::test]
async fn we_22_caller_that_only_opens_the_socket_is_known() {
    // The helper did nothing but connect: the test speaks in its place.
    let node = Node::start(FakeCa::new(vec![entry("w", &[&this_program()])], vec![])).await;
    let (_helper, connection) = Helper::connect(&node.socket(), None);
    assert!(over(connection).await.x509().await.is_ok());
}

#[tokio::test]
async fn deleted_program_keeps_its_digest_and_loses_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("cat");
    std::fs::copy("/bin/cat", &program).unwrap();
    let mut child = Command::new(&program).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let caller = Arc::new(Caller::by_number(child.id().cast_signed()).unwrap());
    let attestors = Attestors::new(vec![Box::new(Unix::new(1 << 30))], Duration::from_secs(10));
    let values = |found: &chancery_core::selector::Selectors, prefix: &str| {
        found.iter().filter(|s| s.value().starts_with(prefix)).map(|s| s.value().to_owned()).collect::<Vec<_>>()
    };
    let before = attestors.attest(&caller).await.unwrap();
    assert_eq!(values(&before, "path:"), [exe_selector(&program).strip_prefix("unix:").unwrap()]);
    std::fs::remove_file(&program).unwrap();
    let after = attestors.attest(&caller).await.unwrap();
    assert_eq!(values(&after, "sha256:"), values(&before, "sha256:"));
    assert_eq!(values(&after, "path:"), [""; 0]);
    // Another file under the name is not what runs.
    std::fs::copy("/bin/true", &program).unwrap();
    assert_eq!(values(&attestors.attest(&caller).await.unwrap(), "path:"), [""; 0]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(attestors.attest(&caller).await, Err(AttestError::Ended { .. })));
}

#[tokio::test]
async fn program_too_large_to_measure_has_no_digest() {
    let caller = Arc::new(Caller::by_number(std::process::id().cast_signed()).unwrap());
    let attestors = Attestors::new(vec![Box::new(Unix::new(10))], Duration::from_secs(10));
    let found = attestors.attest(&caller).await.unwrap();
    assert!(!found.iter().any(|s| s.value().starts_with("sha256:")));
    assert!(found.iter().any(|s| s.value().starts_with("path:")));
}
