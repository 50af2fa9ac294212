use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    sync::{Mutex, PoisonError},
};

use chancery_daemon::clock;
use ring::digest::{Context, SHA256};
use rustix::fs::{Mode, OFlags, Stat};

use crate::peer::Caller;

/// Bytes read at once.
const CHUNK: usize = 128 << 10;
/// Digests kept; a node runs fewer distinct programs of agents.
const MAX_KEPT: usize = 4096;
/// A file changed this lately is measured each time: two changes within one tick of the file system's clock
/// (4 ms) share a ctime, and the first content's digest would pass for the second.
const SETTLED_SECS: i64 = 2;

/// Which file a program is, and which state of it: any write, rename or link changes the ctime.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ExeId {
    device: u64,
    inode: u64,
    ctime: (i64, i64),
    size: i64,
}

impl ExeId {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            ctime: (stat.st_ctime, stat.st_ctime_nsec.cast_signed()),
            size: stat.st_size,
        }
    }

    fn settled(&self) -> bool {
        clock::now().0.saturating_sub(self.ctime.0) >= SETTLED_SECS
    }
}

/// SHA-256 of running programs, each read once while its file stays as it is.
pub(super) struct Digests {
    max_bytes: u64,
    /// Guards the map only; held for a look-up or an insertion. The key has the caller's uid and gid in it.
    kept: Mutex<HashMap<(ExeId, u32, u32), String>>,
}

impl Digests {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, kept: Mutex::default() }
    }

    /// The digest, if it was measured before.
    pub(super) fn known(&self, caller: &Caller, exe: &ExeId) -> Option<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&(*exe, caller.uid, caller.gid)).cloned()
    }

    /// Lower-case hex digest of the program the caller runs, which must be `exe`; `None` where it is too large. Blocks.
    pub(super) fn of(&self, caller: &Caller, exe: &ExeId) -> io::Result<Option<String>> {
        if let Some(known) = self.known(caller, exe) {
            return Ok(Some(known));
        }
        if u64::try_from(exe.size).map_or(true, |size| size > self.max_bytes) {
            tracing::warn!(
                pid = caller.process.pid(),
                size = exe.size,
                max = self.max_bytes,
                "program too large to measure"
            );
            return Ok(None);
        }
        let fd = rustix::fs::openat(caller.process.dir(), "exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let Some(hash) = sha256(File::from(fd), self.max_bytes)? else { return Ok(None) };
        if exe.settled() {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
            kept.insert((*exe, caller.uid, caller.gid), hash.clone());
        }
        Ok(Some(hash))
    }
}

/// Streams `file` through SHA-256; `None` when it holds more than `max_bytes`.
fn sha256(mut file: impl Read, max_bytes: u64) -> io::Result<Option<String>> {
    let (mut hash, mut chunk, mut total) = (Context::new(&SHA256), vec![0; CHUNK], 0_u64);
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(Some(hex::encode(hash.finish())));
        }
        total += n as u64;
        if total > max_bytes {
            return Ok(None);
        }
        hash.update(&chunk[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_over_the_limit_has_no_digest() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256(&b""[..], 0).unwrap().as_deref(), Some(empty));
        assert!(sha256(&b"12345"[..], 5).unwrap().is_some());
        assert_eq!(sha256(&b"123456"[..], 5).unwrap(), None);
    }
}
