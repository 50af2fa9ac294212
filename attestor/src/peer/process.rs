use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{PeerError, StartToken, stat, token};

/// Longest `/proc` file read: `status` with 65,536 groups of 11 bytes fits.
const MAX_PROC_BYTES: u64 = 1 << 20;

/// How surely a process is the one that connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PidProof {
    /// The kernel handed out the pidfd of the peer itself (SO_PEERPIDFD, Linux 6.5).
    PeerPidfd,
    /// Found by number, with a start before the connection was accepted. A number that was used again
    /// between connect and accept beats it: tedious, not impossible.
    StartTime,
}

impl PidProof {
    /// The word on the wire, in events and in `doctor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PeerPidfd => "peer-pidfd",
            Self::StartTime => "start-time",
        }
    }
}

impl fmt::Display for PidProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A handle on one process, which no reuse of its number can redirect.
pub struct Process {
    pid: i32,
    pidfd: AsyncFd<OwnedFd>,
    /// `/proc/<pid>`, opened while the process lived: reads through it fail once it is gone.
    dir: OwnedFd,
    start_token: StartToken,
    start_ticks: u64,
}

impl Process {
    /// Holds the process with this number, if there is one. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`PeerError::Ended`] without such a process; [`PeerError::Kernel`].
    pub fn by_number(pid: i32) -> Result<Self, PeerError> {
        // Checked first: `from_raw` takes no negative number.
        let number = (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or(PeerError::Namespace)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|e| match e {
            rustix::io::Errno::SRCH => PeerError::Ended { pid },
            other => PeerError::Kernel { what: "pidfd_open", source: other.into() },
        })?;
        Self::hold(pid, pidfd)
    }

    /// Joins a pidfd with the `/proc` folder of its process, `pid` by its socket.
    ///
    /// The order is the proof: number of the pidfd, folder, still alive, only then the first fact.
    pub(super) fn hold(pid: i32, pidfd: OwnedFd) -> Result<Self, PeerError> {
        match number_behind(&pidfd)? {
            handle if handle == pid => {}
            handle if handle < 0 => return Err(PeerError::Ended { pid: handle }),
            0 => return Err(PeerError::Namespace),
            handle => return Err(PeerError::Number { socket: pid, handle }),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).map_err(|_| PeerError::Ended { pid })?;
        if !is_alive(pidfd.as_fd())? {
            return Err(PeerError::Ended { pid });
        }
        let text = read_file(&dir, "stat").map_err(|_| PeerError::Ended { pid })?;
        let start_ticks = stat::start_ticks(&text).ok_or(PeerError::Shape { pid, file: "stat" })?;
        let inode = token::unique_inode(&pidfd);
        let start_token = StartToken::of(&token::boot_id()?, pid, start_ticks, inode);
        Ok(Self { pid, pidfd: watchable(pidfd)?, dir, start_token, start_ticks })
    }

    /// Its number in our PID namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Names this process on this machine for ever.
    pub fn start_token(&self) -> StartToken {
        self.start_token
    }

    /// When it began, in ticks since boot.
    pub(super) fn start_ticks(&self) -> u64 {
        self.start_ticks
    }

    /// Whether it still lives; a zombie does not. Asked once more immediately before anything is released.
    pub fn alive(&self) -> bool {
        // A pidfd that cannot be asked proves nothing: then it counts as dead.
        is_alive(self.pidfd.get_ref().as_fd()).unwrap_or(false)
    }

    /// Waits for its end. May be called by any number of tasks.
    pub async fn ended(&self) {
        // An error means the runtime is going away; then nobody is served any more either.
        let _ = self.pidfd.readable().await;
    }

    /// Reads one of its `/proc` files, at most 1 MiB. Blocks: the kernel may wait for the process's locks.
    ///
    /// # Errors
    /// The kernel's; `ESRCH` once the process is gone.
    pub fn read(&self, file: &str) -> io::Result<String> {
        read_file(&self.dir, file)
    }

    /// Its `/proc` folder.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .field("start_token", &self.start_token)
            .finish_non_exhaustive()
    }
}

/// The one place where a descriptor is given to the reactor.
#[expect(
    deprecated,
    reason = "the replacement is an unsafe fn; an OwnedFd meets its conditions: it owns and does not change its descriptor"
)]
fn watchable(pidfd: OwnedFd) -> Result<AsyncFd<OwnedFd>, PeerError> {
    AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(PeerError::kernel("watch of a pidfd"))
}

/// A pidfd is readable from the end of its process on.
fn is_alive(pidfd: BorrowedFd<'_>) -> Result<bool, PeerError> {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now))
        .map_err(|e| PeerError::kernel("poll of a pidfd")(e.into()))?;
    Ok(ready == 0)
}

/// The process a pidfd stands for: -1 once reaped, 0 outside our PID namespace.
fn number_behind(pidfd: &OwnedFd) -> Result<i32, PeerError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(PeerError::kernel("fdinfo of a pidfd"))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|v| v.trim().parse().ok());
    number.ok_or(PeerError::Shape { pid: 0, file: "fdinfo" })
}

fn read_file(dir: &OwnedFd, file: &str) -> io::Result<String> {
    let fd = rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // A `status` is 1.5 KiB: one read, and one that says it was all.
    let mut text = Vec::with_capacity(4096);
    File::from(fd).take(MAX_PROC_BYTES).read_to_end(&mut text)?;
    // The name of a program may be any bytes; numbers, which is all we read, are ASCII.
    Ok(String::from_utf8_lossy(&text).into_owned())
}
