use std::sync::Arc;

use chancery_core::evidence::tpm::templates::{node_key_template, storage_parent_template};
use ring::{digest, signature};
use tss_esapi::{
    handles::KeyHandle,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{Digest, HashcheckTicket, Private, Public, Signature, SignatureScheme},
    traits::{Marshall, UnMarshall},
    tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK},
};

use super::{Tpm, TpmError, device::Device};
use crate::crypto::{NodeKey, POINT_BYTES, SignError};

/// TPM_ST_HASHCHECK and TPM_RH_NULL: "this digest was not made by the TPM", which an unrestricted key may sign.
const NO_TICKET: TPMT_TK_HASHCHECK =
    TPMT_TK_HASHCHECK { tag: 0x8024, hierarchy: 0x4000_0007, digest: TPM2B_DIGEST { size: 0, buffer: [0; 64] } };

/// A node key outside the TPM: only this TPM can load it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeKeyBlob {
    /// TPM2B_PRIVATE without its size.
    pub private: Vec<u8>,
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// A node key in the TPM, as the rest of the attestor uses it.
#[derive(Debug)]
pub struct TpmKey {
    tpm: Tpm,
    blob: NodeKeyBlob,
    point: [u8; POINT_BYTES],
}

impl TpmKey {
    /// A key that `tpm` can load.
    ///
    /// # Errors
    /// [`TpmError::Nonsense`] where the blob is not of a P-256 key.
    pub fn new(tpm: Tpm, blob: NodeKeyBlob) -> Result<Arc<Self>, TpmError> {
        let point = point_of(&blob.public)?;
        Ok(Arc::new(Self { tpm, blob, point }))
    }

    /// What to keep on disk.
    pub fn blob(&self) -> &NodeKeyBlob {
        &self.blob
    }
}

impl NodeKey for TpmKey {
    fn point(&self) -> &[u8; POINT_BYTES] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.tpm.sign(&self.blob, message).map_err(|e| SignError(e.to_string()))
    }
}

impl Device {
    pub(super) fn new_node_key(&mut self) -> Result<NodeKeyBlob, TpmError> {
        let template = Public::unmarshall(&node_key_template())?;
        self.unload_node_key();
        let made = self.with_primary(Hierarchy::Owner, &storage_parent_template(), |device, parent| {
            Ok(device.context.execute_with_session(Some(AuthSession::Password), |context| {
                context.create(parent, template, None, None, None, None)
            })?)
        })?;
        Ok(NodeKeyBlob { private: made.out_private.value().to_vec(), public: made.out_public.marshall()? })
    }

    /// The handle of a node key, loading it where another one is loaded.
    pub(super) fn load_node_key(&mut self, key: &NodeKeyBlob) -> Result<KeyHandle, TpmError> {
        if let Some((public, handle)) = &self.node_key
            && *public == key.public
        {
            return Ok(*handle);
        }
        let private = Private::try_from(key.private.clone())?;
        let public = Public::unmarshall(&key.public)?;
        self.unload_node_key();
        let handle = self.with_primary(Hierarchy::Owner, &storage_parent_template(), |device, parent| {
            Ok(device
                .context
                .execute_with_session(Some(AuthSession::Password), |context| context.load(parent, private, public))?)
        })?;
        self.node_key = Some((key.public.clone(), handle));
        Ok(handle)
    }

    /// Loads the key and looks at it in the TPM: a handle we hold may have gone with a reset or a clear.
    pub(super) fn check_node_key(&mut self, key: &NodeKeyBlob) -> Result<(), TpmError> {
        let handle = self.load_node_key(key)?;
        let (public, _, _) = self.context.execute_without_session(|context| context.read_public(handle))?;
        match public.marshall()? == key.public {
            true => Ok(()),
            false => Err(TpmError::Nonsense("another key is at this handle".into())),
        }
    }

    pub(super) fn sign(&mut self, key: &NodeKeyBlob, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let handle = self.load_node_key(key)?;
        let digest = digest::digest(&digest::SHA256, message);
        let digest = Digest::try_from(digest.as_ref().to_vec())?;
        let ticket = HashcheckTicket::try_from(NO_TICKET)?;
        let signature = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.sign(handle, digest, SignatureScheme::Null, ticket)
        })?;
        let (r, s) = r_and_s(&signature)?;
        // Any key signs any digest: only the answer tells whether the handle was still ours.
        let made = der_signature(r, s);
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point_of(&key.public)?)
            .verify(message, &made)
            .map_err(|_| TpmError::Nonsense("the signature is not by the key that was asked to sign".into()))?;
        Ok(made)
    }

    /// Makes room: the TPM may hold three objects only.
    fn unload_node_key(&mut self) {
        if let Some((_, handle)) = self.node_key.take() {
            let _ = self.context.flush_context(handle.into());
        }
    }
}

/// The point of a P-256 TPMT_PUBLIC, uncompressed.
pub(super) fn point_of(public: &[u8]) -> Result<[u8; POINT_BYTES], TpmError> {
    let Public::Ecc { unique, .. } = Public::unmarshall(public)? else {
        return Err(TpmError::Nonsense("the key is not an elliptic-curve key".into()));
    };
    let mut point = [0; POINT_BYTES];
    point[0] = 4;
    fill_right(&mut point[1..33], unique.x().value())?;
    fill_right(&mut point[33..], unique.y().value())?;
    Ok(point)
}

/// The two numbers of an ECDSA signature, big-endian, perhaps without leading zeros.
pub(super) fn r_and_s(signature: &Signature) -> Result<(&[u8], &[u8]), TpmError> {
    match signature {
        Signature::EcDsa(pair) => Ok((pair.signature_r().value(), pair.signature_s().value())),
        _ => Err(TpmError::Nonsense("the signature is not ECDSA".into())),
    }
}

/// Right-aligned copy; leading zeros may be missing in what a TPM says.
pub(super) fn fill_right(into: &mut [u8], bytes: &[u8]) -> Result<(), TpmError> {
    let gap = into.len().checked_sub(bytes.len()).ok_or_else(|| TpmError::Nonsense("a number is too long".into()))?;
    let (zeros, rest) = into.split_at_mut(gap);
    zeros.fill(0);
    rest.copy_from_slice(bytes);
    Ok(())
}

/// SEQUENCE { INTEGER r, INTEGER s }, for numbers of at most 48 bytes.
fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let (r, s) = (der_integer(r), der_integer(s));
    let mut out = vec![0x30, u8::try_from(r.len() + s.len()).unwrap_or(u8::MAX)];
    out.extend(r);
    out.extend(s);
    out
}

fn der_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|b| **b == 0).count().min(number.len().saturating_sub(1));
    let number = &number[zeros..];
    let sign = number.first().is_none_or(|b| b & 0x80 != 0);
    let mut out = vec![2, u8::try_from(number.len() + usize::from(sign)).unwrap_or(u8::MAX)];
    if sign {
        out.push(0);
    }
    out.extend_from_slice(number);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_integers_are_minimal_and_positive() {
        assert_eq!(der_integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(der_integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(der_integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(der_signature(&[1], &[0xff]), [0x30, 7, 2, 1, 1, 2, 2, 0, 0xff]);
    }

    #[test]
    fn short_coordinates_are_aligned_right_and_long_ones_refused() {
        let mut into = [9; 4];
        fill_right(&mut into[..], &[1, 2]).unwrap();
        assert_eq!(into[2..], [1, 2]);
        assert!(fill_right(&mut into[..], &[0; 5]).is_err());
    }
}
