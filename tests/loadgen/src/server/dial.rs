//! Connections: TLS 1.3 to whoever is `spiffe://TD/spire/server`, from the source address that is asked for.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::SpiffeId,
    time::UnixTime,
    tls::{Allow, CurrentSvid, H2, PeerVerifier, client_config, provider, system_clock},
    x509::{X509Bundle, X509BundleSet},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, sign::CertifiedKey};
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Longest time for TCP and TLS; ten thousand at once take a while.
const DIAL_DEADLINE: Duration = Duration::from_secs(30);

/// Dials one server.
pub struct Dialer {
    address: SocketAddr,
    verifier: Arc<PeerVerifier>,
    /// Snapshot of what dials trust; replaced whole when a node sees a newer bundle.
    bundles: Arc<ArcSwap<X509BundleSet>>,
    /// Connections made so far, those that replace a lost one included.
    dials: AtomicU64,
}

/// Between two pings of a connection whose stream tells nothing, as our attestor sends them.
const PINGS: Duration = Duration::from_secs(60);

impl Dialer {
    /// A dialer that trusts `bundle` and takes nobody but `server` for the server.
    pub fn new(address: SocketAddr, server: &SpiffeId, bundle: X509Bundle) -> Self {
        let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
        let verifier = PeerVerifier::new(provider(), Arc::clone(&bundles), Allow::id(server), system_clock());
        Self { address, verifier: Arc::new(verifier), bundles, dials: AtomicU64::new(0) }
    }

    /// Trusts `bundle` from the next dial on.
    pub fn trust(&self, bundle: X509Bundle) {
        self.bundles.store(Arc::new(X509BundleSet::from(bundle)));
    }

    /// What dials trust now, PEM.
    pub fn trusted_pem(&self) -> String {
        self.bundles.load().iter().map(X509Bundle::to_pem).collect()
    }

    /// Connections made so far.
    pub fn dials(&self) -> u64 {
        self.dials.load(Ordering::Relaxed)
    }

    /// Connects, and answers a channel that connects again when its connection was lost.
    ///
    /// # Errors
    /// Who could not be reached, and why.
    pub async fn channel(
        self: &Arc<Self>,
        key: Option<Arc<CertifiedKey>>,
        source: Option<IpAddr>,
    ) -> Result<Channel, String> {
        let config = self.config(key)?;
        let dialer = Arc::clone(self);
        let connector = service_fn(move |_: Uri| {
            let (dialer, config) = (Arc::clone(&dialer), Arc::clone(&config));
            async move { dialer.connect(config, source).await.map(TokioIo::new) }
        });
        // As our attestor: pings only while a stream is open.
        let endpoint = Endpoint::from_static("https://server").http2_keep_alive_interval(PINGS);
        endpoint.connect_with_connector(connector).await.map_err(|e| {
            let mut cause: &dyn std::error::Error = &e;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            format!("{}: {cause}; is it the --server of this --admin-socket?", self.address)
        })
    }

    fn config(&self, key: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, String> {
        let presents = CurrentSvid::empty(provider(), system_clock());
        if let Some(key) = key {
            // The server judges our time: this program also measures what happens to an SVID that ended.
            presents.set_certified(key, UnixTime(i64::MAX));
        }
        let config = client_config(Arc::clone(&self.verifier), Arc::new(presents), &[H2]);
        config.map(Arc::new).map_err(|e| e.to_string())
    }

    async fn connect(&self, config: Arc<ClientConfig>, source: Option<IpAddr>) -> io::Result<TlsStream<TcpStream>> {
        let whole = async {
            let tcp = self.tcp(source).await?;
            tcp.set_nodelay(true)?;
            // Neither sent nor checked: the peer is judged by its SPIFFE ID.
            let name = ServerName::try_from("server").map_err(io::Error::other)?;
            TlsConnector::from(config).connect(name, tcp).await
        };
        let stream = timeout(DIAL_DEADLINE, whole).await??;
        if stream.get_ref().1.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("it does not speak HTTP/2"));
        }
        self.dials.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }

    async fn tcp(&self, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let Some(source) = source else { return TcpStream::connect(self.address).await };
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(self.address).await
    }
}
