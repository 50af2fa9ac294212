//! The certificate we present, swappable under live configurations.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Clock, TlsError};
use crate::{time::UnixTime, x509::X509Svid};

/// The identity of now, for both roles; empty until one is set.
///
/// A handshake takes what is current when it begins. Without an identity, or once it has ended, a
/// server's handshake fails and a client presents nothing (which a server of ours refuses).
pub struct CurrentSvid {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    held: ArcSwapOption<Held>,
}

struct Held {
    key: Arc<CertifiedKey>,
    not_after: UnixTime,
}

impl CurrentSvid {
    /// Holds nothing yet.
    pub fn empty(provider: Arc<CryptoProvider>, clock: Clock) -> Self {
        Self { provider, clock, held: ArcSwapOption::empty() }
    }

    /// Presents `svid` from the next handshake on.
    ///
    /// # Errors
    /// [`TlsError::Key`] when the provider can not sign with its key; what was held stays.
    pub fn set(&self, svid: &X509Svid) -> Result<(), TlsError> {
        self.set_certified(self.certify(svid)?, svid.not_after());
        Ok(())
    }

    /// Makes ready what [`set`](Self::set) would present, without presenting it.
    pub(crate) fn certify(&self, svid: &X509Svid) -> Result<Arc<CertifiedKey>, TlsError> {
        let signer = self
            .provider
            .key_provider
            .load_private_key(svid.private_key().clone_key())
            .map_err(|source| TlsError::Key { id: svid.id().to_string(), source })?;
        Ok(Arc::new(CertifiedKey::new(svid.chain().to_vec(), signer)))
    }

    /// Presents a certificate whose key lives elsewhere (a TPM or a token), until `not_after`.
    ///
    /// The key must belong to the leaf: nothing here can check that.
    pub fn set_certified(&self, key: Arc<CertifiedKey>, not_after: UnixTime) {
        self.held.store(Some(Arc::new(Held { key, not_after })));
    }

    /// Presents nothing from the next handshake on.
    pub fn clear(&self) {
        self.held.store(None);
    }

    /// What the next handshake would present.
    pub fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        ((self.clock)() <= held.not_after).then(|| held.key.clone())
    }
}

impl std::fmt::Debug for CurrentSvid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.held.load().as_ref().map(|held| held.not_after);
        f.debug_struct("CurrentSvid").field("not_after", &until).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for CurrentSvid {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for CurrentSvid {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
