use std::path::PathBuf;

use ring::digest;
use zeroize::Zeroizing;

use super::{CollectError, Ending, Opening};
use crate::{
    crypto::{MemoryKey, csr},
    state::SavedKey,
};

/// Longest token in bytes; SPIRE's are 36.
const MAX_TOKEN_BYTES: usize = 1024;

/// Proves the node by a one-use secret that an operator put into a file.
///
/// The file is read anew for every attestation, so that a new token needs no restart.
pub struct JoinToken {
    file: PathBuf,
    /// SHA-256 of a token the CA took or refused; it works never again.
    spent: Option<Vec<u8>>,
}

impl JoinToken {
    /// A collector that reads `file`.
    pub fn new(file: PathBuf) -> Self {
        Self { file, spent: None }
    }

    pub(super) fn open(&self) -> Result<Opening, CollectError> {
        let token = self.read()?;
        if self.spent.as_deref() == Some(hash(token.as_bytes()).as_slice()) {
            let wrong = format!(
                "the join token in {} is used or refused; put a new one there (`chancery-ca token generate`)",
                self.file.display()
            );
            return Err(CollectError::Token(wrong));
        }
        let key = MemoryKey::generate()?;
        let saved_key = SavedKey::Pkcs8(Zeroizing::new(key.pkcs8().to_vec()));
        Ok(Opening { payload: token.as_bytes().to_vec(), csr: csr(&key)?, key: std::sync::Arc::new(key), saved_key })
    }

    pub(super) fn ended(&mut self, payload: &[u8], ending: Ending) {
        if ending != Ending::Unknown {
            self.spent = Some(hash(payload));
        }
    }

    fn read(&self) -> Result<Zeroizing<String>, CollectError> {
        let file = self.file.display();
        let text = std::fs::read_to_string(&self.file)
            .map_err(|e| CollectError::Token(format!("join_token_file {file}: {e}")))
            .map(Zeroizing::new)?;
        let token = text.trim();
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            let wrong = format!("join_token_file {file}: {} bytes, allowed are 1 to {MAX_TOKEN_BYTES}", token.len());
            return Err(CollectError::Token(wrong));
        }
        Ok(Zeroizing::new(token.to_owned()))
    }
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_token_is_not_sent_again_and_a_new_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let mut collector = JoinToken::new(file.clone());
        let opening = collector.open().unwrap();
        assert_eq!(opening.payload, b"one");
        collector.ended(&opening.payload, Ending::Unknown);
        assert!(collector.open().is_ok());
        collector.ended(&opening.payload, Ending::Denied);
        assert!(matches!(collector.open(), Err(CollectError::Token(line)) if line.contains("token generate")));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(collector.open().unwrap().payload, b"two");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = JoinToken::new("/nonexistent/token".into()).open().err().unwrap();
        assert!(error.to_string().starts_with("join_token_file /nonexistent/token: "));
    }
}
