use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    time::UnixTime,
    tls::{Allow, CurrentSvid, H2, PeerVerifier, client_config, provider, system_clock},
    x509::{X509Bundle, X509BundleSet},
};
use hyper_util::rt::TokioIo;
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::stage::DOMAIN;

/// A server that is there answers at once.
const DIAL: Duration = Duration::from_secs(2);

/// A channel to one server, which presents `key` and dials again when its connection was lost: no attestor's cleverness.
pub fn channel(server: SocketAddr, bundle_pem: &str, key: Option<Arc<CertifiedKey>>) -> Channel {
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let bundle = X509Bundle::from_pem(domain.clone(), bundle_pem).unwrap();
    let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
    let id = SpiffeId::from_path(&domain, "/spire/server").unwrap();
    let verifier = Arc::new(PeerVerifier::new(provider(), bundles, Allow::id(&id), system_clock()));
    let presents = CurrentSvid::empty(provider(), system_clock());
    if let Some(key) = key {
        // The servers judge our time.
        presents.set_certified(key, UnixTime(i64::MAX));
    }
    let config = Arc::new(client_config(verifier, Arc::new(presents), &[H2]).unwrap());
    let connector = service_fn(move |_: Uri| {
        let connector = TlsConnector::from(Arc::clone(&config));
        async move { timeout(DIAL, connect(connector, server)).await?.map(TokioIo::new) }
    });
    Endpoint::from_static("https://server").connect_with_connector_lazy(connector)
}

async fn connect(connector: TlsConnector, server: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server).await?;
    tcp.set_nodelay(true)?;
    // Neither sent nor checked: the peer is judged by its SPIFFE ID.
    connector.connect(ServerName::try_from("server").map_err(io::Error::other)?, tcp).await
}
