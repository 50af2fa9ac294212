//! A key in a token, as its users see it.

use std::{fmt, sync::Arc};

use super::{
    error::TokenError,
    generate::PROBE,
    token::{Token, sign},
};
use crate::{key_type::KeyType, public_key::PublicKey};

/// What is known of a key without asking the token.
pub(super) struct KeyFacts {
    /// Unique in this process; names the key in the seats' caches.
    pub number: u64,
    pub label: String,
    /// `CKA_ID` as the token keeps it.
    pub id: Vec<u8>,
    pub public: PublicKey,
}

/// A key in a token.
#[derive(Clone)]
pub struct TokenKey {
    pub(super) token: Arc<Token>,
    pub(super) facts: Arc<KeyFacts>,
}

impl TokenKey {
    /// Its label.
    pub fn label(&self) -> &str {
        &self.facts.label
    }

    /// Its kind.
    pub fn key_type(&self) -> KeyType {
        self.facts.public.kind()
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        self.facts.public.spki()
    }

    /// Signs `message`, hashed here: DER ECDSA-Sig-Value or PKCS #1 v1.5. Blocks up to the token's deadline.
    ///
    /// The signature was verified with the public half on record.
    ///
    /// # Errors
    /// [`TokenError`]; no signature left the token, or what left it was thrown away.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        sign(&self.token, &self.facts, message)
    }

    /// Signs something of no meaning: whether the private half is there, and is this key's.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::BadSignature`] where it is another's.
    pub fn probe(&self) -> Result<(), TokenError> {
        self.sign(PROBE).map(drop)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("label", &self.facts.label).field("kind", &self.key_type()).finish()
    }
}
