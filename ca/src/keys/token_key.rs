//! A key that is in a token already: somebody else made it there, and a certificate or a record tells its public half.
//!
//! Nothing here makes or destroys keys, and nothing is believed of where the key came from: it may have been imported.
//! What is asked of it: exactly one pair of the label, on the token, not extractable, with the public half that is
//! known, and a signature that verifies. Called by upstream authorities and by ceremonies.

use std::{path::PathBuf, sync::Arc};

use chancery_daemon::{
    config::Span,
    pkcs11::{Hooks, Token, TokenConfig, TokenError},
};
use serde::Deserialize;

use super::{
    KeyError, Signer, TokenReport,
    pkcs11::{TokenSigner, blocking, report},
};

/// Longest label in bytes; tokens hold far less.
const MAX_LABEL: usize = 256;
/// Threads that call the module: such a key signs seldom.
const WORKERS: usize = 1;

/// Which key of which token. The keys mean what they mean in `keys.pkcs11`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyConfig {
    /// The module, a shared library. Loaded into this process.
    pub module: PathBuf,
    /// RFC 7512: which token; exactly one must match.
    pub uri: String,
    /// `CKA_LABEL` of the pair.
    pub label: String,
    /// File that holds the PIN.
    pub pin_file: Option<PathBuf>,
    /// Environment variable that holds the PIN.
    pub pin_env: Option<String>,
    /// How long a signature may take, waiting included.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
}

/// A token, open and logged in, and the label of the key in it.
#[derive(Debug)]
pub struct OpenToken {
    token: Arc<Token>,
    label: String,
}

impl TokenKeyConfig {
    /// Judges the values, touching nothing.
    ///
    /// # Errors
    /// [`TokenError::Config`] or [`TokenError::Uri`], naming the key.
    pub fn check(&self) -> Result<(), TokenError> {
        if !(1..=MAX_LABEL).contains(&self.label.len()) || self.label.chars().any(char::is_control) {
            return Err(TokenError::Config(format!(
                "label: use 1 to {MAX_LABEL} bytes, none of them a control character"
            )));
        }
        self.token().check().map(drop)
    }

    /// The token alone.
    pub fn token(&self) -> TokenConfig {
        TokenConfig {
            pin_file: self.pin_file.clone(),
            pin_env: self.pin_env.clone(),
            workers: WORKERS,
            deadline: self.deadline,
            ..TokenConfig::new(self.module.clone(), self.uri.clone())
        }
    }
}

impl OpenToken {
    /// Opens the token as a key store's is opened: loads the module, finds exactly one, logs in, once.
    ///
    /// `marker` is the file that remembers a refused PIN, so that a restart does not try it again; each token has its
    /// own. May block for half a minute.
    ///
    /// # Errors
    /// [`KeyError::Token`], a line that says what to do.
    pub fn open(config: &TokenKeyConfig, marker: Option<PathBuf>) -> Result<Self, KeyError> {
        config.check()?;
        let token = Token::open_with(config.token(), Hooks { marker, ..Hooks::default() })?;
        Ok(Self { token, label: config.label.clone() })
    }

    /// The key, whose public half must be `spki` (DER SubjectPublicKeyInfo); it has signed once when this returns.
    ///
    /// # Errors
    /// [`KeyError::Absent`], [`KeyError::NotCertified`]; [`KeyError::Token`] where the token does not answer.
    pub fn signer(&self, spki: &[u8]) -> Result<Arc<dyn Signer>, KeyError> {
        let found = blocking(|| self.token.find(&self.label, Some(spki))).map_err(|error| match error {
            TokenError::OtherKey(label) => KeyError::NotCertified(label),
            other => other.into(),
        })?;
        let key = found.ok_or_else(|| KeyError::Absent(self.label.clone()))?;
        // The public half that was compared is an object of its own: only a signature shows the private one.
        blocking(|| key.probe())?;
        Ok(Arc::new(TokenSigner(key)))
    }

    /// How the token does.
    pub fn report(&self) -> TokenReport {
        report(&self.token)
    }
}

fn default_deadline() -> Span {
    Span::secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_key_in_a_token_names_its_key() {
        let text = |extra: &str| format!("module = \"/m.so\"\nuri = \"pkcs11:token=a\"\n{extra}");
        let parse = |extra: &str| chancery_daemon::config::parse::<TokenKeyConfig>(&text(extra));
        assert!(parse("label = \"corp ca\"").unwrap().check().is_ok());
        for (extra, key) in [
            ("label = \"\"", "label"),
            ("label = \"a\\u0000b\"", "label"),
            ("label = \"k\"\ndeadline = \"1ms\"", "deadline"),
            ("label = \"k\"\npin_file = \"/p\"\npin_env = \"P\"", "pin_file"),
        ] {
            let told = parse(extra).unwrap().check().unwrap_err().to_string();
            assert!(told.contains(key), "{extra}: {told}");
        }
        assert!(parse("").unwrap_err().contains("label"));
        assert!(parse("label = \"k\"\nworkers = 3").unwrap_err().contains("workers"));
    }
}
