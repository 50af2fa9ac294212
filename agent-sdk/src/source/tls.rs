//! TLS from a source. What is made here keeps the source's task alive and follows every rotation.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tonic::transport::{Channel, Endpoint};

use super::{Shared, Source, SourceError};
use crate::{
    peer::{Acceptor, Connector},
    tls::{self, Allow, PeerVerifier, TlsError},
};

impl Source {
    /// A verifier of peers against the source's bundles and what it was told of revocations; as a server it demands a client certificate.
    pub fn verifier(&self, allow: Allow) -> PeerVerifier {
        let shared = &self.shared;
        PeerVerifier::new(shared.provider.clone(), self.live_bundles(), allow, shared.clock.clone())
            .with_revocations(shared.live.revoked.clone())
    }

    /// A rustls server configuration; made once, it follows rotation by itself.
    ///
    /// It closes no live connection: for that use [`acceptor`](Self::acceptor). `alpn` as in
    /// [`tls::server_config`].
    ///
    /// # Errors
    /// [`TlsError::Provider`] when the application's provider lacks TLS 1.3.
    pub fn server_tls(&self, allow: Allow, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        tls::server_config(Arc::new(self.verifier(allow)), self.certificate(), alpn)
    }

    /// A rustls client configuration; made once, it follows rotation by itself.
    ///
    /// # Errors
    /// As [`server_tls`](Self::server_tls).
    pub fn client_tls(&self, allow: Allow, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
        tls::client_config(Arc::new(self.verifier(allow)), self.certificate(), alpn)
    }

    /// The server's half of mutual TLS, with connections that end when the peer's certificate does.
    ///
    /// # Errors
    /// As [`server_tls`](Self::server_tls).
    pub fn acceptor(&self, allow: Allow, alpn: &[&[u8]]) -> Result<Acceptor, TlsError> {
        Acceptor::new(Arc::new(self.verifier(allow)), self.certificate(), alpn)
    }

    /// The client's half of mutual TLS.
    ///
    /// # Errors
    /// As [`server_tls`](Self::server_tls).
    pub fn connector(&self, allow: Allow, alpn: &[&[u8]]) -> Result<Connector, TlsError> {
        Connector::new(Arc::new(self.verifier(allow)), self.certificate(), alpn)
    }

    /// A gRPC channel to `target` (`https://host:port`), which dials when first used and again whenever lost.
    ///
    /// # Errors
    /// [`SourceError::Target`] when `target` is no URI; otherwise as [`server_tls`](Self::server_tls).
    pub fn channel(&self, target: &str, allow: Allow) -> Result<Channel, SourceError> {
        let endpoint = Endpoint::from_shared(target.to_owned())
            .map_err(|source| SourceError::Target { target: target.to_owned(), source })?;
        Ok(endpoint.connect_with_connector_lazy(self.connector(allow, &[tls::H2])?))
    }

    fn certificate(&self) -> Arc<SourceCertificate> {
        Arc::new(SourceCertificate(self.shared.clone()))
    }
}

/// Presents the source's certificate, and keeps the source following as long as it may be asked to.
struct SourceCertificate(Arc<Shared>);

impl std::fmt::Debug for SourceCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.live.current.fmt(f)
    }
}

impl ResolvesServerCert for SourceCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.live.current.certified()
    }
}

impl ResolvesClientCert for SourceCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.live.current.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
