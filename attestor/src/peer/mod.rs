//! Who is at the other end of a local socket, by the kernel's word alone.
//!
//! A [`Process`] is a handle on one process: a pidfd and its `/proc` folder, opened while the pidfd said
//! it lived, so both mean that process for ever, whatever happens to its number. A [`Caller`] is the process that
//! connected, with the uid and gid it connected with. Never reads anything the process says about itself.
//! Called by the doors (`api`), by `instance` after a restart, and by `explain`.

mod authority;
mod caller;
mod door;
mod process;
mod stat;
mod token;

pub use caller::Caller;
pub use door::{DoorStream, accept};
pub use process::{PidProof, Process};
pub(crate) use stat::{Credentials, credentials};
pub use token::{StartToken, boot_hash};

use std::io;

use thiserror::Error;

/// Why the process behind a socket is not known.
#[derive(Debug, Error)]
pub enum PeerError {
    /// It was gone before it could be held.
    #[error("process {pid} has ended")]
    Ended {
        /// Its number; -1 where the kernel no longer tells.
        pid: i32,
    },
    /// The kernel does not answer.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The process lives in a PID namespace we cannot see into.
    #[error("the caller lives outside our PID namespace")]
    Namespace,
    /// The kernel names two processes for one socket.
    #[error("socket says process {socket}, its handle says process {handle}")]
    Number {
        /// By SO_PEERCRED.
        socket: i32,
        /// By the pidfd.
        handle: i32,
    },
    /// The process with this number began after the connection was made.
    #[error("process {pid} began after the connection was made: its number was used again")]
    Recycled {
        /// The number.
        pid: i32,
    },
    /// A `/proc` file has another shape than documented.
    #[error("/proc/{pid}/{file} does not parse")]
    Shape {
        /// The process.
        pid: i32,
        /// The file.
        file: &'static str,
    },
    /// The configuration demands a pidfd from the socket and the kernel has none.
    #[error("the kernel gives no SO_PEERPIDFD (Linux 6.5 has it) and require_peer_pidfd is set")]
    WeakProof,
}

impl PeerError {
    pub(crate) fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { what, source }
    }
}
