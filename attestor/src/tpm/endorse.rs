use chancery_core::evidence::tpm::templates::{EkKind, ek_template};
use ring::digest;
use tss_esapi::{
    abstraction::nv,
    attributes::SessionAttributesBuilder,
    constants::{CapabilityType, SessionType},
    handles::{AuthHandle, KeyHandle, NvIndexTpmHandle, SessionHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{Hierarchy, NvAuth},
        session_handles::{AuthSession, PolicySession},
    },
    structures::{CapabilityData, Digest, EncryptedSecret, IdObject, Nonce, Public, SymmetricDefinition},
    traits::UnMarshall,
};
use zeroize::Zeroizing;

use super::{
    Bus, TpmError,
    device::Device,
    key::{fill_right, point_of},
};

/// In order of preference: a node has one EK (ARCHITECTURE, Identities).
const PREFERENCE: [EkKind; 3] = [EkKind::P384, EkKind::P256, EkKind::Rsa2048];
/// Largest EK certificate that is read.
const MAX_CERTIFICATE_BYTES: usize = 8 << 10;
/// First handle of the NV index range, and how many handles are listed.
const NV_FIRST: u32 = 0x0100_0000;
const MAX_NV_HANDLES: u32 = 254;

/// One endorsement key of the TPM.
#[derive(Clone, Debug)]
pub struct Endorsement {
    /// Its algorithm.
    pub kind: EkKind,
    /// DER, trimmed to its outer length; `None` where the TPM has none.
    pub certificate: Option<Vec<u8>>,
    /// DER SubjectPublicKeyInfo, as in the certificate where there is one.
    pub spki: Vec<u8>,
}

impl Endorsement {
    /// What an operator enrols: lower-case hex SHA-256 of the SPKI.
    pub fn hash(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.spki))
    }
}

impl Device {
    pub(super) fn endorsements(&mut self) -> Result<Vec<Endorsement>, TpmError> {
        let present = self.nv_handles()?;
        let mut found = Vec::new();
        for kind in PREFERENCE {
            if !present.contains(&nv_index(kind)) {
                continue;
            }
            match self.certificate(kind) {
                Ok(endorsement) => found.push(endorsement),
                Err(error) => tracing::warn!(ek = kind.as_str(), %error, "EK certificate left out"),
            }
        }
        if found.is_empty() {
            found.push(self.without_certificate()?);
        }
        Ok(found)
    }

    pub(super) fn activate(
        &mut self,
        ek: EkKind,
        id_object: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let id_object = IdObject::try_from(id_object.to_vec())?;
        let secret = EncryptedSecret::try_from(encrypted_secret.to_vec())?;
        let ak = self.ak()?;
        self.with_primary(Hierarchy::Endorsement, &ek_template(ek), |device, key| {
            let first = device.first_session(key)?;
            let result = device.ek_session(ek).and_then(|second| {
                let sessions = (Some(first), Some(second), None);
                let opened = device
                    .context
                    .execute_with_sessions(sessions, |context| context.activate_credential(ak, key, id_object, secret));
                device.end_session(second);
                Ok(opened?)
            });
            device.end_session(first);
            Ok(Zeroizing::new(result?.value().to_vec()))
        })
    }

    /// The session that authorizes the attestation key, and encrypts the answer on an exposed bus.
    fn first_session(&mut self, ek: KeyHandle) -> Result<AuthSession, TpmError> {
        if self.options.bus == Bus::Internal {
            return Ok(AuthSession::Password);
        }
        let session = self.start(SessionType::Hmac, Some(ek), HashingAlgorithm::Sha256)?;
        let (attributes, mask) =
            SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).with_continue_session(true).build();
        self.context.tr_sess_set_attributes(session, attributes, mask)?;
        Ok(session)
    }

    /// The session that authorizes the EK: low-range EKs want PolicySecret(endorsement), high-range ones an empty password.
    fn ek_session(&mut self, ek: EkKind) -> Result<AuthSession, TpmError> {
        if ek == EkKind::P384 {
            return Ok(AuthSession::Password);
        }
        let session = self.start(SessionType::Policy, None, HashingAlgorithm::Sha256)?;
        let policy = PolicySession::try_from(session)?;
        let proven = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.policy_secret(
                policy,
                AuthHandle::Endorsement,
                Nonce::default(),
                Digest::default(),
                Nonce::default(),
                None,
            )
        });
        match proven {
            Ok(_) => Ok(session),
            Err(error) => {
                self.end_session(session);
                Err(error.into())
            }
        }
    }

    fn start(
        &mut self,
        kind: SessionType,
        salted_to: Option<KeyHandle>,
        hash: HashingAlgorithm,
    ) -> Result<AuthSession, TpmError> {
        let started = self.context.execute_without_session(|context| {
            context.start_auth_session(salted_to, None, None, kind, SymmetricDefinition::AES_128_CFB, hash)
        })?;
        started.ok_or_else(|| TpmError::Nonsense("it started no session".into()))
    }

    /// Sessions are few (three without a resource manager): none may leak.
    fn end_session(&mut self, session: AuthSession) {
        if session != AuthSession::Password {
            let _ = self.context.flush_context(SessionHandle::from(session).into());
        }
    }

    fn nv_handles(&mut self) -> Result<Vec<u32>, TpmError> {
        let (capability, _) = self.context.execute_without_session(|context| {
            context.get_capability(CapabilityType::Handles, NV_FIRST, MAX_NV_HANDLES)
        })?;
        match capability {
            CapabilityData::Handles(handles) => Ok(handles.iter().map(|handle| u32::from(*handle)).collect()),
            _ => Err(TpmError::Nonsense("asked for handles, got something else".into())),
        }
    }

    fn certificate(&mut self, kind: EkKind) -> Result<Endorsement, TpmError> {
        let index = NvIndexTpmHandle::new(nv_index(kind))?;
        let handle =
            self.context.execute_without_session(|context| context.tr_from_tpm_public(TpmHandle::NvIndex(index)))?;
        let bytes = self
            .context
            .execute_with_nullauth_session(|context| nv::read_full(context, NvAuth::NvIndex(handle.into()), index))?;
        let der = trimmed(&bytes).ok_or_else(|| TpmError::Nonsense("the EK certificate is not DER".into()))?;
        let spki = chancery_sdk::x509::spki_of(der).map_err(|e| TpmError::Nonsense(e.to_string()))?;
        Ok(Endorsement { kind, certificate: Some(der.to_vec()), spki })
    }

    /// A TPM without any EK certificate: the preferred EK that it can make; an operator enrols its hash.
    fn without_certificate(&mut self) -> Result<Endorsement, TpmError> {
        let mut last = TpmError::Nonsense("it can make no EK".into());
        for kind in PREFERENCE {
            match self.create_primary(Hierarchy::Endorsement, &ek_template(kind)) {
                Ok((handle, public)) => {
                    self.context.flush_context(handle.into())?;
                    return Ok(Endorsement { kind, certificate: None, spki: spki(&public)? });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Where TCG puts the certificate of each EK (EK Credential Profile 2.5, 2.2.1).
fn nv_index(kind: EkKind) -> u32 {
    match kind {
        EkKind::P256 => 0x01c0_000a,
        EkKind::P384 => 0x01c0_0016,
        EkKind::Rsa2048 => 0x01c0_0002,
    }
}

/// The DER object at the start of an NV index, which may be padded to its size.
fn trimmed(bytes: &[u8]) -> Option<&[u8]> {
    let [0x30, 0x82, high, low, ..] = bytes else { return None };
    let whole = usize::from(u16::from_be_bytes([*high, *low])) + 4;
    if whole > MAX_CERTIFICATE_BYTES { None } else { bytes.get(..whole) }
}

/// DER SubjectPublicKeyInfo of an EK's TPMT_PUBLIC.
fn spki(public: &[u8]) -> Result<Vec<u8>, TpmError> {
    const P256: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const P384: &[u8] = &[
        0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
        0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
    ];
    const RSA2048: &[u8] = &[
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05,
        0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00,
    ];
    const EXPONENT_65537: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];
    match Public::unmarshall(public)? {
        Public::Rsa { unique, .. } if unique.value().len() == 256 => {
            Ok([RSA2048, unique.value(), EXPONENT_65537].concat())
        }
        Public::Ecc { unique, .. } if unique.x().value().len() > 32 => {
            let mut point = [0; 96];
            let (x, y) = point.split_at_mut(48);
            fill_right(x, unique.x().value())?;
            fill_right(y, unique.y().value())?;
            Ok([P384, &point].concat())
        }
        Public::Ecc { .. } => Ok([P256, point_of(public)?.as_slice()].concat()),
        _ => Err(TpmError::Nonsense("the EK is of an unknown kind".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_after_a_certificate_is_cut_off() {
        let mut bytes = vec![0x30, 0x82, 0x00, 0x02, 1, 2];
        assert_eq!(trimmed(&bytes), Some(&[0x30, 0x82, 0x00, 0x02, 1, 2][..]));
        bytes.extend([0xff; 9]);
        assert_eq!(trimmed(&bytes).map(<[u8]>::len), Some(6));
        assert_eq!(trimmed(&[0x30, 0x82, 0x00, 0x09, 1]), None);
        assert_eq!(trimmed(&[0xff; 8]), None);
    }
}
