//! PCR 7: whether secure boot was on, and whose signatures were used.
//!
//! The sequence is fixed: SecureBoot, PK, KEK, db, dbx (then perhaps dbt, dbr), one separator, then
//! authorities. Source: PC Client Platform Firmware Profile 1.06, 3.3.4.8; the disclosure of go-attestation
//! (types of events are not authenticated).

use super::{
    LogError,
    event::{EFI_ACTION, Event, NO_ACTION, SEPARATOR, VARIABLE_AUTHORITY, VARIABLE_DRIVER_CONFIG},
    reader::Reader,
};
use crate::crypto::sha256;

/// EFI_GLOBAL_VARIABLE.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE_GUID.
const SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// Variables before the separator, in order; those from [`REQUIRED`] on may be missing.
const VARIABLES: [(&str, [u8; 16]); 7] = [
    ("SecureBoot", GLOBAL),
    ("PK", GLOBAL),
    ("KEK", GLOBAL),
    ("db", SECURITY),
    ("dbx", SECURITY),
    ("dbt", SECURITY),
    ("dbr", SECURITY),
];
const REQUIRED: usize = 5;
/// Longest variable name in UTF-16 units.
const MAX_NAME: usize = 64;
/// SignatureOwner before each signature.
const OWNER_BYTES: usize = 16;
const DEBUG_MODE: &[u8] = b"UEFI Debug Mode";
const DMA_OFF: [&[u8]; 2] = [b"DMA Protection Disabled", b"DMA Protection Disabled\0"];

/// What PCR 7 proves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecureBoot {
    /// Signatures were enforced.
    pub on: bool,
    /// The firmware said that DMA protection is off.
    pub dma_protection_off: bool,
    /// SHA-256 of each authority used after the separator: of the certificate where it is db's, else of the
    /// whole value. `None` where the data does not hash to its digest.
    pub authorities: Vec<Option<[u8; 32]>>,
}

/// Reads PCR 7 strictly.
///
/// # Errors
/// [`LogError`] for anything that is not the fixed sequence with proven data.
pub fn read(events: &[Event<'_>]) -> Result<SecureBoot, LogError> {
    let mut found = SecureBoot::default();
    let (mut variables, mut separated, mut last) = (0, false, 0);
    for event in events.iter().filter(|e| e.pcr == 7 && e.kind != NO_ACTION) {
        last = event.at;
        match (event.kind, separated) {
            (VARIABLE_DRIVER_CONFIG, false) => {
                variables = driver_config(event, variables, &mut found)?;
            }
            (EFI_ACTION, false) => action(event, &mut found)?,
            (SEPARATOR, false) if event.proven()? == [0; 4] && variables >= REQUIRED => separated = true,
            (VARIABLE_AUTHORITY, true) => found.authorities.push(authority(event)?),
            _ => return Err(event.out_of_order("this event does not belong here in PCR 7")),
        }
    }
    if separated { Ok(found) } else { Err(LogError::Order { at: last, what: "PCR 7 has no separator" }) }
}

/// The position after this variable in the fixed sequence.
fn driver_config(event: &Event<'_>, from: usize, found: &mut SecureBoot) -> Result<usize, LogError> {
    let (name, guid, value) = variable(event.proven()?).ok_or(event.malformed("no UEFI variable"))?;
    let at = VARIABLES.iter().position(|(known, owner)| *known == name && *owner == guid);
    let Some(at) = at.filter(|at| *at == from || (from >= REQUIRED && *at > from)) else {
        return Err(event.out_of_order("the variable is unknown or out of order"));
    };
    if at == 0 {
        found.on = match value {
            [1] => true,
            [] | [0] => false,
            _ => return Err(event.out_of_order("SecureBoot is neither 0 nor 1")),
        };
    } else {
        signature_lists(value).ok_or(event.malformed("the signature list is not well-formed"))?;
    }
    Ok(at + 1)
}

fn action(event: &Event<'_>, found: &mut SecureBoot) -> Result<(), LogError> {
    match event.proven()? {
        text if DMA_OFF.contains(&text) => found.dma_protection_off = true,
        text if text.starts_with(DEBUG_MODE) => return Err(event.out_of_order("the firmware is in debug mode")),
        _ => return Err(event.out_of_order("an unknown action in PCR 7")),
    }
    Ok(())
}

fn authority(event: &Event<'_>) -> Result<Option<[u8; 32]>, LogError> {
    let Ok(data) = event.proven() else { return Ok(None) };
    let (name, _, value) = variable(data).ok_or(event.malformed("no UEFI variable"))?;
    if name != "db" {
        return Ok(Some(sha256(&[value])));
    }
    let certificate = value.get(OWNER_BYTES..).ok_or(event.malformed("the authority is shorter than its owner"))?;
    Ok(Some(sha256(&[certificate])))
}

/// UEFI_VARIABLE_DATA: name, owner and value.
fn variable(data: &[u8]) -> Option<(String, [u8; 16], &[u8])> {
    let mut reader = Reader::new(data);
    let guid = reader.bytes(16)?.try_into().ok()?;
    let name_len = usize::try_from(reader.u64()?).ok().filter(|len| *len <= MAX_NAME)?;
    let value_len = usize::try_from(reader.u64()?).ok()?;
    let units: Option<Vec<u16>> = (0..name_len).map(|_| reader.u16()).collect();
    let name = String::from_utf16(&units?).ok()?;
    let value = reader.rest();
    (value.len() == value_len).then_some((name, guid, value))
}

/// Walks EFI_SIGNATURE_LISTs; each step goes forward by at least a header. Source: UEFI 2.10, 32.4.1.
fn signature_lists(value: &[u8]) -> Option<()> {
    let mut reader = Reader::new(value);
    while reader.left() > 0 {
        reader.bytes(16)?; // SignatureType
        let (list, header, size) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let body = reader.bytes(usize::try_from(list.checked_sub(28)?).ok()?)?;
        let signatures = body.get(usize::try_from(header).ok()?..)?;
        let size = usize::try_from(size).ok().filter(|size| *size > OWNER_BYTES)?;
        if !signatures.len().is_multiple_of(size) {
            return None;
        }
    }
    Some(())
}
