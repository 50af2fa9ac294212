//! The doors over real sockets: a node joins, renews, is banned; strangers get nowhere.

use std::{net::SocketAddr, path::Path, sync::Mutex};

use arc_swap::ArcSwap;
use chancery_core::node::Standing;
use chancery_proto::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
        attest_agent_request, attest_agent_response,
    },
    types::AttestationData,
};
use chancery_sdk::{
    id::SpiffeId,
    tls::client_config,
    x509::{X509BundleSet, X509Svid},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::*;
use crate::{agents, run::Running, sample};

async fn handshake(
    running: &Running,
    svid: Option<&X509Svid>,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let clock = chancery_daemon::clock::system();
    let server = SpiffeId::parse("spiffe://example.org/spire/server").unwrap();
    let bundles: Arc<ArcSwap<X509BundleSet>> = running.state.authority.x509_bundles();
    let verifier = PeerVerifier::new(provider(), bundles, Allow::id(&server), Arc::clone(&clock));
    let current = CurrentSvid::empty(provider(), clock);
    if let Some(svid) = svid {
        current.set(svid).unwrap();
    }
    let config = client_config(Arc::new(verifier), Arc::new(current), alpn).unwrap();
    let tcp = TcpStream::connect(running.bound).await?;
    let addr: SocketAddr = running.bound;
    TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(addr.ip().into()), tcp).await
}

async fn client(running: &Running, svid: Option<&X509Svid>) -> AgentClient<Channel> {
    let once = Mutex::new(Some(handshake(running, svid, &[H2]).await.unwrap()));
    let connector = service_fn(move |_: http::Uri| {
        let io = once.lock().unwrap().take();
        async move { io.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    AgentClient::new(Endpoint::from_static("https://ca").connect_with_connector(connector).await.unwrap())
}

fn csr() -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    (csr.der().to_vec(), key.serialize_der())
}

async fn join(running: &Running, token: &str) -> Result<X509Svid, tonic::Status> {
    let (csr, key) = csr();
    let data = AttestationData { r#type: "join_token".into(), payload: token.as_bytes().to_vec() };
    let params = attest_agent_request::Params { data: Some(data), params: Some(AgentX509svidParams { csr }) };
    let ask = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
    let stream = client(running, None).await.attest_agent(tokio_stream::iter([ask])).await?;
    let answer = stream.into_inner().message().await?.unwrap();
    let Some(attest_agent_response::Step::Result(result)) = answer.step else { panic!("no result") };
    assert!(!result.reattestable);
    Ok(X509Svid::parse(&result.svid.unwrap().cert_chain.concat(), &key).unwrap())
}

async fn token(running: &Running) -> String {
    agents::create_token(&running.state, 60, String::new(), None).await.unwrap().value
}

async fn started(dir: &Path) -> Running {
    sample::running(dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_with_a_token_once_renews_and_is_cut_off_by_a_ban() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path()).await;
    let token = token(&running).await;
    let svid = join(&running, &token).await.unwrap();
    assert_eq!(svid.id().path(), format!("/spire/agent/join_token/{}", agents::token_hash(&token)));
    assert_eq!(join(&running, &token).await.unwrap_err().message(), "denied");

    let mut node = client(&running, Some(&svid)).await;
    let (request, key) = csr();
    let renew = RenewAgentRequest { params: Some(AgentX509svidParams { csr: request }) };
    let renewed = node.renew_agent(renew).await.unwrap().into_inner().svid.unwrap();
    let fresh = X509Svid::parse(&renewed.cert_chain.concat(), &key).unwrap();
    let status = PostStatusRequest { agent_version: "1".into(), ..Default::default() };
    client(&running, Some(&fresh)).await.post_status(status.clone()).await.unwrap();
    let superseded = node.post_status(status.clone()).await.unwrap_err();
    assert_eq!(superseded.code(), Code::PermissionDenied);
    assert!(!superseded.details().is_empty());

    let mut node = client(&running, Some(&fresh)).await;
    node.post_status(status.clone()).await.unwrap();
    agents::ban(&running.state, fresh.id()).await.unwrap();
    assert_ne!(
        node.post_status(status.clone()).await.unwrap_err().code(),
        Code::PermissionDenied,
        "the connection is cut"
    );
    let banned = client(&running, Some(&fresh)).await.post_status(status).await.unwrap_err();
    assert_eq!(banned.code(), Code::PermissionDenied);
    assert_eq!(running.state.store.node(fresh.id()).await.unwrap().unwrap().standing, Standing::Banned);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_a_full_handshake_and_http2() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path()).await;
    for _ in 0..2 {
        let tls = handshake(&running, None, &[H2]).await.unwrap();
        assert_eq!(tls.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    let mut tls = handshake(&running, None, &[]).await.unwrap();
    let mut nothing = [0; 1];
    // The door hangs up on a client that offers no ALPN: an end or an error, never an answer.
    assert!(!matches!(tokio::io::AsyncReadExt::read(&mut tls, &mut nothing).await, Ok(n) if n > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_open_connections_and_closes_the_doors() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path()).await;
    let mut node = client(&running, None).await;
    let bound = running.bound;
    running.state.shutdown.soft.cancel();
    running.state.shutdown.hard.cancel();
    running.stopped().await.unwrap();
    assert!(node.post_status(PostStatusRequest::default()).await.is_err());
    assert!(TcpStream::connect(bound).await.is_err());
    assert!(!dir.path().join("s/admin.sock").exists());
}
