use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{Allow, CurrentSvid, PeerVerifier, client_config, provider},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::playground::Playground;

/// Somebody who copied an instance's key and SVID.
pub struct Thief {
    svid: X509Svid,
    bundles: X509BundleSet,
    peer: SpiffeId,
    address: SocketAddr,
}
