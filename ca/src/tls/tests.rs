//! The doors over real sockets: a node joins, renews, is banned; strangers get nowhere.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_core::{evidence::Denied, node::Standing, reason::Reason};
use chancery_daemon::shutdown::Shutdown;
use chancery_proto::spire::api::{
    server::{
        agent::v1::{
            AgentX509svidParams, AttestAgentRequest, PostStatusRequest, RenewAgentRequest, agent_client::AgentClient,
            attest_agent_request, attest_agent_response,
        },
        bundle::v1::{self as wire, bundle_client::BundleClient},
    },
    types::{self, AttestationData},
};
use chancery_sdk::{
    id::SpiffeId,
    tls::client_config,
    x509::{X509BundleSet, X509Svid},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::*;
use crate::{
    agents, enroll,
    run::{self, Running},
    sample,
};

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
async fn a_failure_that_is_the_nodes_own_cuts_its_connections_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path()).await;
    let failing = join(&running, &token(&running).await).await.unwrap();
    let other = join(&running, &token(&running).await).await.unwrap();
    let (mut cut, mut kept) = (client(&running, Some(&failing)).await, client(&running, Some(&other)).await);
    for node in [&mut cut, &mut kept] {
        node.post_status(PostStatusRequest::default()).await.unwrap();
    }
    let stored = running.state.store.node(failing.id()).await.unwrap().unwrap();
    let denied =
        |attributable| Denied { reason: Reason::PcrPolicy, attributable, steps: Vec::new(), detail: "PCR 7".into() };
    // A stranger's failure in the node's name cuts nothing.
    let suspect = enroll::Suspect { node: Some(&stored), ..enroll::Suspect::default() };
    enroll::record(&running.state, "tpm", suspect, &denied(false)).await;
    cut.post_status(PostStatusRequest::default()).await.unwrap();

    enroll::record(&running.state, "tpm", suspect, &denied(true)).await;
    let code = cut.post_status(PostStatusRequest::default()).await.unwrap_err().code();
    assert_ne!(code, Code::PermissionDenied, "the connection is cut");
    let again = client(&running, Some(&failing)).await.post_status(PostStatusRequest::default()).await.unwrap_err();
    assert_eq!(again.code(), Code::PermissionDenied);
    kept.post_status(PostStatusRequest::default()).await.unwrap();
}

async fn operator(dir: &Path) -> BundleClient<Channel> {
    let path = dir.join("s/admin.sock");
    let connector = service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    BundleClient::new(Endpoint::from_static("http://ca").connect_with_connector(connector).await.unwrap())
}

fn foreign(sequence_number: u64, refresh_hint: i64) -> types::Bundle {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://other.test".try_into().unwrap())];
    let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec();
    types::Bundle {
        trust_domain: "other.test".into(),
        x509_authorities: vec![types::X509Certificate { asn1: der, tainted: false }],
        sequence_number,
        refresh_hint,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_of_others_are_made_changed_by_mask_and_deleted_by_operators_only() {
    let dir = tempfile::tempdir().unwrap();
    let running = started(dir.path()).await;
    let mut ca = operator(dir.path()).await;
    let create = |bundle: Vec<types::Bundle>| wire::BatchCreateFederatedBundleRequest { bundle, output_mask: None };
    let codes = |statuses: Vec<Option<types::Status>>| -> Vec<i32> {
        statuses.into_iter().map(|status| status.unwrap().code).collect()
    };

    let first = foreign(1, 60);
    let broken = types::Bundle { trust_domain: "Not A Domain".into(), ..first.clone() };
    let made = ca.batch_create_federated_bundle(create(vec![first.clone(), first.clone(), broken])).await.unwrap();
    let made: Vec<_> = made.into_inner().results.into_iter().map(|result| result.status).collect();
    assert_eq!(codes(made), [0, Code::AlreadyExists as i32, Code::InvalidArgument as i32], "one by one, in order");

    let mask = types::BundleMask { refresh_hint: true, ..Default::default() };
    let update = wire::BatchUpdateFederatedBundleRequest {
        bundle: vec![foreign(9, 120)],
        input_mask: Some(mask),
        output_mask: None,
    };
    let updated = ca.batch_update_federated_bundle(update).await.unwrap().into_inner().results.remove(0);
    let updated = updated.bundle.unwrap();
    assert_eq!((updated.refresh_hint, updated.sequence_number), (120, 1), "only what the mask names");
    assert_eq!(updated.x509_authorities, first.x509_authorities);

    let set = wire::BatchSetFederatedBundleRequest {
        bundle: vec![foreign(9, 120)],
        output_mask: Some(types::BundleMask::default()),
    };
    let shown = ca.batch_set_federated_bundle(set).await.unwrap().into_inner().results.remove(0).bundle.unwrap();
    assert_eq!(shown, types::Bundle { trust_domain: "other.test".into(), ..Default::default() });
    let get = wire::GetFederatedBundleRequest { trust_domain: "spiffe://other.test".into(), output_mask: None };
    assert_eq!(ca.get_federated_bundle(get.clone()).await.unwrap().into_inner().sequence_number, 9);
    assert_eq!(ca.count_bundles(wire::CountBundlesRequest {}).await.unwrap().into_inner().count, 2);

    let many = create(vec![first.clone(); 101]);
    assert_eq!(ca.batch_create_federated_bundle(many).await.unwrap_err().code(), Code::InvalidArgument);
    let delete = wire::BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["other.test".into(), "other.test".into()],
        mode: 0,
    };
    let gone = ca.batch_delete_federated_bundle(delete).await.unwrap().into_inner().results;
    assert_eq!(codes(gone.into_iter().map(|result| result.status).collect()), [0, Code::NotFound as i32]);
    assert_eq!(ca.get_federated_bundle(get).await.unwrap_err().code(), Code::NotFound);

    // A stranger reads our own bundle and nothing else.
    let once = Mutex::new(Some(handshake(&running, None, &[H2]).await.unwrap()));
    let connector = service_fn(move |_: http::Uri| {
        let io = once.lock().unwrap().take();
        async move { io.map(TokioIo::new).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)) }
    });
    let channel = Endpoint::from_static("https://ca").connect_with_connector(connector).await.unwrap();
    let mut stranger = BundleClient::new(channel);
    let own = stranger.get_bundle(wire::GetBundleRequest { output_mask: None }).await.unwrap().into_inner();
    assert!(own.trust_domain == "example.org" && !own.x509_authorities.is_empty() && own.sequence_number > 0);
    let refused = stranger.batch_create_federated_bundle(create(vec![first])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reloads_policies_keeps_what_was_in_force_and_drops_no_connection() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    let policy = |name: &str| {
        let text = "[[tpm.policy]]\nname = \"NAME\"\nbank = \"sha256\"\npcrs = [0]\n\
                    [tpm.policy.state]\nfirst_use = \"allow\"\non_change = \"deny\"\n";
        std::fs::write(&file, text.replace("NAME", name)).unwrap();
    };
    policy("one");
    let config = sample::prepared(dir.path(), &format!("[tpm]\npolicy_file = {file:?}\n")).await;
    let shutdown = Shutdown::from_signals().unwrap();
    let running = run::start(config, shutdown, chancery_daemon::clock::system()).await.unwrap();
    let name = || running.state.trust.load().policies.policies()[0].name().to_owned();
    assert_eq!(name(), "one");
    let mut node = client(&running, Some(&join(&running, &token(&running).await).await.unwrap())).await;
    node.post_status(PostStatusRequest::default()).await.unwrap();
    let hup = || rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();

    let mut reloads = running.state.shutdown.reloads();
    std::fs::write(&file, "not TOML").unwrap();
    hup();
    reloads.changed().await.unwrap();
    policy("two");
    hup();
    let reloaded = async {
        // Never anything between the two: the broken file is told and left.
        loop {
            match name().as_str() {
                "one" => tokio::task::yield_now().await,
                "two" => return,
                other => panic!("{other}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reloaded).await.expect("the policy that is there now");
    node.post_status(PostStatusRequest::default()).await.unwrap();
    running.state.shutdown.begin();
    running.stopped().await.unwrap();
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
    assert!(!matches!(tls.read(&mut nothing).await, Ok(n) if n > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate_by_the_wall_clock_and_a_strangers_stays() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Arc::new(AtomicI64::new(0));
    let jump = Arc::clone(&ahead);
    let clock: Clock = Arc::new(move || chancery_daemon::clock::now().plus(jump.load(Ordering::Relaxed)));
    let running = run::start(sample::prepared(dir.path(), "").await, Shutdown::manual(), clock).await.unwrap();
    let svid = join(&running, &token(&running).await).await.unwrap();
    let _stranger = client(&running, None).await;
    let mut tls = handshake(&running, Some(&svid), &[H2]).await.unwrap();
    // What the server says first shows that the connection is listed.
    let mut said = [0; 1024];
    assert!(tls.read(&mut said).await.unwrap() > 0);
    let nodes = || running.state.live.ids().len();
    assert_eq!(nodes(), 1);

    ahead.store(svid.not_after().since(running.state.now()) + 1, Ordering::Relaxed);
    while !matches!(tls.read(&mut said).await, Ok(0) | Err(_)) {}
    assert_eq!((nodes(), running.state.live.len()), (0, 1), "the stranger has no certificate that could end");
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
