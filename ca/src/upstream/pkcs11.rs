//! An upstream whose key is in a PKCS#11 token, put there by somebody else; its certificate is in files.
//!
//! At the start the token must be there, and the label's key be the certificate's. Later the token may go away and
//! come back: an authority that is due then waits, and what signs goes on signing.

use std::path::Path;

use super::{Issued, Request, Upstream, UpstreamError, certified::Certified};
use crate::keys::token_key::{OpenToken, TokenKeyConfig};

/// Remembers, in the data folder, that this token refused the PIN; the key store's token has its own.
const MARKER: &str = "pin-refused-upstream";

/// A CA whose key is in a token.
#[derive(Debug)]
pub struct Pkcs11 {
    certified: Certified,
    token: OpenToken,
}

impl Pkcs11 {
    /// Opens the token and looks for the key of the certificate. May block for half a minute.
    ///
    /// # Errors
    /// [`UpstreamError`], a line that says what to do.
    pub fn open(certified: Certified, key: &TokenKeyConfig, data_dir: &Path) -> Result<Self, UpstreamError> {
        let spki = certified.spki()?;
        let token = OpenToken::open(key, Some(data_dir.join(MARKER)))?;
        token.signer(&spki)?;
        Ok(Self { certified, token })
    }
}

impl Upstream for Pkcs11 {
    fn issue(&self, request: &Request<'_>) -> Result<Issued, UpstreamError> {
        self.certified.issue(request, |spki| Ok(self.token.signer(spki)?))
    }

    fn away(&self) -> Option<String> {
        let report = self.token.report();
        (!report.signs()).then_some(report.health.detail)
    }
}

#[cfg(test)]
mod tests;
