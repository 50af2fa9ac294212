//! Collectors: each knows one way of proving the node, and answers the CA's challenges.
//!
//! A collector makes the node key too, because where the key lives is part of the proof.

mod join_token;
mod pkcs11;
mod tpm;

use chancery_core::transcript::Exporters;
use thiserror::Error;

pub use join_token::JoinToken;
pub use pkcs11::Pkcs11Collector;
pub use tpm::TpmCollector;

use crate::{crypto::AnyNodeKey, pkcs11::NodeTokenError, state::SavedKey, tpm::TpmError};

/// The node's first words in an attestation.
pub struct Opening {
    /// Opaque to everybody but this attestor's other half in the CA.
    pub payload: Vec<u8>,
    /// DER PKCS#10 of `key`.
    pub csr: Vec<u8>,
    /// The new node key.
    pub key: AnyNodeKey,
    /// How the key survives a restart.
    pub saved_key: SavedKey,
}

/// One configured way of proving the node.
pub enum Collector {
    /// A one-use secret.
    JoinToken(JoinToken),
    /// A key in a PKCS#11 token.
    Pkcs11(Pkcs11Collector),
    /// TPM 2.0.
    Tpm(TpmCollector),
}

/// Why a collector gives nothing.
#[derive(Debug, Error)]
pub enum CollectError {
    /// The CA's challenge asks for something a genuine CA never asks for.
    #[error("the CA's challenge is refused: {0}")]
    Challenge(String),
    /// The PKCS#11 token.
    #[error(transparent)]
    Pkcs11(#[from] NodeTokenError),
    /// The key could not be made.
    #[error(transparent)]
    Sign(#[from] crate::crypto::SignError),
    /// The join token cannot be read or was used.
    #[error("{0}")]
    Token(String),
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Collector {
    /// The attestation type, as the CA knows it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::JoinToken(_) => "join_token",
            Self::Pkcs11(_) => "pkcs11",
            Self::Tpm(_) => "tpm",
        }
    }

    /// Makes a fresh node key, its CSR and the payload.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn open(&mut self) -> Result<Opening, CollectError> {
        match self {
            Self::JoinToken(token) => token.open(),
            Self::Pkcs11(token) => token.open().await,
            Self::Tpm(tpm) => tpm.open().await,
        }
    }

    /// Answers a challenge given to `opening` on the connection that `exporters` are of.
    ///
    /// # Errors
    /// [`CollectError`].
    pub async fn answer(
        &mut self,
        opening: &Opening,
        challenge: &[u8],
        exporters: &Exporters,
    ) -> Result<Vec<u8>, CollectError> {
        match self {
            Self::JoinToken(_) => Err(CollectError::Challenge("join_token knows no challenges".into())),
            Self::Pkcs11(token) => token.answer(opening, challenge, exporters).await,
            Self::Tpm(tpm) => tpm.answer(opening, challenge, exporters).await,
        }
    }

    /// Told how the attestation went, so that the next one can be another.
    pub fn ended(&mut self, opening: &Opening, ending: Ending) {
        match self {
            Self::JoinToken(token) => token.ended(&opening.payload, ending),
            Self::Pkcs11(token) => token.ended(ending),
            Self::Tpm(tpm) => tpm.ended(ending),
        }
    }
}

/// How an attestation ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The CA admitted the node.
    Admitted,
    /// The CA said no.
    Denied,
    /// The connection broke; the CA may have admitted the node and the answer was lost.
    Unknown,
}
