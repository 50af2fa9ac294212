//! Where a PIN comes from: a file of ours, or the environment, from which it is removed.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStringExt, fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{TokenConfig, uri::Uri};

/// Longest PIN in bytes.
const MAX_BYTES: u64 = 256;
/// What is added to a variable's name when a file descriptor stands for its value.
const HANDED: &str = "_PIN_FD";

/// A PIN; never shown.
#[derive(Clone)]
pub(super) struct Pin(Zeroizing<Vec<u8>>);

/// Why there is no PIN.
#[derive(Clone, Debug, Error)]
#[allow(missing_docs, reason = "fields repeat the variant's sentence")]
pub enum PinError {
    /// Empty, too long, or with line ends.
    #[error("{place}: it holds no PIN: one line of 1 to {MAX_BYTES} bytes")]
    Empty { place: String },
    /// Others may read it.
    #[error("{path}: mode {mode:o} lets others read the PIN; run `chmod 600 {path}`", path = path.display())]
    Mode { path: PathBuf, mode: u32 },
    /// Somebody else can change it.
    #[error("{path}: owned by uid {uid}; the PIN's file must be ours (uid {ours}) or root's", path = path.display())]
    Owner { path: PathBuf, uid: u32, ours: u32 },
    /// Not a file, or not readable.
    #[error("{path}: {why}", path = path.display())]
    Read { path: PathBuf, why: String },
    /// The variable is not set.
    #[error("environment variable {0} with the PIN is not set")]
    Unset(String),
}

impl Pin {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The PIN that the configuration names; `None` where it names none.
pub(super) fn load(config: &TokenConfig, uri: &Uri) -> Result<Option<Pin>, PinError> {
    if let Some(path) = config.pin_file.as_ref().or(uri.pin_source.as_ref()) {
        return from_file(path).map(Some);
    }
    config.pin_env.as_deref().map(from_environment).transpose()
}

fn from_file(path: &Path) -> Result<Pin, PinError> {
    let failed = |why: String| PinError::Read { path: path.into(), why };
    // Judged by the open file: what is read is what was looked at.
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let facts = file.metadata().map_err(|e| failed(e.to_string()))?;
    if !facts.is_file() {
        return Err(failed("not a regular file".into()));
    }
    if facts.mode() & 0o077 != 0 {
        return Err(PinError::Mode { path: path.into(), mode: facts.mode() & 0o7777 });
    }
    let ours = rustix::process::geteuid().as_raw();
    if facts.uid() != ours && facts.uid() != 0 {
        return Err(PinError::Owner { path: path.into(), uid: facts.uid(), ours });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize + 2));
    file.take(MAX_BYTES + 2).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    judged(bytes, || path.display().to_string())
}

/// One line end at the end is an editor's; anywhere else it is no PIN.
fn judged(mut bytes: Zeroizing<Vec<u8>>, place: impl Fn() -> String) -> Result<Pin, PinError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let good = !bytes.is_empty() && bytes.len() as u64 <= MAX_BYTES && !bytes.iter().any(|b| b"\n\r\0".contains(b));
    if good { Ok(Pin(bytes)) } else { Err(PinError::Empty { place: place() }) }
}

/// PINs read from a descriptor, which can be read once; several tokens may have the same variable.
static TAKEN: Mutex<Option<HashMap<String, Pin>>> = Mutex::new(None);

fn from_environment(name: &str) -> Result<Pin, PinError> {
    let place = || format!("environment variable {name}");
    if let Some(value) = env::var_os(name) {
        return judged(Zeroizing::new(value.into_vec()), place);
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_default();
    if let Some(pin) = taken.get(name) {
        return Ok(pin.clone());
    }
    let number = env::var(format!("{name}{HANDED}")).map_err(|_| PinError::Unset(name.into()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{number}"));
    let failed = |e: io::Error| PinError::Read { path: path.clone(), why: e.to_string() };
    let mut file = File::options().read(true).write(true).open(&path).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes).map_err(failed)?;
    // The descriptor stays open and is inherited; what was behind it is gone.
    file.set_len(0).map_err(failed)?;
    let pin = judged(bytes, place)?;
    taken.insert(name.into(), pin.clone());
    Ok(pin)
}

/// Remembers across restarts that a PIN was refused: whoever restarts a daemon must not lock the token.
///
/// Holds no PIN and no hash of one, only which file it came from and when that changed.
pub(super) struct Marker {
    path: PathBuf,
    stamp: String,
    source: String,
}

impl Marker {
    pub(super) fn new(path: PathBuf, config: &TokenConfig, uri: &Uri) -> Self {
        let file = config.pin_file.as_ref().or(uri.pin_source.as_ref());
        let source = match (file, &config.pin_env) {
            (Some(file), _) => file.display().to_string(),
            (None, variable) => format!("environment variable {}", variable.as_deref().unwrap_or("(none)")),
        };
        let changed = file.and_then(|f| f.metadata().ok()).map(|f| (f.ino(), f.ctime(), f.ctime_nsec()));
        let stamp = format!("{}\n{}\n{source}\n{changed:?}\n", config.module.display(), config.uri);
        Self { path, stamp, source }
    }

    /// Why the PIN may not be tried; `None` where it may. A mark of another PIN is removed.
    pub(super) fn stands(&self) -> Option<String> {
        let marked = fs::read_to_string(&self.path).ok()?;
        if marked == self.stamp {
            let (source, path) = (&self.source, self.path.display());
            return Some(format!("the PIN of {source} was refused before; correct it, or remove {path}"));
        }
        if let Err(problem) = fs::remove_file(&self.path) {
            tracing::warn!(%problem, path = %self.path.display(), "mark of a refused PIN");
        }
        None
    }

    pub(super) fn put(&self) {
        if let Err(problem) = crate::file::write_atomic(&self.path, self.stamp.as_bytes(), 0o600) {
            tracing::error!(%problem, path = %self.path.display(), "cannot note that the PIN was refused");
        }
    }
}

/// Takes the PINs in these variables out of the environment: runs this program again, same process ID, with each in
/// memory behind a descriptor that is read once. Returns when there is nothing to take out; never returns otherwise.
///
/// Setting a variable of the own process is `unsafe`, and would leave the value in `/proc/PID/environ`. Called first
/// thing in `main`, while there is one thread.
///
/// # Errors
/// Whatever the kernel says.
pub fn leave_environment(names: &[&str]) -> io::Result<()> {
    let present: Vec<(&str, OsString)> = names.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    if present.is_empty() {
        return Ok(());
    }
    let mut again = Command::new(env::current_exe()?);
    let mut arguments = env::args_os();
    if let Some(own) = arguments.next() {
        again.arg0(own);
    }
    again.args(arguments);
    let mut files = Vec::new();
    for (name, value) in present {
        let value = Zeroizing::new(value.into_vec());
        let mut file = File::from(memfd_create(name, MemfdFlags::empty())?);
        file.write_all(&value)?;
        again.env_remove(name).env(format!("{name}{HANDED}"), file.as_raw_fd().to_string());
        files.push(file);
    }
    Err(again.exec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_line_end_is_dropped_once_and_nothing_else() {
        for (bytes, pin) in [("1234", "1234"), ("1234\n", "1234"), (" 12 ", " 12 ")] {
            let (_dir, path) = file(bytes.as_bytes(), 0o600);
            assert_eq!(from_file(&path).unwrap().bytes(), pin.as_bytes());
        }
        for bad in ["", "\n", "1234\n\n", "12\n34", "12\r\n", "1\u{0}2", &"1".repeat(257)] {
            let (_dir, path) = file(bad.as_bytes(), 0o600);
            assert!(matches!(from_file(&path), Err(PinError::Empty { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_to_do() {
        for mode in [0o640, 0o604, 0o666, 0o610] {
            let (_dir, path) = file(b"1234", mode);
            let told = from_file(&path).err().unwrap().to_string();
            assert!(told.contains("chmod 600") && !told.contains("1234"), "{told}");
        }
        let (_dir, path) = file(b"1234", 0o400);
        assert!(from_file(&path).is_ok());
    }

    #[test]
    fn folders_and_missing_files_are_told_by_path() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("absent")] {
            let told = from_file(&path).err().unwrap().to_string();
            assert!(told.contains(&path.display().to_string()), "{told}");
        }
        assert!(matches!(from_environment("CHANCERY_NO_SUCH_PIN"), Err(PinError::Unset(_))));
    }
}
