//! What an operator says about a token.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{error::TokenError, uri::Uri};
use crate::config::Span;

/// Most threads for one token; a device is one device.
const MAX_WORKERS: usize = 64;
/// Most waiting calls.
const MAX_QUEUE: usize = 65_536;

/// A token and how it is used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The module, a shared library. Loaded into this process: never from a message, only from configuration.
    pub module: PathBuf,
    /// RFC 7512: which token; exactly one must match.
    pub uri: String,
    /// File that holds the PIN: 0600 or less, ours or root's; one line end at its end is dropped.
    pub pin_file: Option<PathBuf>,
    /// Environment variable that holds the PIN.
    pub pin_env: Option<String>,
    /// Threads that call the module, a session each.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Calls that may wait; one more is refused at once.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// How long a call may take, waiting included.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
}

impl TokenConfig {
    /// The defaults for a module and a token.
    pub fn new(module: PathBuf, uri: String) -> Self {
        let (workers, queue, deadline) = (default_workers(), default_queue(), default_deadline());
        Self { module, uri, pin_file: None, pin_env: None, workers, queue, deadline }
    }

    /// Judges the values, touching nothing.
    ///
    /// # Errors
    /// [`TokenError::Config`] or [`TokenError::Uri`], naming the key.
    pub fn check(&self) -> Result<Uri, TokenError> {
        let uri = Uri::parse(&self.uri)?;
        uri.is_token()?;
        let told = |text: String| Err(TokenError::Config(text));
        if !self.module.is_absolute() {
            return told(format!("module = {:?}: give the whole path", self.module));
        }
        let pins = [self.pin_file.is_some(), self.pin_env.is_some(), uri.pin_source.is_some()];
        if pins.iter().filter(|given| **given).count() > 1 {
            return told("give the PIN once: pin_file, pin_env or pin-source in the uri".into());
        }
        if self.workers == 0 || self.workers > MAX_WORKERS {
            return told(format!("workers: {} is outside 1 to {MAX_WORKERS}", self.workers));
        }
        if self.queue == 0 || self.queue > MAX_QUEUE {
            return told(format!("queue: {} is outside 1 to {MAX_QUEUE}", self.queue));
        }
        if self.deadline.0 < Duration::from_millis(10) || self.deadline.0 > Duration::from_secs(300) {
            return told(format!("deadline: {} is outside 10 ms to 5 m", self.deadline));
        }
        Ok(uri)
    }
}

fn default_workers() -> usize {
    4
}

fn default_queue() -> usize {
    256
}

fn default_deadline() -> Span {
    Span::secs(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_token_configuration_names_its_key() {
        let good = TokenConfig::new("/m.so".into(), "pkcs11:token=a".into());
        assert!(good.check().is_ok());
        let cases: [(TokenConfig, &str); 8] = [
            (TokenConfig { module: "m.so".into(), ..good.clone() }, "module"),
            (TokenConfig { uri: "pkcs11:token=a;object=k".into(), ..good.clone() }, "object"),
            (TokenConfig { uri: "pkcs11:model=x".into(), ..good.clone() }, "token"),
            (TokenConfig { pin_file: Some("/p".into()), pin_env: Some("P".into()), ..good.clone() }, "pin_file"),
            (
                TokenConfig {
                    uri: "pkcs11:token=a?pin-source=file:/p".into(),
                    pin_env: Some("P".into()),
                    ..good.clone()
                },
                "pin-source",
            ),
            (TokenConfig { workers: 0, ..good.clone() }, "workers"),
            (TokenConfig { queue: 0, ..good.clone() }, "queue"),
            (TokenConfig { deadline: Span::secs(301), ..good }, "deadline"),
        ];
        for (config, key) in cases {
            let told = config.check().unwrap_err().to_string();
            assert!(told.contains(key), "{key}: {told}");
        }
    }
}
