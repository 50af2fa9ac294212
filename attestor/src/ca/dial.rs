use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_core::transcript::Exporters;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{self, Allow, H2, PeerVerifier},
    x509::{X509Bundle, X509BundleSet},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::DialError;

/// Longest time for TCP and TLS to one address; a discrete TPM may take a second for its signature.
const DIAL_DEADLINE: Duration = Duration::from_secs(20);
/// How often an open connection is probed while a call waits: a CA that lost power says nothing.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
/// How long a probe may stay unanswered.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// Connects to the CA: TLS 1.3, and the peer is exactly `spiffe://TD/spire/server`, at bootstrap too.
pub struct Dialer {
    addresses: Vec<String>,
    verifier: Arc<PeerVerifier>,
    /// Snapshot of what dials trust; replaced whole when authorities rotate.
    bundles: Arc<ArcSwap<X509BundleSet>>,
}

/// A connection that is what it is: it cannot reconnect, so its exporter cannot go stale.
pub struct Pinned {
    /// Ends with its one connection.
    pub channel: Channel,
    /// Keying material of this connection for each attestor.
    pub exporters: Exporters,
}

impl Dialer {
    /// A dialer that tries `addresses` (`host:port`) in turn and trusts `bundle`.
    ///
    /// # Errors
    /// [`DialError::Setup`] where the ID of the CA cannot be formed.
    pub fn new(domain: &TrustDomain, addresses: Vec<String>, bundle: X509Bundle) -> Result<Self, DialError> {
        let server = SpiffeId::from_path(domain, "/spire/server").map_err(|e| DialError::Setup(e.to_string()))?;
        let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
        let clock = chancery_daemon::clock::system();
        let verifier = PeerVerifier::new(tls::provider(), Arc::clone(&bundles), Allow::id(&server), clock);
        Ok(Self { addresses, verifier: Arc::new(verifier), bundles })
    }

    /// Trusts `bundle` from the next dial on.
    pub fn trust(&self, bundle: X509Bundle) {
        self.bundles.store(Arc::new(X509BundleSet::from(bundle)));
    }

    /// What dials trust now.
    pub fn trusted(&self) -> Arc<X509BundleSet> {
        self.bundles.load_full()
    }

    /// Connects without a client certificate; for attestation, and for asking why.
    ///
    /// # Errors
    /// [`DialError`] of the last address tried, or of the last one that may yet answer as our CA.
    pub async fn pinned(&self) -> Result<Pinned, DialError> {
        let config = self.config(None)?;
        let stream = self.connect(config).await?;
        let (_, connection) = stream.get_ref();
        let exporters = Exporters::of(|out, label| connection.export_keying_material(out, label, None))
            .map_err(|e| DialError::Setup(e.to_string()))?;
        // Guards the one connection, which the first request takes; later requests find nothing.
        let once = Mutex::new(Some(TokioIo::new(stream)));
        let connector = service_fn(move |_: Uri| {
            let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { stream.ok_or(io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let channel = endpoint().connect_with_connector(connector).await.map_err(|e| DialError::unreachable("", &e))?;
        Ok(Pinned { channel, exporters })
    }

    /// A channel that dials when it must and presents `key`; one for each node SVID.
    ///
    /// # Errors
    /// [`DialError::Setup`].
    pub fn lasting(self: &Arc<Self>, key: Arc<CertifiedKey>) -> Result<Channel, DialError> {
        let config = self.config(Some(key))?;
        let dialer = Arc::clone(self);
        let connector = service_fn(move |_: Uri| {
            let (dialer, config) = (Arc::clone(&dialer), Arc::clone(&config));
            async move { dialer.connect(config).await.map(TokioIo::new).map_err(io::Error::other) }
        });
        Ok(endpoint().connect_with_connector_lazy(connector))
    }

    fn config(&self, key: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, DialError> {
        let config = tls::client_config(Arc::clone(&self.verifier), Arc::new(Presents(key)), &[H2]);
        config.map(Arc::new).map_err(|e| DialError::Setup(e.to_string()))
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        let mut worst: Option<DialError> = None;
        for address in &self.addresses {
            let error = match timeout(DIAL_DEADLINE, connect_to(address.clone(), Arc::clone(&config))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => DialError::unreachable(address, &io::Error::from(io::ErrorKind::TimedOut)),
            };
            // A CA that may still come back counts for more than a stranger at another address.
            match &worst {
                Some(hope) if error.is_stranger() && !hope.is_stranger() => {
                    tracing::warn!(%error, "one of several addresses")
                }
                _ => worst = Some(error),
            }
        }
        Err(worst.unwrap_or(DialError::Setup("no address of the CA is configured".into())))
    }
}

/// TCP, then TLS on a blocking thread: the handshake may wait for a TPM, and must not stall the runtime.
async fn connect_to(address: String, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let tcp = TcpStream::connect(&address).await.map_err(|e| DialError::unreachable(&address, &e))?;
    tcp.set_nodelay(true).map_err(|e| DialError::unreachable(&address, &e))?;
    // Neither sent nor checked: the peer is judged by its SPIFFE ID.
    let name = ServerName::try_from("chancery-ca").map_err(|e| DialError::Setup(e.to_string()))?;
    let runtime = tokio::runtime::Handle::current();
    let handshake = move || {
        // The wait outside can give up, this thread cannot: it needs a limit of its own.
        runtime.block_on(timeout(DIAL_DEADLINE, TlsConnector::from(config).connect(name, tcp)))
    };
    let stream = match tokio::task::spawn_blocking(handshake).await {
        Ok(Ok(Ok(stream))) => stream,
        Ok(Ok(Err(error))) => return Err(DialError::handshake(&address, &error)),
        Ok(Err(_)) => return Err(DialError::unreachable(&address, &io::Error::from(io::ErrorKind::TimedOut))),
        Err(error) => return Err(DialError::Setup(error.to_string())),
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(H2) => Ok(stream),
        _ => Err(DialError::Other { address, problem: "it does not speak HTTP/2".into() }),
    }
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("https://chancery-ca")
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_DEADLINE)
}

/// The certificate of one configuration; it never changes under a live channel.
#[derive(Debug)]
struct Presents(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// The authorities of `certificates` as something dials can trust.
///
/// # Errors
/// One line where a certificate does not parse.
pub fn x509_bundle(domain: &TrustDomain, certificates: &[CertificateDer<'_>]) -> Result<X509Bundle, String> {
    let der: Vec<u8> = certificates.iter().flat_map(|c| c.iter().copied()).collect();
    X509Bundle::from_der_concatenated(domain.clone(), &der).map_err(|e| e.to_string())
}
