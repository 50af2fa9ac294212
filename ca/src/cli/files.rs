//! Files that operators hand in.

use std::{io::Read, path::Path};

use ring::digest::{SHA256, digest};
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
    x509::SubjectPublicKeyInfo,
};

use super::failure::Failure;
pub use crate::keys::file::pem;

/// Largest file taken; a bundle of a hundred authorities has 200 KiB.
const MAX_BYTES: u64 = 4 << 20;

/// Reads a text file.
///
/// # Errors
/// [`Failure::Refused`] with the path.
pub fn text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes(path)?).map_err(|_| Failure::refused(format!("{}: not a text file", path.display())))
}

/// Reads standard input.
///
/// # Errors
/// [`Failure::Refused`].
pub fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|e| Failure::refused(format!("standard input: {e}")))?;
    Ok(text)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e| Failure::refused(format!("{}: {e}", path.display()));
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(Failure::refused(format!("{}: {size} bytes exceed {MAX_BYTES} bytes", path.display())));
    }
    std::fs::read(path).map_err(failed)
}

/// The hash of a public key that an operator names with `option`: 64 hex digits, or a file with its certificate or
/// with the key itself (SubjectPublicKeyInfo).
///
/// # Errors
/// [`Failure::Usage`] where it is neither, [`Failure::Refused`] where the file holds no such thing.
pub fn key_hash(named: &str, option: &str) -> Result<String, Failure> {
    if named.len() == 64 && named.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(named.to_ascii_lowercase());
    }
    let path = Path::new(named);
    if !path.exists() {
        return Err(Failure::usage(format!("{option} '{named}' is neither 64 hex digits nor a file")));
    }
    let content = bytes(path)?;
    let der = match Pem::iter_from_buffer(&content).next() {
        Some(Ok(block)) if ["CERTIFICATE", "PUBLIC KEY"].contains(&block.label.as_str()) => block.contents,
        _ => content,
    };
    if let Ok((_, certificate)) = X509Certificate::from_der(&der) {
        return Ok(hex::encode(digest(&SHA256, certificate.public_key().raw)));
    }
    match SubjectPublicKeyInfo::from_der(&der) {
        Ok(([], _)) => Ok(hex::encode(digest(&SHA256, &der))),
        _ => Err(Failure::refused(format!("{named}: no certificate and no public key in PEM or DER"))),
    }
}
