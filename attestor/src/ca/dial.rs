use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_core::transcript::Exporters;
use chancery_daemon::tcp::watched;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{self, Allow, H2, PeerVerifier},
    x509::{X509Bundle, X509BundleSet},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::{DialError, Line, Servers};
use crate::crypto::fraction;

/// Longest time for TCP and TLS to one server; a discrete TPM may take a second for its signature.
const DIAL_DEADLINE: Duration = Duration::from_secs(20);
/// Head start of a server before the next one is dialled beside it: one that lost its power says nothing.
const HEAD_START: Duration = Duration::from_millis(700);
/// Longest wait for one of several IP addresses of a name.
const IP_DEADLINE: Duration = Duration::from_secs(3);
/// A CA's host that says nothing for so long is asked by the kernel whether it is there. A call does not wait for this:
/// see [`while_alive`](super::while_alive).
const SILENCE: Duration = Duration::from_secs(15);
/// How often a quiet connection is probed end to end unless it is said: for a server that stands still while its kernel
/// answers.
const PINGS: Duration = Duration::from_secs(60);
/// How long a probe may stay unanswered.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// Connects to the CA: TLS 1.3, and the peer is exactly `spiffe://TD/spire/server`, at bootstrap too.
pub struct Dialer {
    servers: Arc<Servers>,
    verifier: Arc<PeerVerifier>,
    /// Snapshot of what dials trust; replaced whole when authorities rotate.
    bundles: Arc<ArcSwap<X509BundleSet>>,
    /// Between two pings of a quiet connection.
    pings: Duration,
}

/// A connection that is what it is: it cannot reconnect, so its exporter cannot go stale.
pub struct Pinned {
    /// Ends with its one connection.
    pub channel: Channel,
    /// Whose it is.
    pub(crate) server: usize,
    /// Keying material of this connection for each attestor.
    pub exporters: Exporters,
}

impl Dialer {
    /// A dialer of the servers at `addresses` (`host:port`) that trusts `bundle`.
    ///
    /// # Errors
    /// [`DialError::Setup`] where the ID of the CA cannot be formed.
    pub fn new(domain: &TrustDomain, addresses: Vec<String>, bundle: X509Bundle) -> Result<Self, DialError> {
        let server = SpiffeId::from_path(domain, "/spire/server").map_err(|e| DialError::Setup(e.to_string()))?;
        let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
        let clock = chancery_daemon::clock::system();
        let verifier = PeerVerifier::new(tls::provider(), Arc::clone(&bundles), Allow::id(&server), clock);
        let servers = Arc::new(Servers::new(addresses));
        Ok(Self { servers, verifier: Arc::new(verifier), bundles, pings: PINGS })
    }

    /// Pings quiet connections this often.
    #[must_use]
    pub fn pinging(self, pings: Duration) -> Self {
        Self { pings, ..self }
    }

    /// What is known of the servers.
    pub fn servers(&self) -> Arc<Servers> {
        Arc::clone(&self.servers)
    }

    /// Trusts `bundle` from the next dial on.
    pub fn trust(&self, bundle: X509Bundle) {
        self.bundles.store(Arc::new(X509BundleSet::from(bundle)));
    }

    /// What dials trust now.
    pub fn trusted(&self) -> Arc<X509BundleSet> {
        self.bundles.load_full()
    }

    /// Connects without a client certificate; for attestation, and for asking why. All of an attestation goes to one server:
    /// it is bound to this connection.
    ///
    /// # Errors
    /// [`DialError`] of the last server tried, or of the last one that may yet answer as our CA.
    pub async fn pinned(&self) -> Result<Pinned, DialError> {
        let (server, stream) = self.connect(self.config(None)?).await?;
        self.servers.answered(server);
        let (_, connection) = stream.get_ref();
        let exporters = Exporters::of(|out, label| connection.export_keying_material(out, label, None))
            .map_err(|e| DialError::Setup(e.to_string()))?;
        Ok(Pinned { channel: channel_over(stream, self.pings).await?, server, exporters })
    }

    /// The way of a node SVID to the CA, which connects when it must and presents `key`.
    ///
    /// # Errors
    /// [`DialError::Setup`].
    pub fn line(self: &Arc<Self>, key: Arc<CertifiedKey>) -> Result<Arc<Line>, DialError> {
        Ok(Arc::new(Line::new(Arc::clone(self), self.config(Some(key))?)))
    }

    /// One connection, and whose it is.
    pub(super) async fn link(&self, config: Arc<ClientConfig>) -> Result<(usize, Channel), DialError> {
        let (server, stream) = self.connect(config).await?;
        Ok((server, channel_over(stream, self.pings).await?))
    }

    fn config(&self, key: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>, DialError> {
        let config = tls::client_config(Arc::clone(&self.verifier), Arc::new(Presents(key)), &[H2]);
        config.map(Arc::new).map_err(|e| DialError::Setup(e.to_string()))
    }

    /// The first server that answers, in this node's order; each has a head start over the next.
    async fn connect(&self, config: Arc<ClientConfig>) -> Result<(usize, TlsStream<TcpStream>), DialError> {
        let dial = |server: usize| {
            let (address, config) = (self.servers.address(server), Arc::clone(&config));
            async move { (server, within_deadline(address, config).await) }
        };
        let order = self.servers.order();
        let mut waiting = order.iter().copied();
        let mut dials: FuturesUnordered<_> = waiting.next().into_iter().map(dial).collect();
        let mut worst: Option<DialError> = None;
        while !dials.is_empty() {
            tokio::select! {
                Some((server, dialled)) = dials.next() => match dialled {
                    Ok(stream) => {
                        // Who had a head start over it is not asked first again for a while.
                        order.iter().take_while(|before| **before != server).for_each(|n| self.servers.overtaken(*n));
                        return Ok((server, stream));
                    }
                    Err(error) => {
                        self.servers.failed(server, &error.to_string());
                        worst = Some(worse(worst, error));
                        dials.extend(waiting.next().map(dial));
                    }
                },
                () = sleep(HEAD_START), if waiting.len() > 0 => dials.extend(waiting.next().map(dial)),
            }
        }
        Err(worst.unwrap_or(DialError::Setup("no address of the CA is configured".into())))
    }
}

/// A CA that may still come back counts for more than a stranger at another address.
fn worse(before: Option<DialError>, error: DialError) -> DialError {
    match before {
        Some(hope) if error.is_stranger() && !hope.is_stranger() => {
            tracing::warn!(%error, "one of several addresses");
            hope
        }
        _ => error,
    }
}

async fn within_deadline(address: String, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    match timeout(DIAL_DEADLINE, connect_to(address.clone(), config)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(DialError::unreachable(&address, &io::Error::from(io::ErrorKind::TimedOut))),
    }
}

/// TCP to any of the addresses of a name, in an order by chance.
async fn reach(address: &str) -> io::Result<TcpStream> {
    let mut found: Vec<_> = lookup_host(address).await?.map(|ip| (fraction(), ip)).collect();
    found.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let mut last = io::Error::other("the name has no address");
    for (_, ip) in found {
        match timeout(IP_DEADLINE, TcpStream::connect(ip)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// TCP, then TLS on a blocking thread: the handshake may wait for a TPM, and must not stall the runtime.
async fn connect_to(address: String, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let tcp = reach(&address).await.map_err(|e| DialError::unreachable(&address, &e))?;
    watched(&tcp, SILENCE).map_err(|e| DialError::unreachable(&address, &e))?;
    // Neither sent nor checked: the peer is judged by its SPIFFE ID.
    let name = ServerName::try_from("chancery-ca").map_err(|e| DialError::Setup(e.to_string()))?;
    let runtime = tokio::runtime::Handle::current();
    let given_up = CancellationToken::new();
    let _waiting = given_up.clone().drop_guard();
    let handshake = move || {
        // The wait outside can give up, this thread cannot: it is told, and has a limit of its own.
        let connecting = TlsConnector::from(config).connect(name, tcp);
        let connecting = given_up.run_until_cancelled_owned(timeout(DIAL_DEADLINE, connecting));
        runtime.block_on(connecting).unwrap_or_else(|| Ok(Err(io::ErrorKind::Interrupted.into())))
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

/// A channel that ends with its one connection.
async fn channel_over(stream: TlsStream<TcpStream>, pings: Duration) -> Result<Channel, DialError> {
    // Guards the one connection, which the first request takes; later requests find nothing.
    let once = Mutex::new(Some(TokioIo::new(stream)));
    let connector = service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.ok_or(io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("https://chancery-ca")
        .http2_keep_alive_interval(pings)
        .keep_alive_timeout(PROBE_DEADLINE);
    endpoint.connect_with_connector(connector).await.map_err(|e| DialError::unreachable("", &e))
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
