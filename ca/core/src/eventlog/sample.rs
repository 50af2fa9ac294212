//! Builds event logs, good and bad, so that no third-party log has to be kept.

use crate::crypto::sha256;

use super::event::{
    BOOT_SERVICES_APPLICATION, EFI_ACTION, NO_ACTION, SEPARATOR, VARIABLE_AUTHORITY, VARIABLE_DRIVER_CONFIG,
};

pub(crate) const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
pub(crate) const SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";

/// One event: PCR, type, digest, data.
pub(crate) type Row = (u32, u32, [u8; 32], Vec<u8>);

/// An event whose data hashes to its digest.
pub(crate) fn row(pcr: u32, kind: u32, data: &[u8]) -> Row {
    (pcr, kind, sha256(&[data]), data.to_vec())
}

pub(crate) fn variable(guid: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = hex::decode(guid).unwrap();
    out.extend((name.len() as u64).to_le_bytes());
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    out.extend(value);
    out
}

/// An EFI_SIGNATURE_LIST with one signature of 32 bytes and these sizes in its header.
pub(crate) fn signature_list(list: u32, header: u32, size: u32) -> Vec<u8> {
    let mut out = vec![1; 16];
    [list, header, size].iter().for_each(|n| out.extend(n.to_le_bytes()));
    out.extend([2; 48]);
    out
}

pub(crate) fn good_list() -> Vec<u8> {
    signature_list(28 + 48, 0, 48)
}

pub(crate) fn config(guid: &str, name: &str, value: &[u8]) -> Row {
    row(7, VARIABLE_DRIVER_CONFIG, &variable(guid, name, value))
}

pub(crate) fn separator(pcr: u32) -> Row {
    row(pcr, SEPARATOR, &[0; 4])
}

/// The authority that [`good`] shows: owner and certificate.
pub(crate) fn authority() -> Row {
    row(7, VARIABLE_AUTHORITY, &variable(SECURITY, "db", &[[9; 16].as_slice(), b"certificate"].concat()))
}

/// A machine with secure boot on that started one program.
pub(crate) fn good() -> Vec<Row> {
    vec![
        row(0, 0x8, b"firmware 1.0"),
        config(GLOBAL, "SecureBoot", &[1]),
        config(GLOBAL, "PK", &good_list()),
        config(GLOBAL, "KEK", &good_list()),
        config(SECURITY, "db", &good_list()),
        config(SECURITY, "dbx", &[]),
        row(4, EFI_ACTION, b"Calling EFI Application from Boot Option"),
        separator(4),
        separator(7),
        authority(),
        (4, BOOT_SERVICES_APPLICATION, [0x5a; 32], b"device path".to_vec()),
    ]
}

/// The header: algorithms with their digest sizes.
pub(crate) fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut spec = b"Spec ID Event03\0".to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend((algorithms.len() as u32).to_le_bytes());
    for (id, size) in algorithms {
        spec.extend(id.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    let mut out = Vec::new();
    out.extend(0u32.to_le_bytes());
    out.extend(NO_ACTION.to_le_bytes());
    out.extend([0; 20]);
    out.extend((spec.len() as u32).to_le_bytes());
    out.extend(spec);
    out
}

/// A log with a SHA-256 bank.
pub(crate) fn bytes(rows: &[Row]) -> Vec<u8> {
    let mut out = header(&[(0x000b, 32)]);
    for (pcr, kind, digest, data) in rows {
        out.extend(pcr.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(0x000bu16.to_le_bytes());
        out.extend(digest);
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(data);
    }
    out
}
