//! Events of a crypto-agile log, and its header.

use super::{LogError, MAX_EVENT_BYTES, MAX_EVENTS, MAX_LOG_BYTES, reader::Reader};
use crate::{
    crypto::sha256,
    evidence::tpm::constants::{ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512, ALG_SM3_256},
};

/// EV_NO_ACTION: tells something, extends nothing.
pub const NO_ACTION: u32 = 0x0000_0003;
/// EV_SEPARATOR.
pub const SEPARATOR: u32 = 0x0000_0004;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_ACTION.
pub const EFI_ACTION: u32 = 0x8000_0007;
/// EV_EFI_VARIABLE_AUTHORITY.
pub const VARIABLE_AUTHORITY: u32 = 0x8000_00e0;

const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";
/// Algorithms a header may list; five are known.
const MAX_ALGORITHMS: usize = 16;
const PCR_COUNT: u32 = 24;

/// One event, borrowed from the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event<'a> {
    /// Its number in the log; the header is 0.
    pub at: usize,
    /// PCR it was measured into; any value for EV_NO_ACTION.
    pub pcr: u32,
    /// Claimed type, never authenticated.
    pub kind: u32,
    /// SHA-256 digest.
    pub digest: [u8; 32],
    /// Claimed data; true only where [`Event::proven`] says so.
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// The data, where it hashes to the digest.
    ///
    /// # Errors
    /// [`LogError::DataDigest`].
    pub fn proven(&self) -> Result<&'a [u8], LogError> {
        if sha256(&[self.data]) == self.digest { Ok(self.data) } else { Err(LogError::DataDigest(self.at)) }
    }

    pub(super) fn malformed(&self, what: &'static str) -> LogError {
        LogError::Malformed { at: self.at, what }
    }

    pub(super) fn out_of_order(&self, what: &'static str) -> LogError {
        LogError::Order { at: self.at, what }
    }
}

/// Parses a whole log to its last byte.
///
/// # Errors
/// [`LogError::Bank`] for a log without SHA-256 (also the old format), else [`LogError::Malformed`].
pub fn parse(bytes: &[u8]) -> Result<Vec<Event<'_>>, LogError> {
    let header = |what| LogError::Malformed { at: 0, what };
    if bytes.len() > MAX_LOG_BYTES {
        return Err(header("the log exceeds 1 MiB"));
    }
    let mut reader = Reader::new(bytes);
    let algorithms = spec_id(&mut reader).ok_or(header("the header is cut off or exceeds a limit"))??;
    let mut events = Vec::new();
    while reader.left() > 0 {
        let at = events.len() + 1;
        if at > MAX_EVENTS {
            return Err(LogError::Malformed { at, what: "the log has more than 4096 events" });
        }
        let event = one(at, &mut reader, &algorithms);
        events.push(event.ok_or(LogError::Malformed { at, what: "the event is cut off or exceeds a limit" })??);
    }
    Ok(events)
}

/// The first event, in the old format, lists the algorithms: (id, digest size).
fn spec_id(reader: &mut Reader<'_>) -> Option<Result<Vec<(u16, usize)>, LogError>> {
    let (_pcr, kind) = (reader.u32()?, reader.u32()?);
    reader.bytes(20)?; // SHA-1 digest
    let len = reader.len(MAX_EVENT_BYTES)?;
    let data = reader.bytes(len)?;
    if kind != NO_ACTION || !data.starts_with(SIGNATURE) {
        return Some(Err(LogError::Bank)); // the format of TPM 1.2: SHA-1 only
    }
    let mut spec = Reader::new(data);
    spec.bytes(SIGNATURE.len() + 8)?; // platformClass, versions, uintnSize
    let count = spec.len(MAX_ALGORITHMS)?;
    let mut algorithms = Vec::new();
    for _ in 0..count {
        let (id, size) = (spec.u16()?, usize::from(spec.u16()?));
        if digest_size(id) != Some(size) || algorithms.contains(&(id, size)) {
            return Some(Err(LogError::Malformed {
                at: 0,
                what: "an algorithm is unknown, doubled or of another size",
            }));
        }
        algorithms.push((id, size));
    }
    let vendor = usize::from(spec.u8()?);
    if spec.left() != vendor {
        return None;
    }
    Some(if algorithms.contains(&(ALG_SHA256, 32)) { Ok(algorithms) } else { Err(LogError::Bank) })
}

fn digest_size(algorithm: u16) -> Option<usize> {
    match algorithm {
        ALG_SHA1 => Some(20),
        ALG_SHA256 | ALG_SM3_256 => Some(32),
        ALG_SHA384 => Some(48),
        ALG_SHA512 => Some(64),
        _ => None,
    }
}

fn one<'a>(at: usize, reader: &mut Reader<'a>, algorithms: &[(u16, usize)]) -> Option<Result<Event<'a>, LogError>> {
    let (pcr, kind) = (reader.u32()?, reader.u32()?);
    let count = reader.len(algorithms.len())?;
    let mut sha256 = None;
    for _ in 0..count {
        let id = reader.u16()?;
        let (_, size) = algorithms.iter().find(|(known, _)| *known == id)?;
        let digest = reader.bytes(*size)?;
        if id == ALG_SHA256 && sha256.replace(digest).is_some() {
            return Some(Err(LogError::Malformed { at, what: "two SHA-256 digests" }));
        }
    }
    let len = reader.len(MAX_EVENT_BYTES)?;
    let data = reader.bytes(len)?;
    if pcr >= PCR_COUNT && kind != NO_ACTION {
        return Some(Err(LogError::Malformed { at, what: "a PCR that does not exist" }));
    }
    let Some(digest) = sha256.and_then(|digest| digest.try_into().ok()) else { return Some(Err(LogError::Bank)) };
    Some(Ok(Event { at, pcr, kind, digest, data }))
}
