use chancery_daemon::pkcs11::TokenKey;

use crate::crypto::{NodeKey, POINT_BYTES, SignError};

/// A P-256 key of the node's SVID that stays in the token.
#[derive(Debug)]
pub struct TokenNodeKey {
    key: TokenKey,
    point: [u8; POINT_BYTES],
}

impl TokenNodeKey {
    /// # Errors
    /// [`SignError`] where it is no P-256 key.
    pub(super) fn new(key: TokenKey) -> Result<Self, SignError> {
        // The point is the last part of a P-256 SubjectPublicKeyInfo.
        let point = key.spki().last_chunk::<POINT_BYTES>().copied().filter(|point| point[0] == 4);
        let point = point.ok_or_else(|| SignError("the token's key is no P-256 key".into()))?;
        Ok(Self { key, point })
    }
}

impl NodeKey for TokenNodeKey {
    fn point(&self) -> &[u8; POINT_BYTES] {
        &self.point
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(message).map_err(|e| SignError(e.to_string()))
    }
}
