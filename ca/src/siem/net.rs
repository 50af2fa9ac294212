//! Connections to outputs: plain TCP on this machine only, else TLS whose server is verified by the roots in the configuration.

use std::{io, path::Path, sync::Arc, time::Duration};

use chancery_sdk::tls::provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::config::Siem;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A stream of either kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where to connect.
pub(super) struct Peer {
    /// `host:port`.
    pub(super) address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Peer {
    /// With TLS.
    ///
    /// # Errors
    /// One line.
    pub(super) fn secure(address: String, config: &Siem) -> Result<Self, String> {
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = config.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        let name = ServerName::try_from(name).map_err(|e| format!("server_name: {e}"))?;
        let ca_file = config.ca_file.as_ref().ok_or("ca_file: needed for TLS")?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca_file)? {
            roots.add(root).map_err(|e| format!("ca_file {}: {e}", ca_file.display()))?;
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let builder = builder.with_root_certificates(roots);
        let mut tls = match (&config.certificate_file, &config.key_file) {
            (Some(chain), Some(key)) => {
                let read = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("key_file {}: {e}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(chain)?, read)
                    .map_err(|e| format!("certificate_file: {e}"))?
            }
            _ => builder.with_no_client_auth(),
        };
        tls.resumption = rustls::client::Resumption::disabled();
        Ok(Self { address, tls: Some((TlsConnector::from(Arc::new(tls)), name)) })
    }

    /// Without TLS: what runs beside us.
    pub(super) fn plain(address: String) -> Self {
        Self { address, tls: None }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Box<dyn Io>, String> {
        let told = |e: io::Error| format!("{}: {e}", self.address);
        let connecting = async {
            let tcp = TcpStream::connect(&self.address).await?;
            Ok(match &self.tls {
                Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?) as Box<dyn Io>,
                None => Box::new(tcp) as Box<dyn Io>,
            })
        };
        let late = |_| format!("{}: no connection within {} s", self.address, CONNECT.as_secs());
        timeout(CONNECT, connecting).await.map_err(late)?.map_err(told)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let read = CertificateDer::pem_file_iter(path).map_err(|e| told(&e))?;
    let all: Result<Vec<_>, _> = read.collect();
    match all.map_err(|e| told(&e))? {
        none if none.is_empty() => Err(told(&"no certificate in PEM")),
        some => Ok(some),
    }
}
