use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use chancery_core::transcript;
use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Hooks, Token, TokenError, TokenKey},
};
use chancery_proto::chancery::attest::pkcs11::v1 as wire;
use chancery_sdk::id::TrustDomain;
use thiserror::Error;

use super::{TokenNodeKey, evidence, labels};
use crate::{
    config::Pkcs11,
    crypto::{SignError, random},
    state::SavedKey,
};

/// In `data_dir`: remembers that the token refused the PIN, so that a restart does not try it again.
const MARKER: &str = "pin-refused";

/// Why the token gives nothing.
#[derive(Debug, Error)]
pub enum NodeTokenError {
    /// A value of the configuration, or a file that it names.
    #[error("{0}")]
    Config(String),
    /// A key of another form than the node's.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The node's token. Cheap to clone.
#[derive(Clone)]
pub struct NodeToken {
    token: Arc<Token>,
    config: Arc<Pkcs11>,
    domain: TrustDomain,
    // Guards the label of the SVID key in use; held for a look.
    held: Arc<Mutex<Option<String>>>,
}

impl NodeToken {
    /// Opens the token. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError`], one line that says what to do.
    pub fn open(config: &Pkcs11, domain: &TrustDomain, data_dir: &Path) -> Result<Self, NodeTokenError> {
        if config.label.as_ref().is_some_and(|label| label.is_empty() || label.len() > labels::MAX_BYTES) {
            let told = format!("pkcs11.label: 1 to {} bytes", labels::MAX_BYTES);
            return Err(NodeTokenError::Config(told));
        }
        let hooks = Hooks { marker: Some(data_dir.join(MARKER)), ..Hooks::default() };
        let token = Token::open_with(config.token.clone(), hooks)?;
        Ok(Self { token, config: Arc::new(config.clone()), domain: domain.clone(), held: Arc::default() })
    }

    /// The attestation key, made where there is none yet. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError`].
    pub fn attestation_key(&self) -> Result<TokenKey, NodeTokenError> {
        let label = self.config.label.clone().unwrap_or_else(|| labels::attestation(self.domain.name()));
        if let Some(key) = self.token.find(&label, None)? {
            return Ok(key);
        }
        tracing::info!(label, "the token has no attestation key yet; making one, which must be enrolled");
        Ok(self.token.generate(&label, self.config.key_type)?)
    }

    /// The opening for `key`. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError::Config`] naming the file.
    pub fn payload(&self, key: &TokenKey) -> Result<wire::Payload, NodeTokenError> {
        evidence::payload(&self.config, key.spki()).map_err(NodeTokenError::Config)
    }

    /// Signs the transcript that ends in `t2` on the connection that `exporter` is of. The attestation key signs nothing
    /// else, so that nobody can use it for anything else. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError`].
    pub fn prove(&self, key: &TokenKey, t2: &[u8; 32], exporter: &[u8; 32]) -> Result<wire::Response, NodeTokenError> {
        let base = transcript::base(transcript::LABEL_PKCS11, self.domain.name(), t2, exporter);
        Ok(wire::Response { signature: key.sign(&base)? })
    }

    /// What the token says of itself, for people.
    pub fn name(&self) -> String {
        self.token.identity().to_string()
    }

    /// Whether keys of SVIDs are made in the token.
    pub fn keeps_svid_keys(&self) -> bool {
        self.config.svid_key == crate::config::SvidKey::Token
    }

    /// A key for a new SVID, in the token; those of former SVIDs but the one in use are destroyed. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError`].
    pub fn new_svid_key(&self, attestation: &TokenKey) -> Result<(TokenNodeKey, SavedKey), NodeTokenError> {
        let prefix = labels::svid_prefix(attestation.spki());
        self.sweep(&prefix);
        let label = labels::svid(&prefix, random()?);
        let key = self.token.generate(&label, KeyType::EcP256)?;
        let saved = SavedKey::Token { label, spki: key.spki().to_vec() };
        Ok((TokenNodeKey::new(key)?, saved))
    }

    /// The key of a saved SVID. Blocks.
    ///
    /// # Errors
    /// [`NodeTokenError`]; the key may be gone or another one.
    pub fn saved_svid_key(&self, label: &str, spki: &[u8]) -> Result<TokenNodeKey, NodeTokenError> {
        let key = self.token.find(label, Some(spki))?.ok_or_else(|| TokenError::KeyMissing(label.to_owned()))?;
        self.holds(label);
        Ok(TokenNodeKey::new(key)?)
    }

    /// Told which SVID key is in use from now on.
    pub fn holds(&self, label: &str) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(label.to_owned());
    }

    /// Only this node's own keys, and never the one in use. What cannot be destroyed now is tried again next time.
    fn sweep(&self, prefix: &str) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let labels = self.token.labels(prefix).unwrap_or_default();
        for label in labels.into_iter().filter(|label| held.as_ref() != Some(label)) {
            let gone = self.token.find(&label, None).and_then(|key| match key {
                Some(key) => self.token.destroy(&label, key.spki()),
                None => Ok(()),
            });
            if let Err(error) = gone {
                tracing::warn!(label, %error, "the key of a former SVID stays in the token");
            }
        }
    }
}

impl std::fmt::Debug for NodeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeToken({})", self.name())
    }
}
