//! rustls configurations with every rule of ours applied; no other place builds one.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig,
    client::{ResolvesClientCert, Resumption},
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::TLS13,
};

use super::{PeerVerifier, TlsError};

/// A server configuration: TLS 1.3, peers by `verifier`, our certificate by `certificate`, no resumption.
///
/// `alpn` lists the protocols in order of preference. A client that offers none of them is refused,
/// but one that offers no ALPN at all is not (RFC 7301): look at `alpn_protocol()` afterwards, as
/// [`peer::Acceptor`](crate::peer::Acceptor) does.
///
/// # Errors
/// [`TlsError::Provider`] when the verifier's provider lacks TLS 1.3.
pub fn server_config(
    verifier: Arc<PeerVerifier>,
    certificate: Arc<dyn ResolvesServerCert>,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(verifier.provider().clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = owned(alpn);
    // Both are needed: tickets alone leave rustls' in-memory session cache of 256 entries in place.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A client configuration: TLS 1.3, peers by `verifier`, our certificate by `certificate`, no resumption, no SNI.
///
/// The `ServerName` a connection is made with is neither sent nor checked.
///
/// # Errors
/// [`TlsError::Provider`] when the verifier's provider lacks TLS 1.3.
pub fn client_config(
    verifier: Arc<PeerVerifier>,
    certificate: Arc<dyn ResolvesClientCert>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(verifier.provider().clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Provider)?
        .dangerous() // rustls' word for any verifier of one's own
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = owned(alpn);
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.to_vec()).collect()
}
