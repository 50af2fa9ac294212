//! Files that operators hand in.

use std::{io::Read, path::Path};

use ring::digest::{SHA256, digest};
use x509_parser::{
    pem::Pem,
    prelude::{FromDer, X509Certificate},
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

/// The EK hash an operator names: 64 hex digits, or a file with the EK certificate.
///
/// # Errors
/// [`Failure::Usage`] where it is neither, [`Failure::Refused`] where the file holds no certificate.
pub fn ek_hash(named: &str) -> Result<String, Failure> {
    if named.len() == 64 && named.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(named.to_ascii_lowercase());
    }
    let path = Path::new(named);
    if !path.exists() {
        return Err(Failure::usage(format!("--ek '{named}' is neither 64 hex digits nor a file")));
    }
    let content = bytes(path)?;
    let wrong = || Failure::refused(format!("{named}: no certificate in PEM or DER"));
    let der = match Pem::iter_from_buffer(&content).next() {
        Some(Ok(block)) if block.label == "CERTIFICATE" => block.contents,
        _ => content,
    };
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| wrong())?;
    Ok(hex::encode(digest(&SHA256, certificate.public_key().raw)))
}
