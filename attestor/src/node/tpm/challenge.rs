use chancery_proto::chancery::attest::tpm::v1 as wire;
use prost::Message;

use crate::tpm::{BANK_SHA256, BANK_SHA384};

/// Largest challenge; an RSA-2048 credential is 400 bytes.
const MAX_BYTES: usize = 4096;
/// Of the CA's nonce, exactly.
const NONCE_BYTES: usize = 32;
/// Largest TPMS_ID_OBJECT and TPM2B_ENCRYPTED_SECRET contents (RSA-2048: 256).
const MAX_ID_OBJECT_BYTES: usize = 132;
const MAX_SECRET_BYTES: usize = 512;
/// PCRs a TPM has by the PC Client profile.
const PCRS: u32 = 24;
/// PCRs that any software may reset: a quote over them says nothing.
const RESETTABLE: [u32; 2] = [16, 23];

/// A challenge that a genuine CA might send; anything else is not answered (case 56 of the TPM threat table).
#[derive(Debug)]
pub(super) struct Asked {
    /// TPM algorithm ID of the PCR bank.
    pub(super) bank: u16,
    /// Ascending, unique, none resettable, at least one.
    pub(super) pcrs: Vec<u8>,
    /// ID object and encrypted secret.
    pub(super) credential: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) log_wanted: bool,
}

impl Asked {
    pub(super) fn parse(challenge: &[u8]) -> Result<Self, String> {
        if challenge.len() > MAX_BYTES {
            return Err(format!("{} bytes exceed {MAX_BYTES} bytes", challenge.len()));
        }
        let challenge = wire::Challenge::decode(challenge).map_err(|e| e.to_string())?;
        if challenge.nonce.len() != NONCE_BYTES {
            return Err(format!("its nonce is {} bytes, not {NONCE_BYTES}", challenge.nonce.len()));
        }
        let (bank, pcrs) = selection(challenge.pcrs.ok_or("it names no PCRs")?)?;
        let credential = challenge.credential.map(credential).transpose()?;
        Ok(Self { bank, pcrs, credential, log_wanted: challenge.log_wanted })
    }
}

fn selection(selection: wire::PcrSelection) -> Result<(u16, Vec<u8>), String> {
    let bank = u16::try_from(selection.bank).ok().filter(|bank| [BANK_SHA256, BANK_SHA384].contains(bank));
    let bank = bank.ok_or_else(|| format!("PCR bank {:#06x} is neither SHA-256 nor SHA-384", selection.bank))?;
    let pcrs = &selection.pcrs;
    if pcrs.is_empty() {
        return Err("it names no PCRs".into());
    }
    if !pcrs.is_sorted_by(|a, b| a < b) || pcrs.iter().any(|pcr| *pcr >= PCRS) {
        return Err(format!("PCRs {pcrs:?} are not ascending, unique and below {PCRS}"));
    }
    if let Some(pcr) = pcrs.iter().find(|pcr| RESETTABLE.contains(pcr)) {
        return Err(format!("PCR {pcr} may be reset by anybody"));
    }
    Ok((bank, pcrs.iter().filter_map(|pcr| u8::try_from(*pcr).ok()).collect()))
}

fn credential(credential: wire::Credential) -> Result<(Vec<u8>, Vec<u8>), String> {
    let (id, secret) = (credential.id_object.len(), credential.encrypted_secret.len());
    if id == 0 || id > MAX_ID_OBJECT_BYTES || secret == 0 || secret > MAX_SECRET_BYTES {
        return Err(format!(
            "its credential has {id} and {secret} bytes, allowed are {MAX_ID_OBJECT_BYTES} and {MAX_SECRET_BYTES}"
        ));
    }
    Ok((credential.id_object, credential.encrypted_secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn honest() -> wire::Challenge {
        wire::Challenge {
            nonce: vec![7; 32],
            credential: Some(wire::Credential { id_object: vec![1; 68], encrypted_secret: vec![2; 256] }),
            pcrs: Some(wire::PcrSelection { bank: 0x000b, pcrs: (0..8).collect() }),
            log_wanted: true,
            expires_in: 60,
        }
    }

    fn parse(change: impl FnOnce(&mut wire::Challenge)) -> Result<Asked, String> {
        let mut challenge = honest();
        change(&mut challenge);
        Asked::parse(&challenge.encode_to_vec())
    }

    #[test]
    fn an_honest_challenge_is_taken() {
        let asked = parse(|_| ()).unwrap();
        assert_eq!((asked.bank, asked.pcrs), (0x000b, (0..8).collect::<Vec<u8>>()));
        assert!(parse(|c| c.credential = None).unwrap().credential.is_none());
    }

    #[test]
    fn a_quote_over_resettable_or_no_pcrs_is_refused() {
        for pcrs in [vec![], vec![16], vec![23], vec![0, 7, 16], vec![7, 23], vec![24], vec![1, 1], vec![2, 1]] {
            let set = pcrs.clone();
            assert!(parse(|c| c.pcrs = Some(wire::PcrSelection { bank: 0x000b, pcrs: set })).is_err(), "{pcrs:?}");
        }
        assert!(parse(|c| c.pcrs = None).is_err());
        assert!(parse(|c| c.pcrs.as_mut().unwrap().bank = 4).is_err(), "SHA-1");
    }

    #[test]
    fn a_nonce_that_is_not_32_bytes_is_refused() {
        for len in [0, 31, 33] {
            assert!(parse(|c| c.nonce = vec![0; len]).is_err(), "{len}");
        }
    }

    #[test]
    fn oversized_blobs_are_refused() {
        assert!(parse(|c| c.credential.as_mut().unwrap().id_object = vec![0; 133]).is_err());
        assert!(parse(|c| c.credential.as_mut().unwrap().encrypted_secret = vec![0; 513]).is_err());
        assert!(parse(|c| c.credential.as_mut().unwrap().encrypted_secret = vec![]).is_err());
        assert!(Asked::parse(&vec![0; 5000]).is_err());
    }
}
