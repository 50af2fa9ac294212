//! Before the CA says it is ready: a call without a certificate to each protected method must fail, on the real door.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::SpiffeId,
    tls::{Allow, CurrentSvid, H2, PeerVerifier, client_config, provider},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code,
    body::Body,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt, service_fn};

use crate::{
    State,
    gate::{METHODS, Who},
};

/// Time for the whole test; it takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why the CA does not serve.
#[derive(Debug, Error)]
pub enum SelfTestError {
    /// A protected method answered a stranger.
    #[error("self-test: {method} answered a caller without a certificate with {code:?}; it must be PERMISSION_DENIED")]
    Open {
        /// The method.
        method: &'static str,
        /// What came.
        code: Code,
    },
    /// The door could not be tried.
    #[error("self-test: cannot call our own door at {addr}: {problem}")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// Why.
        problem: String,
    },
}

/// Calls every protected method at `bound` as a stranger.
///
/// # Errors
/// [`SelfTestError`]: then the CA must not serve.
pub async fn run(state: &State, bound: SocketAddr) -> Result<(), SelfTestError> {
    let addr = reachable(bound);
    let unreachable = |problem: String| SelfTestError::Unreachable { addr, problem };
    let test = async {
        let channel = dial(state, addr).await.map_err(unreachable)?;
        for (method, _) in METHODS.iter().filter(|(_, who)| *who != Who::Anyone) {
            let code = call(channel.clone(), method).await.map_err(unreachable)?;
            if code != Code::PermissionDenied {
                return Err(SelfTestError::Open { method, code });
            }
        }
        Ok(())
    };
    match tokio::time::timeout(DEADLINE, test).await {
        Ok(done) => done,
        Err(_) => Err(unreachable(format!("no answer within {DEADLINE:?}"))),
    }
}

/// An unspecified address is reached by loopback.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// One connection without a client certificate; the server must be us.
async fn dial(state: &State, addr: SocketAddr) -> Result<Channel, String> {
    let told = |e: &dyn std::fmt::Display| e.to_string();
    let server = SpiffeId::from_path(&state.trust_domain, "/spire/server").map_err(|e| told(&e))?;
    let bundles: Arc<ArcSwap<_>> = state.authority.x509_bundles();
    let clock = Arc::clone(&state.clock);
    let verifier = PeerVerifier::new(provider(), bundles, Allow::id(&server), Arc::clone(&clock));
    let nobody = CurrentSvid::empty(provider(), clock);
    let config = client_config(Arc::new(verifier), Arc::new(nobody), &[H2]).map_err(|e| told(&e))?;
    let tcp = TcpStream::connect(addr).await.map_err(|e| told(&e))?;
    let name = ServerName::IpAddress(addr.ip().into());
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| told(&e))?;
    // Guards the one connection until tonic takes it.
    let once = Mutex::new(Some(tls));
    let connector = service_fn(move |_: http::Uri| {
        let io = once.lock().ok().and_then(|mut tls| tls.take());
        async move { io.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("https://ca").connect_with_connector(connector).await.map_err(|e| told(&e))
}

/// An empty unary call; the code in its headers.
async fn call(mut channel: Channel, method: &str) -> Result<Code, String> {
    let request = http::Request::post(format!("https://ca{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .map_err(|e| e.to_string())?;
    let ready = channel.ready().await.map_err(|e| e.to_string())?;
    let response = ready.call(request).await.map_err(|e| e.to_string())?;
    let code = response.headers().get("grpc-status").map(|v| Code::from_bytes(v.as_bytes()));
    Ok(code.unwrap_or(Code::Ok))
}
