use std::{fmt, os::fd::OwnedFd};

use ring::digest::{Context, SHA256, digest};

use super::PeerError;

/// File system type of pidfds that have a number of their own (Linux 6.9); before, all share one inode.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// Names one process on one machine for ever; nothing in it can be changed by the process.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StartToken([u8; 32]);

impl StartToken {
    /// SHA-256 over length-prefixed boot id, pid, start ticks and, where unique, the pidfd's inode.
    ///
    /// Source: ARCHITECTURE, Identities.
    pub(super) fn of(boot_id: &str, pid: i32, start_ticks: u64, inode: Option<u64>) -> Self {
        let mut hash = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            hash.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part);
        };
        add(boot_id.as_bytes());
        add(&pid.to_be_bytes());
        add(&start_ticks.to_be_bytes());
        if let Some(inode) = inode {
            add(&inode.to_be_bytes());
        }
        Self::copied(hash.finish().as_ref())
    }

    fn copied(hash: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(hash);
        Self(out)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut out = [0; 32];
        hex::decode_to_slice(text, &mut out).ok()?;
        Some(Self(out))
    }

    /// From 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As 64 hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Debug for StartToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The kernel's name for this boot.
pub(super) fn boot_id() -> Result<String, PeerError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(PeerError::kernel("boot id"))?;
    Ok(text.trim().to_owned())
}

/// SHA-256 of the kernel's name for this boot: what `Reconcile` sends.
///
/// # Errors
/// [`PeerError::Kernel`] where `/proc` is not mounted.
pub fn boot_hash() -> Result<[u8; 32], PeerError> {
    Ok(*StartToken::copied(digest(&SHA256, boot_id()?.as_bytes()).as_ref()).as_bytes())
}

/// The pidfd's inode where it names one process; the same through both ways of opening.
pub(super) fn unique_inode(pidfd: &OwnedFd) -> Option<u64> {
    let fs = rustix::fs::fstatfs(pidfd).ok()?;
    if u64::try_from(fs.f_type).ok()? != PIDFS_MAGIC || cfg!(target_pointer_width = "32") {
        return None;
    }
    rustix::fs::fstat(pidfd).ok().map(|s| s.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_token() {
        let base = StartToken::of("boot", 7, 100, Some(5));
        for other in [
            StartToken::of("boot2", 7, 100, Some(5)),
            StartToken::of("boot", 8, 100, Some(5)),
            StartToken::of("boot", 7, 101, Some(5)),
            StartToken::of("boot", 7, 100, Some(6)),
            StartToken::of("boot", 7, 100, None),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base, StartToken::of("boot", 7, 100, Some(5)));
    }

    #[test]
    fn hex_form_reads_back() {
        let token = StartToken::of("boot", 7, 100, None);
        assert_eq!(StartToken::from_hex(&token.to_hex()), Some(token));
        assert_eq!(StartToken::from_hex("00"), None);
        assert_eq!(StartToken::from_bytes(&token.as_bytes()[..31]), None);
    }
}
