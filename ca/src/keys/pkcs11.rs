//! Keys in a PKCS#11 token. They are made there and never leave it.

use std::{path::Path, sync::Arc};

use chancery_daemon::{
    key_type::KeyType,
    pkcs11::{Health, Hooks, Identity, Token, TokenConfig, TokenError, TokenKey},
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{KeyError, KeyStore, Signer, TokenReport, label};

/// Name of the file that remembers a refused PIN, in the data folder.
const MARKER: &str = "pin-refused";

/// Keys in a token.
#[derive(Debug)]
pub struct TokenKeys {
    token: Arc<Token>,
}

/// A key in a token, as the authorities use it.
#[derive(Debug)]
pub(super) struct TokenSigner(pub(super) TokenKey);

impl TokenKeys {
    /// Opens the token: loads the module, finds exactly one, logs in.
    ///
    /// # Errors
    /// [`KeyError::Token`], a line that says what to do.
    pub fn open(config: &TokenConfig, data_dir: &Path) -> Result<Self, KeyError> {
        let hooks = Hooks { marker: Some(data_dir.join(MARKER)), ..Hooks::default() };
        Ok(Self { token: Token::open_with(config.clone(), hooks)? })
    }

    /// Keys in a token that is open already.
    pub fn of(token: Arc<Token>) -> Self {
        Self { token }
    }
}

impl KeyStore for TokenKeys {
    fn generate(&self, label: &str, kind: KeyType) -> Result<Arc<dyn Signer>, KeyError> {
        label::check(label)?;
        let key = blocking(|| self.token.generate(label, kind))?;
        Ok(Arc::new(TokenSigner(key)))
    }

    fn open(&self, label: &str, spki: Option<&[u8]>) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        label::check(label)?;
        let key = blocking(|| self.token.find(label, spki))?;
        Ok(key.map(|key| Arc::new(TokenSigner(key)) as Arc<dyn Signer>))
    }

    fn delete(&self, label: &str, spki: &[u8]) -> Result<(), KeyError> {
        label::check(label)?;
        Ok(blocking(|| self.token.destroy(label, spki))?)
    }

    fn labels(&self) -> Result<Vec<String>, KeyError> {
        Ok(blocking(|| self.token.labels(label::PREFIX))?)
    }

    fn persistent(&self) -> bool {
        true
    }

    fn token(&self) -> Option<TokenReport> {
        Some(report(&self.token))
    }
}

impl Signer for TokenSigner {
    fn spki(&self) -> &[u8] {
        self.0.spki()
    }

    fn key_type(&self) -> KeyType {
        self.0.key_type()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(blocking(|| self.0.sign(message))?)
    }
}

impl From<TokenError> for KeyError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Exists(label) => Self::Exists(label),
            TokenError::OtherKey(label) => Self::OtherKey(label),
            other => Self::Token(other),
        }
    }
}

/// How a token does.
pub(super) fn report(token: &Token) -> TokenReport {
    let (identity, health): (Identity, Health) = (token.identity(), token.health());
    TokenReport { identity, health, generation: token.generation(), waiting: token.waiting() }
}

/// Waits for a token without keeping other tasks of this thread from running.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // One thread, or no runtime at all: tools and tests, which wait for nothing else.
        Ok(_) | Err(_) => work(),
    }
}
