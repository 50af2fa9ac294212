//! UNIX sockets in folders that nobody else can tamper with.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// Why a socket cannot be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another process serves it.
    #[error("{}: another process serves this socket; stop it or choose another path", .0.display())]
    Busy(PathBuf),
    /// The file system refuses.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The socket or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else may replace the socket.
    #[error("{folder}: others may write to this folder; use a folder of our own or `chmod go-w {folder}`", folder = .0.display())]
    OpenFolder(PathBuf),
}

/// Binds `path` with the permission bits `mode`, creating its folder (0755) when missing and replacing a stale socket.
///
/// # Errors
/// [`SocketError`]; each line says what to do.
pub async fn bind(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.into(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io)?;
    check_folder(folder)?;
    match UnixStream::connect(path).await {
        Ok(_) => return Err(SocketError::Busy(path.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path).map_err(io)?,
    }
    listen(path, mode).map_err(io)
}

/// Nobody can connect before the mode is set: until `listen`, a socket refuses everybody.
fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Every folder on the way up must be ours or root's, and writable by others only when sticky;
/// the socket's own folder must not be writable by others at all.
fn check_folder(folder: &Path) -> Result<(), SocketError> {
    let io = |path: &Path, source| SocketError::Io { path: path.into(), source };
    let folder = folder.canonicalize().map_err(|e| io(folder, e))?;
    let us = rustix::process::geteuid().as_raw();
    for (depth, part) in folder.ancestors().enumerate() {
        let meta = std::fs::metadata(part).map_err(|e| io(part, e))?;
        let open = meta.mode() & 0o022 != 0;
        let sticky = meta.mode() & 0o1000 != 0;
        let foreign = meta.uid() != us && meta.uid() != 0;
        if foreign || (open && (depth == 0 || !sticky)) {
            return Err(SocketError::OpenFolder(part.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s/admin.sock");
        drop(bind(&path, 0o600).await.unwrap());
        let live = bind(&path, 0o600).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(bind(&path, 0o600).await, Err(SocketError::Busy(_))));
        drop(live);
    }

    #[tokio::test]
    async fn a_socket_is_reached_only_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.sock");
        // Wider than any usual umask leaves it: the mode is set, not asked for.
        let listener = bind(&path, 0o666).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o666);
        let (one, other) = tokio::join!(UnixStream::connect(&path), listener.accept());
        assert!(one.is_ok() && other.is_ok());
    }

    #[tokio::test]
    async fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("open");
        std::fs::create_dir(&folder).unwrap();
        for mode in [0o777, 0o1777] {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(bind(&folder.join("s"), 0o600).await, Err(SocketError::OpenFolder(_))));
        }
    }
}
