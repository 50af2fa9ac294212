//! The CA's two doors, called as strangers, nodes and operators call them.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use chancery_attestor::{
    ca::{CaError, Denial, Dialer},
    crypto::certified,
};
use chancery_ca::gate::{METHODS, Who};
use chancery_proto::spire::api::server::agent::v1::{
    AgentX509svidParams, AttestAgentRequest, ListAgentsRequest, RenewAgentRequest, agent_client::AgentClient,
    attest_agent_request as request, attest_agent_response as response,
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{Allow, CurrentSvid, H2, PeerVerifier, client_config, provider, system_clock},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};
use chancery_tests::{attestation::collector, playground::Attest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, HandshakeKind, pki_types::CertificateDer, pki_types::ServerName};
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixStream},
    sync::mpsc,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code,
    body::Body,
    codegen::{Service, http},
    transport::{Channel, Endpoint},
};
use tower::{ServiceExt, service_fn};

use crate::support::{Stage, stage};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn bundle(stage: &Stage) -> X509Bundle {
    let pem = std::fs::read_to_string(&stage.playground.authority.bundle_pem).unwrap();
    X509Bundle::from_pem(domain(stage), &pem).unwrap()
}

fn domain(stage: &Stage) -> TrustDomain {
    TrustDomain::new(&stage.playground.trust_domain).unwrap()
}

fn dialer(stage: &Stage) -> Arc<Dialer> {
    let address = stage.playground.authority.grpc.to_string();
    Arc::new(Dialer::new(&domain(stage), vec![address], bundle(stage)).unwrap())
}

/// TLS towards the CA, with `svid` or as nobody.
fn tls(stage: &Stage, svid: Option<&X509Svid>) -> Arc<ClientConfig> {
    let server = SpiffeId::from_path(&domain(stage), "/spire/server").unwrap();
    let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle(stage))));
    let verifier = PeerVerifier::new(provider(), bundles, Allow::id(&server), system_clock());
    let current = CurrentSvid::empty(provider(), system_clock());
    if let Some(svid) = svid {
        current.set(svid).unwrap();
    }
    Arc::new(client_config(Arc::new(verifier), Arc::new(current), &[H2]).unwrap())
}

async fn channel(address: SocketAddr, tls: Arc<ClientConfig>) -> Channel {
    let connector = service_fn(move |_: http::Uri| {
        let tls = TlsConnector::from(Arc::clone(&tls));
        async move {
            let tcp = TcpStream::connect(address).await?;
            tls.connect(ServerName::IpAddress(address.ip().into()), tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("https://ca").connect_with_connector(connector).await.unwrap()
}

/// An empty call of a method by its path.
async fn call(channel: &Channel, method: &str) -> Code {
    let request = http::Request::post(format!("https://ca{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .unwrap();
    let mut channel = channel.clone();
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    response.headers().get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

#[test]
fn every_protected_method_refuses_a_stranger() {
    let stage = stage(Attest::JoinToken, |o| o.nodes = 0);
    runtime().block_on(async {
        let nobody = channel(stage.playground.authority.grpc, tls(&stage, None)).await;
        let mut refused = 0;
        for (method, who) in METHODS {
            let code = call(&nobody, method).await;
            assert_eq!(code == Code::PermissionDenied, *who != Who::Anyone, "{method}: {code:?}");
            refused += u32::from(code == Code::PermissionDenied);
        }
        let unknown = call(&nobody, "/spire.api.server.svid.v1.SVID/NoSuchMethod").await;
        assert_ne!(unknown, Code::Ok);
        println!("{refused} of {} methods refused a stranger", METHODS.len());
    });
}

/// A node's own SVID, as its attestor keeps it.
fn saved_svid(stage: &Stage) -> X509Svid {
    let text = std::fs::read(stage.playground.machines[0].data_dir.join("node.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let bytes = |value: &serde_json::Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let chain: Vec<u8> = saved["svid"]["chain"].as_array().unwrap().iter().flat_map(bytes).collect();
    X509Svid::parse(&chain, &bytes(&saved["svid"]["key"]["pkcs8"])).unwrap()
}

#[test]
fn a_node_is_no_operator() {
    let stage = stage(Attest::JoinToken, |_| {});
    runtime().block_on(async {
        let svid = saved_svid(&stage);
        let node = channel(stage.playground.authority.grpc, tls(&stage, Some(&svid))).await;
        for (method, who) in METHODS {
            let code = call(&node, method).await;
            let others = matches!(who, Who::LocalOperators | Who::Operators | Who::Downstreams);
            assert_eq!(code == Code::PermissionDenied, others, "{method}: {code:?}");
        }
        let denied = AgentClient::new(node).list_agents(ListAgentsRequest::default()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
    });
}

#[test]
fn a_tpm_node_is_told_to_attest_again_where_it_asks_to_renew() {
    let mut stage = stage(Attest::Tpm, |_| {});
    // The TPM serves one at a time, and no resource manager forgets for it.
    let machine = &mut stage.playground.machines[0];
    machine.process().unwrap().stop();
    machine.tpm.as_ref().unwrap().tool("tpm2_flushcontext", &["--transient-object"]).unwrap();
    runtime().block_on(async {
        let machine = &stage.playground.machines[0];
        let mut node = collector(&machine.tcti().unwrap(), &stage.playground.trust_domain).unwrap();
        let dialer = dialer(&stage);
        let pinned = dialer.pinned().await.unwrap();
        let opening = node.open().await.unwrap();
        let (say, said) = mpsc::channel(2);
        let data = chancery_proto::spire::api::types::AttestationData {
            r#type: "tpm".into(),
            payload: opening.payload.clone(),
        };
        let svid = AgentX509svidParams { csr: opening.csr.clone() };
        let params = request::Params { data: Some(data), params: Some(svid) };
        say.send(AttestAgentRequest { step: Some(request::Step::Params(params)) }).await.unwrap();
        let mut client = AgentClient::new(pinned.channel.clone());
        let mut answers = client.attest_agent(ReceiverStream::new(said)).await.unwrap().into_inner();
        let Some(response::Step::Challenge(challenge)) = answers.message().await.unwrap().unwrap().step else {
            panic!("no challenge")
        };
        let answer = node.answer(&opening, &challenge, &pinned.exporters).await.unwrap();
        say.send(AttestAgentRequest { step: Some(request::Step::ChallengeResponse(answer)) }).await.unwrap();
        let Some(response::Step::Result(result)) = answers.message().await.unwrap().unwrap().step else {
            panic!("no result")
        };
        assert!(result.reattestable);

        let chain = result.svid.unwrap().cert_chain.into_iter().map(CertificateDer::from).collect();
        let channel = dialer.line(certified(chain, Arc::clone(&opening.key))).unwrap().channel().await.unwrap();
        let params = Some(AgentX509svidParams { csr: opening.csr.clone() });
        let refused = AgentClient::new(channel).renew_agent(RenewAgentRequest { params }).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(CaError::from(refused), CaError::Denied(Some(Denial::MustReattest)));
    });
}

#[test]
fn no_tls_session_is_resumed() {
    let stage = stage(Attest::JoinToken, |_| {});
    let svid = saved_svid(&stage);
    // The default of rustls keeps every ticket it is given.
    let mut config = tls(&stage, Some(&svid)).as_ref().clone();
    config.resumption = rustls::client::Resumption::default();
    let connector = TlsConnector::from(Arc::new(config));
    runtime().block_on(async {
        for connection in 1..=3 {
            let tcp = TcpStream::connect(stage.playground.authority.grpc).await.unwrap();
            let mut stream = connector.connect(ServerName::try_from("ca").unwrap(), tcp).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "connection {connection}");
            // The server's first frame: a ticket would have come before it.
            stream.read_u8().await.unwrap();
            assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
        }
    });
}

#[test]
fn the_admin_socket_is_the_operators_and_no_nodes() {
    let stage = stage(Attest::JoinToken, |_| {});
    let socket = stage.playground.authority.admin_socket.clone();
    runtime().block_on(async {
        let connector = service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let local = Endpoint::from_static("http://ca").connect_with_connector(connector).await.unwrap();
        let listed = AgentClient::new(local.clone()).list_agents(ListAgentsRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner().agents.len(), 1);
        for (method, who) in METHODS {
            let code = call(&local, method).await;
            let others = matches!(who, Who::Nodes | Who::Downstreams);
            assert_eq!(code == Code::PermissionDenied, others, "{method}: {code:?}");
        }
    });
}
