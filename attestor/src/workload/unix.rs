use std::{
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::PathBuf,
    sync::Arc,
};

use chancery_core::selector::{Selector, Selectors};
use futures_util::future::BoxFuture;
use rustix::fs::{Mode, OFlags, Stat};

use super::{
    AttestError, WorkloadAttestor,
    digest::{Digests, ExeId},
    names::Names,
    places::Places,
};
use crate::peer::{Caller, Credentials, credentials};

const NAME: &str = "unix";
/// File system type of FUSE: its server may be the caller, and shows each reader what it likes.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Describes a process by its user, its groups and its program.
pub struct Unix {
    inner: Arc<Inner>,
}

struct Inner {
    digests: Digests,
    names: Names,
    places: Places,
}

/// What must be the same before and after the work.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Facts {
    credentials: Credentials,
    exe: ExeId,
    /// Whether the kernel, not a process, says what the file holds.
    measurable: bool,
    path: Option<PathBuf>,
}

impl Unix {
    /// An attestor that measures programs of at most `max_digest_bytes`; a larger one has no `unix:sha256`.
    pub fn new(max_digest_bytes: u64) -> Self {
        let (names, places) = (Names::default(), Places::default());
        Self { inner: Arc::new(Inner { digests: Digests::new(max_digest_bytes), names, places }) }
    }
}

impl WorkloadAttestor for Unix {
    fn name(&self) -> &'static str {
        NAME
    }

    fn attest<'a>(&'a self, caller: &'a Arc<Caller>) -> BoxFuture<'a, Result<Selectors, AttestError>> {
        let (inner, caller) = (Arc::clone(&self.inner), Arc::clone(caller));
        Box::pin(async move {
            // What is known of the program needs a few reads of /proc, which wait for nobody.
            if let Some(found) = inner.known(&caller) {
                return found;
            }
            let work = tokio::task::spawn_blocking(move || inner.attest(&caller));
            work.await.unwrap_or_else(|e| Err(unavailable(&e)))
        })
    }
}

impl Inner {
    /// The same answer as [`attest`](Self::attest) for a program seen lately, without any work that may wait:
    /// the program, what is not the program, the program again. `None` where something has to be looked up.
    fn known(&self, caller: &Caller) -> Option<Result<Selectors, AttestError>> {
        let program = || Some(ExeId::of(&rustix::fs::fstat(open_exe(caller).ok()?).ok()?));
        let exe = program()?;
        let (measurable, path) = self.places.find(&exe, &link_of(caller).ok()?)?;
        let sha256 = if measurable { Some(self.digests.known(caller, &exe)?) } else { None };
        let credentials = credentials(&caller.process.read("status").ok()?)?;
        let gids = credentials.groups.iter().copied().chain([credentials.gid]);
        if !self.names.are_known(credentials.uid, gids) || program()? != exe {
            return None;
        }
        let facts = Facts { credentials, exe, measurable, path };
        Some(check_user(caller, &facts.credentials).map(|()| self.selectors(&facts, sha256)))
    }

    /// Facts, digest, facts again: equal, or nothing. Blocks.
    fn attest(&self, caller: &Caller) -> Result<Selectors, AttestError> {
        let exe = open_exe(caller)?;
        let before = facts(caller, &exe)?;
        check_user(caller, &before.credentials)?;
        let sha256 = match before.measurable {
            true => self.digests.of(caller, &before.exe).map_err(|e| gone_or(caller, &e))?,
            false => None,
        };
        if facts(caller, &open_exe(caller)?)? != before {
            return Err(AttestError::Changed { pid: caller.process.pid() });
        }
        if let Ok(link) = link_of(caller) {
            self.places.keep(before.exe, link, before.measurable, before.path.clone());
        }
        Ok(self.selectors(&before, sha256))
    }

    fn selectors(&self, facts: &Facts, sha256: Option<String>) -> Selectors {
        let mut found = Vec::new();
        let Credentials { uid, gid, groups } = &facts.credentials;
        found.push(format!("uid:{uid}"));
        found.push(format!("gid:{gid}"));
        found.extend(self.names.user(*uid).map(|name| format!("user:{name}")));
        found.extend(self.names.group(*gid).map(|name| format!("group:{name}")));
        for group in groups {
            found.push(format!("supplementary_gid:{group}"));
            found.extend(self.names.group(*group).map(|name| format!("supplementary_group:{name}")));
        }
        found.extend(facts.path.as_ref().and_then(|p| p.to_str()).map(|path| format!("path:{path}")));
        found.extend(sha256.map(|hash| format!("sha256:{hash}")));
        // A value that is no selector (an over-long path) is a fact nobody can ask for: left out.
        found.iter().filter_map(|value| Selector::new(NAME, value).ok()).collect()
    }
}

/// Whoever connected is who it is now.
fn check_user(caller: &Caller, now: &Credentials) -> Result<(), AttestError> {
    match (now.uid, now.gid) == (caller.uid, caller.gid) {
        true => Ok(()),
        false => Err(AttestError::Identity { pid: caller.process.pid(), connected: caller.uid, now: now.uid }),
    }
}

/// What `/proc/<pid>/exe` reads as.
fn link_of(caller: &Caller) -> std::io::Result<PathBuf> {
    let link = rustix::fs::readlinkat(caller.process.dir(), "exe", Vec::new())?;
    Ok(PathBuf::from(std::ffi::OsString::from_vec(link.into_bytes())))
}

/// The program that runs, as a place and not for reading. Needs the caller's uid, root or CAP_SYS_PTRACE.
fn open_exe(caller: &Caller) -> Result<OwnedFd, AttestError> {
    rustix::fs::openat(caller.process.dir(), "exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| gone_or(caller, &e.into()))
}

fn facts(caller: &Caller, exe: &OwnedFd) -> Result<Facts, AttestError> {
    let pid = caller.process.pid();
    let status = caller.process.read("status").map_err(|e| gone_or(caller, &e))?;
    let credentials = credentials(&status).ok_or_else(|| unavailable(&format!("/proc/{pid}/status does not parse")))?;
    let stat = rustix::fs::fstat(exe).map_err(|e| gone_or(caller, &e.into()))?;
    let fs = rustix::fs::fstatfs(exe).map_err(|e| gone_or(caller, &e.into()))?;
    let measurable = u64::try_from(fs.f_type).is_ok_and(|kind| kind != FUSE_MAGIC);
    let path = path_of(caller, &stat).map_err(|e| gone_or(caller, &e))?.filter(|_| measurable);
    Ok(Facts { credentials, exe: ExeId::of(&stat), measurable, path })
}

/// The program's path on this node; `None` where no such path leads to the program that runs.
///
/// `/proc/<pid>/exe` reads as a path in the caller's own mount namespace, and a deleted program keeps its old
/// one. Any user may build a namespace in which `/usr/bin/agent` is what it likes, so the path counts only
/// where it leads to the same file from here.
fn path_of(caller: &Caller, stat: &Stat) -> std::io::Result<Option<PathBuf>> {
    let path = link_of(caller)?;
    let here = std::fs::symlink_metadata(&path);
    Ok(here.is_ok_and(|m| (m.dev(), m.ino()) == (stat.st_dev, stat.st_ino)).then_some(path))
}

/// A failed look at a process that has ended is its end; else it is ours to mend.
fn gone_or(caller: &Caller, error: &std::io::Error) -> AttestError {
    let pid = caller.process.pid();
    if !caller.process.alive() {
        return AttestError::Ended { pid };
    }
    unavailable(&format!("process {pid}: {error} (root or CAP_SYS_PTRACE is needed for other users' processes)"))
}

fn unavailable(problem: &dyn std::fmt::Display) -> AttestError {
    AttestError::Unavailable { attestor: NAME, problem: problem.to_string() }
}
