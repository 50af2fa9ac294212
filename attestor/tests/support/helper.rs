//! Processes of their own, made of this very test program.
//!
//! A helper connects to the workload socket as itself and hands the connection to the test, so that the test
//! speaks over a socket whose peer is the helper. Then it does what it is told, a line at a time.

use std::{
    io::{BufRead, BufReader, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The test that is the helper's body; each test file has it.
const BODY: &str = "helper_process";
const CONTROL: &str = "CHANCERY_HELPER_CONTROL";
const SOCKET: &str = "CHANCERY_HELPER_SOCKET";

/// Another process.
pub struct Helper {
    pub child: Child,
    output: BufReader<std::process::ChildStdout>,
    dir: tempfile::TempDir,
}

impl Helper {
    /// Starts one as `uid`, which connects to `socket`; gives it and its connection.
    pub fn connect(socket: &Path, uid: Option<u32>) -> (Self, UnixStream) {
        let dir = tempfile::tempdir_in(socket.parent().unwrap()).unwrap();
        let control = dir.path().join("c");
        let listener = UnixListener::bind(&control).unwrap();
        for path in [dir.path(), &control] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", BODY, "--nocapture", "--test-threads=1"]);
        command.env(CONTROL, &control).env(SOCKET, socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (control, _) = listener.accept().unwrap();
        std::fs::write(dir.path().join("here"), "HERE\n").unwrap();
        (Self { child, output, dir }, receive(&control).into())
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Becomes `program`, a `cat`, which is running when this returns: it has printed a file and reads on.
    pub fn exec(&mut self, program: &str) {
        self.tell(&format!("exec {program} {}", self.dir.path().join("here").display()));
        let mut line = String::new();
        while !line.contains("HERE") {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the helper is gone");
        }
    }

    /// Ends and is reaped.
    pub fn end(mut self) {
        self.exit();
        self.child.wait().unwrap();
    }

    /// Ends and stays a zombie.
    pub fn exit(&mut self) {
        self.child.kill().unwrap();
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper's body: nothing unless started by [`Helper::connect`].
pub fn body() {
    let Ok(control) = std::env::var(CONTROL) else { return };
    let connection = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    send(&UnixStream::connect(control).unwrap(), connection.as_fd());
    for line in std::io::stdin().lines() {
        if let Some((program, here)) = line.unwrap().strip_prefix("exec ").and_then(|rest| rest.split_once(' ')) {
            panic!("{}", Command::new(program).args([here, "-"]).exec());
        }
    }
}

fn send(control: &UnixStream, fd: std::os::fd::BorrowedFd<'_>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(control, &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
}

fn receive(control: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.expect("a connection from the helper")
}
