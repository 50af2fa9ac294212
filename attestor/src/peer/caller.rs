use std::{os::fd::AsFd, sync::Arc};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::time::{ClockId, clock_gettime};

use super::{PeerError, PidProof, Process, credentials};

use chancery_sdk::origin::Origin;

/// Ticks a second of `/proc/<pid>/stat`: USER_HZ is 100 on every architecture we run on.
const TICKS_PER_SECOND: i64 = 100;

/// The process at the other end of a socket, with what it was when it connected.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The process.
    pub process: Arc<Process>,
    /// Effective uid at connect, by the kernel.
    pub uid: u32,
    /// Effective gid at connect, by the kernel.
    pub gid: u32,
    /// How surely `process` is the one that connected.
    pub proof: PidProof,
    /// Which request of somebody's the call is for, as the process says.
    pub origin: Origin,
}

impl Caller {
    /// Asks the kernel who connected. `socket` is a connected UNIX stream; needs a tokio runtime.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::WeakProof`] where the kernel lacks SO_PEERPIDFD and `require` is [`PidProof::PeerPidfd`].
    ///
    /// Source: WE-21 to WE-23; ARCHITECTURE, What kernel facts prove.
    pub fn of(socket: impl AsFd, require: PidProof) -> Result<Self, PeerError> {
        let fd = socket.as_fd();
        // nix, not rustix: there the number is never zero by type, and a caller outside our namespace has number 0.
        let cred = getsockopt(&fd, sockopt::PeerCredentials).map_err(|e| PeerError::kernel("SO_PEERCRED")(e.into()))?;
        let (pid, uid, gid) = (cred.pid(), cred.uid(), cred.gid());
        if pid <= 0 {
            return Err(PeerError::Namespace);
        }
        match getsockopt(&fd, sockopt::PeerPidfd) {
            Ok(pidfd) => Ok(Self {
                process: Arc::new(Process::hold(pid, pidfd)?),
                uid,
                gid,
                proof: PidProof::PeerPidfd,
                origin: Origin::NONE,
            }),
            Err(nix::Error::ENOPROTOOPT) if require == PidProof::StartTime => {
                let process = Arc::new(by_start_time(pid, ticks_now())?);
                Ok(Self { process, uid, gid, proof: PidProof::StartTime, origin: Origin::NONE })
            }
            Err(nix::Error::ENOPROTOOPT) => Err(PeerError::WeakProof),
            // What newer kernels before 6.18 answer for a reaped peer.
            Err(nix::Error::ESRCH | nix::Error::EINVAL) => Err(PeerError::Ended { pid }),
            Err(other) => Err(PeerError::kernel("SO_PEERPIDFD")(other.into())),
        }
    }

    /// The process with this number, as it is now: for an operator who asks, never for a caller.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::Ended`] without such a process.
    pub fn by_number(pid: i32) -> Result<Self, PeerError> {
        let process = Arc::new(Process::by_number(pid)?);
        let status = process.read("status").map_err(|_| PeerError::Ended { pid })?;
        let now = credentials(&status).ok_or(PeerError::Shape { pid, file: "status" })?;
        Ok(Self { process, uid: now.uid, gid: now.gid, proof: PidProof::StartTime, origin: Origin::NONE })
    }
}

/// The weaker way: by number, refused where that process began after the connection was accepted.
fn by_start_time(pid: i32, accepted_ticks: u64) -> Result<Process, PeerError> {
    let process = Process::by_number(pid)?;
    if process.start_ticks() > accepted_ticks {
        return Err(PeerError::Recycled { pid });
    }
    Ok(process)
}

/// Ticks since boot, suspended time included, as the kernel counts process starts.
fn ticks_now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ticks = now.tv_sec * TICKS_PER_SECOND + now.tv_nsec * TICKS_PER_SECOND / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixStream, process::Command};

    use super::*;

    #[tokio::test]
    async fn peer_of_our_own_socket_is_ourselves() {
        let (a, _b) = UnixStream::pair().unwrap();
        let caller = Caller::of(&a, PidProof::StartTime).unwrap();
        assert_eq!(caller.process.pid(), std::process::id().cast_signed());
        assert_eq!(caller.uid, rustix::process::geteuid().as_raw());
        assert!(caller.process.alive());
    }

    #[tokio::test]
    async fn both_ways_of_opening_give_the_same_start_token() {
        let (a, _b) = UnixStream::pair().unwrap();
        let by_socket = Caller::of(&a, PidProof::StartTime).unwrap();
        let by_number = by_start_time(by_socket.process.pid(), ticks_now()).unwrap();
        assert_eq!(by_socket.process.start_token(), by_number.start_token());
    }

    #[tokio::test]
    async fn process_younger_than_the_connection_is_refused_in_the_weak_mode() {
        let accepted = ticks_now();
        while ticks_now() <= accepted + 1 {
            std::hint::spin_loop();
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let result = by_start_time(child.id().cast_signed(), accepted);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(result, Err(PeerError::Recycled { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn end_is_seen_and_a_zombie_is_dead() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::by_number(child.id().cast_signed()).unwrap();
        assert!(process.alive());
        child.kill().unwrap();
        process.ended().await;
        // Not reaped yet: a zombie.
        assert!(!process.alive());
        child.wait().unwrap();
        assert!(!process.alive());
        assert!(process.read("status").is_err());
    }

    #[tokio::test]
    async fn zombie_cannot_be_held() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        if let Ok(process) = Process::by_number(pid) {
            process.ended().await;
        }
        assert!(matches!(Process::by_number(pid), Err(PeerError::Ended { .. })));
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn numbers_that_are_no_process_are_refused() {
        assert!(matches!(Process::by_number(0), Err(PeerError::Namespace)));
        assert!(matches!(Process::by_number(-5), Err(PeerError::Namespace)));
    }
}
