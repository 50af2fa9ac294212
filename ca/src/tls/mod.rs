//! The CA's side of mutual TLS: its own SVID, the acceptor, and the stream that can be cut.

mod identity;
mod io;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arc_swap::ArcSwap;
use chancery_daemon::clock::Clock;
use chancery_sdk::{
    id::TrustDomain,
    time::UnixTime,
    tls::{Allow, ClientCertificate, CurrentSvid, H2, PeerVerifier, TlsError, provider, server_config},
};
use tokio_rustls::TlsAcceptor;

pub use identity::{IdentityError, Renewed, renew};
pub use io::PeerIo;

use crate::authority::AuthorityManager;

/// What the TCP door needs of TLS.
#[derive(Clone)]
pub struct Tls {
    /// Does handshakes; follows the bundle and the SVID.
    pub acceptor: TlsAcceptor,
    /// The SVID presented, swapped by [`renew`].
    pub current: Arc<CurrentSvid>,
    /// Says who a chain is of.
    pub verifier: Arc<PeerVerifier>,
    /// When the SVID is renewed, seconds since 1970.
    due: Arc<AtomicI64>,
    /// The authority that signed it.
    authority: Arc<ArcSwap<String>>,
}

impl Tls {
    /// Members of the trust domain, or nobody in particular: a client certificate is asked for and not required.
    ///
    /// # Errors
    /// [`TlsError::Provider`].
    pub fn new(domain: &TrustDomain, authority: &AuthorityManager, clock: &Clock) -> Result<Self, TlsError> {
        let (provider, allow) = (provider(), Allow::trust_domain(domain));
        let verifier = PeerVerifier::new(Arc::clone(&provider), authority.x509_bundles(), allow, Arc::clone(clock))
            .with_clients(ClientCertificate::Optional);
        let current = Arc::new(CurrentSvid::empty(provider, Arc::clone(clock)));
        let verifier = Arc::new(verifier);
        let config = server_config(Arc::clone(&verifier), Arc::clone(&current) as _, &[H2])?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            current,
            verifier,
            due: Arc::default(),
            authority: Arc::default(),
        })
    }

    /// Whether our SVID is past half of its life.
    pub fn renewal_due(&self, now: UnixTime) -> bool {
        now.0 >= self.due.load(Ordering::Relaxed)
    }

    /// The authority that signed our SVID.
    pub fn authority(&self) -> Arc<String> {
        self.authority.load_full()
    }

    /// Notes when to renew next, and under which authority we are.
    pub fn renewed(&self, renewed: Renewed) {
        self.due.store(renewed.due.0, Ordering::Relaxed);
        self.authority.store(Arc::new(renewed.authority));
    }
}

#[cfg(test)]
mod tests;
