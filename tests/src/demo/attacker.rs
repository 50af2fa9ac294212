use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::SpiffeId,
    tls::{Allow, CurrentSvid, PeerVerifier, client_config, provider, system_clock},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig, rustls::pki_types::ServerName};

use crate::playground::Playground;

/// Bytes of a call of the demo agents.
const CALL_BYTES: usize = 32;
/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Somebody who copied an instance's key and SVID, and nothing else.
pub struct Thief {
    tls: Arc<ClientConfig>,
    address: SocketAddr,
    not_after: i64,
    runtime: Runtime,
}

impl Thief {
    /// A thief with the files in `folder`, about to call `peer`.
    ///
    /// # Errors
    /// The files are no SVID.
    pub fn new(folder: &Path, peer: &str, address: SocketAddr, playground: &Playground) -> Result<Self, String> {
        let read = |name: &str| std::fs::read(folder.join(name)).map_err(|e| format!("{name}: {e}"));
        let svid = X509Svid::parse(&read("svid.der")?, &read("key.der")?).map_err(|e| e.to_string())?;
        let pem = std::fs::read_to_string(&playground.authority.bundle_pem).map_err(|e| e.to_string())?;
        let bundle = X509Bundle::from_pem(svid.id().trust_domain(), &pem).map_err(|e| e.to_string())?;
        let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
        let allow = Allow::id(&SpiffeId::parse(peer).map_err(|e| e.to_string())?);
        let verifier = PeerVerifier::new(provider(), bundles, allow, system_clock());
        // A thief's clock says what the thief likes: only the peer's clock may end this.
        let stopped = Arc::new(move || chancery_sdk::time::UnixTime(0));
        let current = CurrentSvid::empty(provider(), stopped);
        current.set(&svid).map_err(|e| e.to_string())?;
        let tls = client_config(Arc::new(verifier), Arc::new(current), &[]).map_err(|e| e.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        Ok(Self { tls: Arc::new(tls), address, not_after: svid.not_after().0, runtime })
    }

    /// When the copied pair ends, in seconds from now.
    pub fn seconds_left(&self) -> i64 {
        self.not_after - system_clock()().0
    }

    /// Returns once the copied pair has ended.
    pub fn wait_for_end(&self) {
        let left = u64::try_from(self.seconds_left() + 1).unwrap_or(0);
        std::thread::sleep(Duration::from_secs(left));
    }

    /// One call as the stolen instance. In TLS 1.3 only an answer proves that the peer accepted us.
    ///
    /// # Errors
    /// The peer's refusal.
    pub fn call(&self) -> Result<(), String> {
        let call = async {
            let tcp = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from("peer").map_err(std::io::Error::other)?;
            let mut stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?;
            stream.write_all(&[7; CALL_BYTES]).await?;
            stream.flush().await?;
            let mut answer = [0; CALL_BYTES];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(())
        };
        self.runtime
            .block_on(async { timeout(PATIENCE, call).await })
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }
}
