//! Verification of the peer's certificate inside the handshake, in both roles.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime as TlsTime};

use super::{Allow, Clock, LiveRevocations};
use crate::{
    revocation::Names,
    x509::{self, Peer, X509BundleSet},
};

/// Whether a server lets clients in that present no certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientCertificate {
    /// A client may come without one; the connection then has no peer identity, and the server says
    /// what such a stranger may do. A certificate that is presented must still verify and be welcome.
    Optional,
    /// A client without one is refused in the handshake.
    Required,
}

/// Verifies peers by SPIFFE ID against bundles that may change at any time.
///
/// The trust time is the given clock's, not the one rustls reads. Nobody is verified by host name:
/// the name a client dialled plays no part.
pub struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    bundles: Arc<ArcSwap<X509BundleSet>>,
    allow: Allow,
    clock: Clock,
    clients: ClientCertificate,
    revoked: LiveRevocations,
}

impl PeerVerifier {
    /// A verifier that demands a client certificate when it is used by a server.
    pub fn new(
        provider: Arc<CryptoProvider>,
        bundles: Arc<ArcSwap<X509BundleSet>>,
        allow: Allow,
        clock: Clock,
    ) -> Self {
        let (clients, revoked) = (ClientCertificate::Required, LiveRevocations::new());
        Self { provider, bundles, allow, clock, clients, revoked }
    }

    /// The same verifier with another rule about clients that present nothing.
    #[must_use]
    pub fn with_clients(self, clients: ClientCertificate) -> Self {
        Self { clients, ..self }
    }

    /// The same verifier, refusing what is on this list; as the list grows, later handshakes and live connections see it.
    #[must_use]
    pub fn with_revocations(self, revoked: LiveRevocations) -> Self {
        Self { revoked, ..self }
    }

    /// The list of what is refused; empty unless one was given.
    pub fn revocations(&self) -> &LiveRevocations {
        &self.revoked
    }

    /// The provider the verifier was made with.
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Reads the clock the verifier was made with.
    pub fn now(&self) -> crate::time::UnixTime {
        (self.clock)()
    }

    /// Verifies a chain (leaf first) now, against the bundles of now.
    ///
    /// # Errors
    /// [`rustls::Error::InvalidCertificate`], with the SPIFFE rule that was broken as its source, or
    /// [`CertificateError::ApplicationVerificationFailure`] when the peer is genuine but not welcome, or
    /// [`CertificateError::Revoked`] when it is on the list, or held (RFC 5280 has certificateHold for that).
    ///
    /// Source: X509-SVID section 5; conformance XS-06, XS-33, XS-34, WA-18, WA-19.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<Peer, Error> {
        let peer = x509::verify(chain, &self.bundles.load(), self.now()).map_err(|fault| {
            tracing::debug!(%fault, "peer certificate refused");
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
        })?;
        let revoked = self.revoked.list();
        if let Some(until) = revoked.held(peer.id.as_str(), self.now()) {
            tracing::debug!(peer = %peer.id, %until, "peer is held");
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        if !revoked.is_empty() && revoked.refuses(peer.id.as_str(), &Names::of(chain)) {
            tracing::debug!(peer = %peer.id, "peer was revoked");
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        if !self.allow.welcomes(&peer) {
            tracing::debug!(peer = %peer.id, "peer is not welcome");
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(peer)
    }

    fn verify_presented(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> =
            std::iter::once(leaf).chain(rest).map(|der| CertificateDer::from(&**der)).collect();
        self.verify(&chain).map(drop)
    }

    fn verify_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
}

/// TLS 1.2 is never negotiated, so a signature of that version can only be an error.
fn no_tls12() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier")
            .field("allow", &self.allow)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_presented(leaf, rest).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == ClientCertificate::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _now: TlsTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_presented(leaf, rest).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
