//! What a TPM attests to: TPMS_ATTEST of a Quote or a Certify.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{
    constants::{GENERATED, ST_ATTEST_CERTIFY, ST_ATTEST_QUOTE},
    wire::{Reader, WireError},
};

/// Largest attestation structure in bytes.
pub const MAX_ATTEST_BYTES: usize = 1024;
/// Longest name: algorithm id and SHA-512.
const MAX_NAME: usize = 66;
/// Longest qualifying data and PCR digest: SHA-512 and an algorithm id.
const MAX_DATA: usize = 66;
/// Banks in one selection; TPMs have at most five.
const MAX_SELECTIONS: u32 = 16;
/// Bytes of a PCR bitmap; TPMs have 24 PCRs.
const MAX_BITMAP: u8 = 4;

/// A TPMS_ATTEST, borrowed from the bytes that were signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attest<'a> {
    /// Qualified name of the key that signed.
    pub signer: &'a [u8],
    /// Qualifying data of the caller.
    pub extra_data: &'a [u8],
    /// Milliseconds the TPM has been powered.
    pub clock: u64,
    /// Times the TPM was reset.
    pub reset_count: u32,
    /// Times it was restarted or resumed since the reset.
    pub restart_count: u32,
    /// No greater clock was reported before.
    pub safe: bool,
    /// Vendor's number.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested<'a>,
}

/// The part of a TPMS_ATTEST that its type decides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Attested<'a> {
    /// An object is loaded in this TPM.
    Certify {
        /// The object's name.
        name: &'a [u8],
        /// The object's qualified name.
        qualified_name: &'a [u8],
    },
    /// PCRs have these values.
    Quote {
        /// Which, by bank.
        selection: Vec<Selection>,
        /// Digest over the values.
        digest: &'a [u8],
    },
}

/// PCRs of one bank.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    /// TPM_ALG_ID of the bank.
    pub bank: u16,
    /// Indices.
    pub pcrs: BTreeSet<u32>,
}

/// Why bytes are no attestation we take.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AttestError {
    /// Not made by a TPM.
    #[error("the magic is 0x{0:08x}, so no TPM made this structure")]
    Magic(u32),
    /// An attestation of another kind.
    #[error("the attestation is of type 0x{0:04x}, neither quote nor certify")]
    Type(u16),
    /// Not parsable.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Parses a TPMS_ATTEST to its last byte.
///
/// # Errors
/// [`AttestError`]. Source: TPM 2.0 Library, part 2, 10.12.12; CVE-2024-29038 and -29040 (magic unchecked).
pub fn parse(bytes: &[u8]) -> Result<Attest<'_>, AttestError> {
    let mut reader = Reader::new(bytes);
    let magic = reader.u32()?;
    if magic != GENERATED {
        return Err(AttestError::Magic(magic));
    }
    let kind = reader.u16()?;
    if kind != ST_ATTEST_QUOTE && kind != ST_ATTEST_CERTIFY {
        return Err(AttestError::Type(kind));
    }
    let signer = reader.sized("qualifiedSigner", MAX_NAME)?;
    let extra_data = reader.sized("extraData", MAX_DATA)?;
    let (clock, reset_count, restart_count) = (reader.u64()?, reader.u32()?, reader.u32()?);
    let safe = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(WireError::Field("safe").into()),
    };
    let firmware_version = reader.u64()?;
    let attested = if kind == ST_ATTEST_QUOTE { quote(&mut reader)? } else { certify(&mut reader)? };
    reader.end()?;
    Ok(Attest { signer, extra_data, clock, reset_count, restart_count, safe, firmware_version, attested })
}

fn quote<'a>(reader: &mut Reader<'a>) -> Result<Attested<'a>, WireError> {
    let count = reader.u32()?;
    if count > MAX_SELECTIONS {
        return Err(WireError::Field("pcrSelect"));
    }
    let mut selection = Vec::new();
    for _ in 0..count {
        selection.push(one_bank(reader)?);
    }
    Ok(Attested::Quote { selection, digest: reader.sized("pcrDigest", MAX_DATA)? })
}

fn one_bank(reader: &mut Reader<'_>) -> Result<Selection, WireError> {
    let bank = reader.u16()?;
    let len = reader.u8()?;
    if len > MAX_BITMAP {
        return Err(WireError::Field("sizeofSelect"));
    }
    let bits = reader.bytes(usize::from(len))?;
    let mut pcrs = BTreeSet::new();
    for (byte, first) in bits.iter().zip((0u32..).step_by(8)) {
        pcrs.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| first + bit));
    }
    Ok(Selection { bank, pcrs })
}

fn certify<'a>(reader: &mut Reader<'a>) -> Result<Attested<'a>, WireError> {
    Ok(Attested::Certify {
        name: reader.sized("name", MAX_NAME)?,
        qualified_name: reader.sized("qualifiedName", MAX_NAME)?,
    })
}
