//! A key or certificate in a file an operator names: an upstream's, or a ceremony's.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_daemon::key_type::KeyType;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Signer, software};

/// Largest file read; a chain of ten RSA-4096 certificates has 20 KiB.
const MAX_BYTES: u64 = 256 * 1024;
/// Permission bits that let others than the owner read a key.
const OTHERS: u32 = 0o077;

/// Why a file is not what its key in the configuration says.
#[derive(Debug, Error)]
pub enum FileError {
    /// Something is at the path already.
    #[error("{path} exists already and is never overwritten: move it away or name another file", path = .0.display())]
    Exists(PathBuf),
    /// No certificate, or bytes that are none.
    #[error("{path}: no certificates in PEM form", path = .0.display())]
    NoCertificate(PathBuf),
    /// No key of a known kind.
    #[error("{path}: no P-256, P-384 or RSA key in PKCS#8 form (PEM `PRIVATE KEY`)", path = .0.display())]
    NoKey(PathBuf),
    /// Others than the owner can read it.
    #[error("{path}: mode {mode:o} lets others read this key; run `chmod 600 {path}`", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system.
    #[error("{path}: {source}", path = path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Too many bytes.
    #[error("{path}: {size} bytes exceed {MAX_BYTES} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
}

fn system(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::System { path: path.into(), source }
}

/// Reads a whole file of bounded size.
///
/// # Errors
/// [`FileError::System`], [`FileError::TooLarge`].
pub fn bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let size = fs::metadata(path).map_err(system(path))?.len();
    if size > MAX_BYTES {
        return Err(FileError::TooLarge { path: path.into(), size });
    }
    fs::read(path).map(Zeroizing::new).map_err(system(path))
}

/// Reads a private key: PEM `PRIVATE KEY`, readable by its owner only.
///
/// # Errors
/// [`FileError`].
pub fn signer(path: &Path) -> Result<Arc<dyn Signer>, FileError> {
    let mode = fs::metadata(path).map_err(system(path))?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(FileError::Open { path: path.into(), mode });
    }
    let no_key = || FileError::NoKey(path.into());
    let pem = bytes(path)?;
    let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    let pkcs8 = Zeroizing::new(pkcs8.secret_pkcs8_der().to_vec());
    Ok(Arc::new(software::SoftwareKey::parse(&pkcs8).ok_or_else(no_key)?))
}

/// Reads certificates in PEM form, at least one, in order.
///
/// # Errors
/// [`FileError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = bytes(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    read.ok().filter(|all| !all.is_empty()).ok_or_else(|| FileError::NoCertificate(path.into()))
}

/// Makes a key that exists in memory only, and its PKCS#8 DER.
///
/// # Errors
/// [`super::KeyError::Randomness`].
pub fn fresh(kind: KeyType) -> Result<(Arc<dyn Signer>, Zeroizing<Vec<u8>>), super::KeyError> {
    let pkcs8 = software::generate(kind)?;
    let key = software::SoftwareKey::parse(&pkcs8).ok_or(super::KeyError::Randomness)?;
    Ok((Arc::new(key), pkcs8))
}

/// Writes a file that must not exist, to the disk itself.
///
/// # Errors
/// [`FileError::Exists`], [`FileError::System`]; what was half-written is removed.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(FileError::Exists(path.into())),
        Err(e) => return Err(system(path)(e)),
    };
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|e| {
        // Ours alone: it was made just now.
        let _ = fs::remove_file(path);
        system(path)(e)
    })
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len()).step_by(64).filter_map(|at| body.get(at..body.len().min(at + 64))).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
