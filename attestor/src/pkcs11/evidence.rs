use std::path::Path;

use chancery_proto::chancery::attest::pkcs11::v1 as wire;
use x509_parser::pem::Pem;

use crate::config::Pkcs11;

/// Version of the exchange.
const VERSION: u32 = 1;
/// Largest file that is sent; the CA takes 32 KiB in all.
const MAX_BYTES: u64 = 32 << 10;

/// The opening: key, certificate and vendor evidence. Files are read anew each time, so that new ones need no restart.
pub(super) fn payload(config: &Pkcs11, key: &[u8]) -> Result<wire::Payload, String> {
    let certificates = match &config.certificate_file {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let piece = |row: &crate::config::VendorEvidence| {
        Ok::<_, String>(wire::VendorEvidence { kind: row.kind.clone(), evidence: read("vendor", &row.file)? })
    };
    let vendor = config.vendor.iter().map(piece).collect::<Result<_, _>>()?;
    Ok(wire::Payload { version: VERSION, key: key.to_vec(), certificates, vendor })
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = read("certificate_file", path)?;
    let blocks = Pem::iter_from_buffer(&text).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|e| format!("pkcs11.certificate_file {}: {e}", path.display()))?;
    if blocks.is_empty() {
        return Err(format!("pkcs11.certificate_file {}: no PEM certificate in it", path.display()));
    }
    Ok(blocks.into_iter().map(|block| block.contents).collect())
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |problem: String| format!("pkcs11.{key} {}: {problem}", path.display());
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("{size} bytes exceed {MAX_BYTES} bytes")));
    }
    std::fs::read(path).map_err(|e| wrong(e.to_string()))
}
