use ring::{digest, signature};
use tss_esapi::{
    interface_types::{algorithm::HashingAlgorithm, session_handles::AuthSession},
    structures::{Attest, AttestInfo, Data, PcrSelectionList, PcrSlot, Signature, SignatureScheme},
    traits::Marshall,
};

use super::{
    NodeKeyBlob, TpmError,
    device::Device,
    key::{fill_right, point_of, r_and_s},
};

/// TPM_ALG_SHA256.
pub(crate) const BANK_SHA256: u16 = 0x000b;
/// TPM_ALG_SHA384.
pub(crate) const BANK_SHA384: u16 = 0x000c;
/// Reading and quoting is not one step: a PCR may change in between.
const QUOTE_ATTEMPTS: usize = 5;

/// One digest for each PCR asked for, in that order.
pub type PcrValues = Vec<Vec<u8>>;

/// A structure and its signature by the attestation key, in wire form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

impl Device {
    pub(super) fn quote(
        &mut self,
        bank: u16,
        pcrs: &[u8],
        qualifier: [u8; 32],
    ) -> Result<(Signed, PcrValues), TpmError> {
        let ak = self.ak()?;
        let selection = selection(bank, pcrs)?;
        for _ in 0..QUOTE_ATTEMPTS {
            let values = self.read_pcrs(bank, pcrs)?;
            let qualifying = Data::try_from(qualifier.to_vec())?;
            let (attest, signature) = self.context.execute_with_session(Some(AuthSession::Password), |context| {
                context.quote(ak, qualifying, SignatureScheme::Null, selection.clone())
            })?;
            if is_over(&attest, &values) {
                return Ok((self.signed(&attest, &signature)?, values));
            }
        }
        Err(TpmError::Nonsense(format!("the PCRs changed under {QUOTE_ATTEMPTS} quotes in a row")))
    }

    pub(super) fn certify(&mut self, key: &NodeKeyBlob, qualifier: [u8; 32]) -> Result<Signed, TpmError> {
        let ak = self.ak()?;
        let object = self.load_node_key(key)?;
        let qualifying = Data::try_from(qualifier.to_vec())?;
        let sessions = (Some(AuthSession::Password), Some(AuthSession::Password), None);
        let (attest, signature) = self.context.execute_with_sessions(sessions, |context| {
            context.certify(object.into(), ak, qualifying, SignatureScheme::Null)
        })?;
        // Sent to the CA, the name of another key would cost the node its standing.
        if !is_of(&attest, &key.public) {
            return Err(TpmError::Nonsense("it certified another key than the one it was asked to".into()));
        }
        self.signed(&attest, &signature)
    }

    /// A TPM gives at most 8 digests at a time, and none of a bank it does not keep.
    fn read_pcrs(&mut self, bank: u16, pcrs: &[u8]) -> Result<PcrValues, TpmError> {
        let mut values = Vec::with_capacity(pcrs.len());
        for some in pcrs.chunks(8) {
            let selection = selection(bank, some)?;
            let (_, read, digests) =
                self.context.execute_without_session(|context| context.pcr_read(selection.clone()))?;
            if read != selection || digests.len() != some.len() {
                return Err(TpmError::Nonsense(format!(
                    "it keeps no PCR bank {bank:#06x} for PCRs {some:?}; enable the SHA-256 bank in the firmware"
                )));
            }
            values.extend(digests.value().iter().map(|digest| digest.value().to_vec()));
        }
        Ok(values)
    }

    /// The library hands out parsed structures; what was signed are the bytes. Checked, so that a difference
    /// between the two is found here and not taken for an attack by the CA.
    fn signed(&mut self, attest: &Attest, signature: &Signature) -> Result<Signed, TpmError> {
        let bytes = attest.marshall()?;
        let (r, s) = r_and_s(signature)?;
        let mut fixed = [0; 64];
        let (left, right) = fixed.split_at_mut(32);
        fill_right(left, r)?;
        fill_right(right, s)?;
        let point = point_of(&self.attestation_key()?)?;
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
            .verify(&bytes, &fixed)
            .map_err(|_| TpmError::Nonsense("its signature does not verify over the bytes it signed".into()))?;
        Ok(Signed { attest: bytes, signature: signature.marshall()? })
    }
}

/// Whether a certification names the key with this TPMT_PUBLIC, whose name algorithm is SHA-256.
fn is_of(attest: &Attest, public: &[u8]) -> bool {
    let AttestInfo::Certify { info } = attest.attested() else { return false };
    let digest = digest::digest(&digest::SHA256, public);
    info.name().value() == [&BANK_SHA256.to_be_bytes(), digest.as_ref()].concat()
}

/// Whether a quote is over exactly these values. The quote's digest is by the key's scheme, SHA-256.
fn is_over(attest: &Attest, values: &PcrValues) -> bool {
    let AttestInfo::Quote { info } = attest.attested() else { return false };
    let digest = digest::digest(&digest::SHA256, &values.concat());
    info.pcr_digest().value() == digest.as_ref()
}

fn selection(bank: u16, pcrs: &[u8]) -> Result<PcrSelectionList, TpmError> {
    let bank = match bank {
        BANK_SHA256 => HashingAlgorithm::Sha256,
        BANK_SHA384 => HashingAlgorithm::Sha384,
        other => return Err(TpmError::Nonsense(format!("PCR bank {other:#06x} is not known"))),
    };
    let slot = |pcr: &u8| PcrSlot::try_from(1_u32.checked_shl(u32::from(*pcr)).unwrap_or(0));
    let slots = pcrs.iter().map(slot).collect::<Result<Vec<_>, _>>()?;
    Ok(PcrSelectionList::builder().with_selection(bank, &slots).build()?)
}
