//! A small CA that speaks enough of the node's protocol to be attested to: real TLS, real appraisal by the core.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use chancery_core::{
    csr::Csr,
    evidence::tpm::{self as core, Anchor, Channel, Enrol, OpenChallenge, Trust},
    transcript::{self, EXPORTER_LABEL_TPM},
};
use chancery_daemon::clock;
use chancery_proto::{
    chancery::attest::tpm::v1 as wire,
    google::rpc,
    spire::api::{
        server::{
            agent::v1::{
                agent_server::{Agent, AgentServer},
                attest_agent_request::Step as Said,
                attest_agent_response::{Result as Admitted, Step as Answer},
                *,
            },
            bundle::v1::{
                bundle_server::{Bundle, BundleServer},
                *,
            },
        },
        types::{self, PermissionDeniedDetails, permission_denied_details::Reason},
    },
};
use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    tls::{self, Allow, ClientCertificate, CurrentSvid, H2, PeerVerifier},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

pub const DOMAIN: &str = "td.test";
/// Age at which the connections of most servers are asked to close.
const NEVER: Duration = Duration::from_secs(3600);

/// What the CA knows and did; tests wait on it and change it.
#[derive(Debug, Default)]
pub struct Known {
    /// Seconds a node SVID lives.
    pub life: i64,
    pub tokens: BTreeSet<String>,
    /// Serials as in SPIRE: one is current, a new one becomes so by its first use.
    pub current: Option<String>,
    pub fresh: Option<String>,
    pub banned: bool,
    /// Types of the attestations admitted.
    pub attested: Vec<String>,
    /// Whether each of them asked for activation.
    pub asked_activation: Vec<bool>,
    pub refuse: bool,
    /// The server of the next attestation becomes silent in the middle of it.
    pub falls_silent: bool,
    /// The next renewal is overtaken by another one.
    pub overtake: bool,
    pub renewed: usize,
    pub statuses: usize,
    /// Of the bundle; 0 is sent as 1.
    pub sequence: u64,
    serial: u64,
}

/// How one server is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mood {
    /// Answers calls with this code.
    Answers(tonic::Code),
    /// As it should be.
    #[default]
    Fine,
    /// As a host that lost its power: connections stay, and nothing comes back.
    Silent,
}

/// The authority, which outlives the servers that use it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub der: Vec<u8>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{DOMAIN}"))];
        let cert = params.self_signed(&key).unwrap();
        let (der, pem) = (cert.der().to_vec(), cert.pem());
        Arc::new(Self { issuer: Issuer::new(params, key), der, pem })
    }

    fn leaf(&self, id: &str, spki: &[u8], serial: u64, life: i64) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![uri(id)];
        params.serial_number = Some(serial.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now;
        params.not_after = now + time::Duration::seconds(life);
        let key = SubjectPublicKeyInfo::from_der(spki).unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A running CA; it ends with its guard.
pub struct FakeCa {
    pub address: SocketAddr,
    pub known: watch::Sender<Known>,
    pub mood: Arc<ArcSwap<Mood>>,
    /// Bundles that nodes asked this server for.
    pub asked: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for FakeCa {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl FakeCa {
    pub async fn start(authority: &Arc<Authority>) -> Self {
        Self::start_as(authority, "/spire/server", "127.0.0.1:0").await
    }

    /// Serves with the certificate of `path` on `address`.
    pub async fn start_as(authority: &Arc<Authority>, path: &str, address: &str) -> Self {
        let known =
            watch::Sender::new(Known { life: 3600, tokens: BTreeSet::from(["token".into()]), ..Known::default() });
        Self::serve(authority, path, address, known, NEVER).await
    }

    /// Asks every connection to close at an age.
    pub async fn aging(authority: &Arc<Authority>, age: Duration) -> Self {
        let known =
            watch::Sender::new(Known { life: 3600, tokens: BTreeSet::from(["token".into()]), ..Known::default() });
        Self::serve(authority, "/spire/server", "127.0.0.1:0", known, age).await
    }

    /// Another server, which knows what this one knows.
    pub async fn beside(&self, authority: &Arc<Authority>) -> Self {
        Self::serve(authority, "/spire/server", "127.0.0.1:0", self.known.clone(), NEVER).await
    }

    async fn serve(
        authority: &Arc<Authority>,
        path: &str,
        address: &str,
        known: watch::Sender<Known>,
        age: Duration,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (mood, asked): (Arc<ArcSwap<Mood>>, Arc<AtomicUsize>) = Default::default();
        let (connections, incoming) = mpsc::channel::<io::Result<Io>>(16);
        let acceptor = acceptor(authority, path);
        tokio::spawn(accept(listener, acceptor, connections, stop.clone(), Arc::clone(&mood)));
        let service = Arc::new(Service {
            authority: Arc::clone(authority),
            known: known.clone(),
            mood: Arc::clone(&mood),
            asked: Arc::clone(&asked),
        });
        let serving = tonic::transport::Server::builder()
            .max_connection_age(age)
            .add_service(AgentServer::from_arc(Arc::clone(&service)))
            .add_service(BundleServer::from_arc(service))
            .serve_with_incoming(ReceiverStream::new(incoming));
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! { _ = serving => {}, () = ended.cancelled() => {} }
        });
        Self { address, known, mood, asked, stop }
    }

    /// Makes this server so, from the next call on.
    pub fn become_(&self, mood: Mood) {
        self.mood.store(Arc::new(mood));
    }

    /// How many bundles nodes asked this server for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until the CA's knowledge is as asked.
    pub async fn until(&self, what: &str, holds: impl FnMut(&Known) -> bool) {
        let mut known = self.known.subscribe();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), known.wait_for(holds)).await;
        assert!(waited.is_ok(), "not within 20 s: {what}; known: {:?}", self.known.borrow());
    }
}

fn acceptor(authority: &Authority, path: &str) -> TlsAcceptor {
    let domain = TrustDomain::new(DOMAIN).unwrap();
    let bundle = X509Bundle::from_der_concatenated(domain.clone(), &authority.der).unwrap();
    let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
    let verifier = PeerVerifier::new(tls::provider(), bundles, Allow::trust_domain(&domain), tls::system_clock());
    let key = KeyPair::generate().unwrap();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    let leaf = authority.leaf(&format!("spiffe://{DOMAIN}{path}"), &spki, 1, 3600);
    let current = CurrentSvid::empty(tls::provider(), tls::system_clock());
    current.set(&X509Svid::parse(&leaf, &key.serialize_der()).unwrap()).unwrap();
    let verifier = Arc::new(verifier.with_clients(ClientCertificate::Optional));
    TlsAcceptor::from(Arc::new(tls::server_config(verifier, Arc::new(current), &[H2]).unwrap()))
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    to: mpsc::Sender<io::Result<Io>>,
    stop: CancellationToken,
    mood: Arc<ArcSwap<Mood>>,
) {
    // Connections to a silent server; they must not end.
    let mut silent = Vec::new();
    loop {
        let (tcp, _) =
            tokio::select! { accepted = listener.accept() => accepted.unwrap(), () = stop.cancelled() => return };
        if **mood.load() == Mood::Silent {
            silent.push(tcp);
            continue;
        }
        let (tls, to, stop, mood) = (tls.clone(), to.clone(), stop.clone(), Arc::clone(&mood));
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            let (_, session) = stream.get_ref();
            let exporter = session.export_keying_material([0; 32], EXPORTER_LABEL_TPM.as_bytes(), None).unwrap();
            let serial = session.peer_certificates().and_then(<[_]>::first).map(|leaf| serial_of(leaf));
            let peer = Peer { serial, exporter };
            let _ = to.send(Ok(Io { stream, peer, stop: Box::pin(stop.cancelled_owned()), mood })).await;
        });
    }
}

fn serial_of(leaf: &[u8]) -> String {
    x509_parser::parse_x509_certificate(leaf).unwrap().1.serial.to_string()
}

#[derive(Clone, Debug)]
struct Peer {
    serial: Option<String>,
    exporter: [u8; 32],
}

/// A connection that is cut when the CA stops.
struct Io {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    stop: Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    mood: Arc<ArcSwap<Mood>>,
}

impl Connected for Io {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        match **self.mood.load() {
            // What came is lost; a server becomes silent for good.
            Mood::Silent => {
                buf.set_filled(before);
                Poll::Pending
            }
            Mood::Answers(_) | Mood::Fine => read,
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Clone)]
struct Service {
    authority: Arc<Authority>,
    known: watch::Sender<Known>,
    mood: Arc<ArcSwap<Mood>>,
    asked: Arc<AtomicUsize>,
}

fn denied(reason: Reason) -> Status {
    let details = PermissionDeniedDetails { reason: reason.into() }.encode_to_vec();
    let any = prost_types::Any {
        type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".into(),
        value: details,
    };
    let status = rpc::Status { code: 7, message: "denied".into(), details: vec![any] };
    Status::with_details(tonic::Code::PermissionDenied, "denied", status.encode_to_vec().into())
}

impl Service {
    /// SPIRE's order (spire-wire 1.0.3).
    fn authorize<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if let Mood::Answers(code) = **self.mood.load() {
            return Err(Status::new(code, "as told"));
        }
        let Some(serial) = request.extensions().get::<Peer>().and_then(|peer| peer.serial.clone()) else {
            return Err(Status::permission_denied("no certificate"));
        };
        let mut verdict = Ok(());
        self.known.send_if_modified(|known| {
            if known.banned {
                verdict = Err(denied(Reason::AgentBanned));
            } else if known.current.is_none() {
                verdict = Err(denied(Reason::AgentNotAttested));
            } else if known.fresh.as_ref() == Some(&serial) {
                known.current = known.fresh.take();
                return true;
            } else if known.current.as_ref() != Some(&serial) {
                verdict = Err(denied(Reason::AgentNotActive));
            }
            false
        });
        verdict
    }

    fn issue(&self, path: &str, spki: &[u8]) -> (types::X509svid, String) {
        let (mut serial, mut life) = (0, 0);
        self.known.send_modify(|known| {
            known.serial += 1;
            (serial, life) = (known.serial + 100, known.life);
        });
        let leaf = self.authority.leaf(&format!("spiffe://{DOMAIN}{path}"), spki, serial, life);
        let svid = types::X509svid {
            cert_chain: vec![leaf],
            id: Some(types::Spiffeid { trust_domain: DOMAIN.into(), path: path.into() }),
            expires_at: clock::now().plus(life).0,
            hint: String::new(),
        };
        (svid, serial.to_string())
    }

    fn admit(&self, kind: &str, path: &str, spki: &[u8], activation: bool) -> AttestAgentResponse {
        let (svid, serial) = self.issue(path, spki);
        self.known.send_modify(|known| {
            match known.current {
                Some(_) => known.fresh = Some(serial),
                None => known.current = Some(serial),
            }
            known.attested.push(kind.into());
            known.asked_activation.push(activation);
        });
        let result = Admitted { svid: Some(svid), reattestable: kind == "tpm" };
        AttestAgentResponse { step: Some(Answer::Result(result)) }
    }

    fn by_token(&self, payload: &[u8], spki: &[u8]) -> Result<AttestAgentResponse, Status> {
        let token = String::from_utf8(payload.to_vec()).unwrap();
        let known = self.known.send_if_modified(|known| known.tokens.remove(&token));
        if !known {
            return Err(Status::permission_denied("denied"));
        }
        Ok(self.admit("join_token", "/spire/agent/join_token/abc", spki, false))
    }

    /// Judges the evidence with the product's own verifier.
    async fn by_tpm(
        &self,
        opening: (Vec<u8>, Vec<u8>),
        exporter: [u8; 32],
        requests: &mut Streaming<AttestAgentRequest>,
        say: &mpsc::Sender<Result<AttestAgentResponse, Status>>,
    ) -> Result<AttestAgentResponse, Status> {
        let (payload, csr) = opening;
        let refused = |e: core_denied::Denied| Status::permission_denied(e.to_string());
        let said = wire::Payload::decode(payload.as_slice()).unwrap();
        let applicant =
            core::examine_payload(&payload_of(&said), &csr, &trust(), true, clock::now()).map_err(refused)?;
        let pcrs: Vec<u32> = (0..8).collect();
        let challenge = wire::Challenge {
            nonce: ring_random().to_vec(),
            credential: None,
            pcrs: Some(wire::PcrSelection { bank: 11, pcrs: pcrs.clone() }),
            log_wanted: true,
            expires_in: 60,
        }
        .encode_to_vec();
        say.send(Ok(AttestAgentResponse { step: Some(Answer::Challenge(challenge.clone())) })).await.unwrap();
        let Some(Said::ChallengeResponse(response)) = requests.message().await?.and_then(|m| m.step) else {
            return Err(Status::invalid_argument("no answer"));
        };
        let open = OpenChallenge {
            message: challenge,
            t1: transcript::t1("tpm", &payload, &csr),
            secret: None,
            ak_known: true,
            pcrs: pcrs.into_iter().collect(),
            expires_at: clock::now().plus(60),
        };
        let response = response_of(wire::Response::decode(response.as_slice()).unwrap());
        let channel = Channel { trust_domain: DOMAIN, exporter };
        let verified = core::verify_response(&applicant, open, &response, &channel, clock::now()).map_err(refused)?;
        let path = format!("/spire/agent/tpm/{}", hex::encode(verified.applicant.ek_hash));
        Ok(self.admit("tpm", &path, &verified.applicant.node_spki, said.activate))
    }
}

mod core_denied {
    pub use chancery_core::evidence::Denied;
}

fn ring_random() -> [u8; 32] {
    chancery_attestor::crypto::random().unwrap()
}

fn trust() -> Trust {
    let pem = super::issuer_pem();
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let anchor = Anchor::parse(&pem.contents, "id:00001014".parse().unwrap(), None).unwrap();
    Trust { anchors: vec![anchor], enrol: Enrol::Inventory, denied_eks: BTreeSet::new(), policies: Default::default() }
}

fn payload_of(said: &wire::Payload) -> core::Payload {
    let said = said.clone();
    core::Payload {
        version: said.version,
        ek_certificate: said.ek_certificate,
        ek_public: said.ek_public,
        ek_intermediates: said.ek_intermediates,
        ak_public: said.ak_public,
        node_public: said.node_public,
        activate: said.activate,
        has_log: said.has_log,
    }
}

fn response_of(said: wire::Response) -> core::Response {
    let signed = |s: Option<wire::Signed>| {
        let s = s.unwrap_or_default();
        core::Signed { attest: s.attest, signature: s.signature }
    };
    core::Response {
        proof: said.proof,
        quote: signed(said.quote),
        pcr_values: said.pcr_values,
        certify: signed(said.certify),
        event_log: said.event_log,
    }
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this CA"))
}

#[tonic::async_trait]
impl Agent for Service {
    type AttestAgentStream = ReceiverStream<Result<AttestAgentResponse, Status>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap();
        assert!(peer.serial.is_none(), "an attestation presents no certificate");
        let mut requests = request.into_inner();
        let Some(Said::Params(params)) = requests.message().await?.and_then(|m| m.step) else {
            return Err(Status::invalid_argument("no params"));
        };
        if self.known.borrow().banned || self.known.borrow().refuse {
            return Err(Status::permission_denied("denied"));
        }
        if self.known.send_if_modified(|known| std::mem::take(&mut known.falls_silent)) {
            self.mood.store(Arc::new(Mood::Silent));
        }
        let (data, csr) = (params.data.unwrap(), params.params.unwrap().csr);
        let spki = Csr::parse(&csr).unwrap().spki_der().to_vec();
        let (say, said) = mpsc::channel(4);
        let service = self.clone();
        tokio::spawn(async move {
            let answer = match data.r#type.as_str() {
                "join_token" => service.by_token(&data.payload, &spki),
                _ => service.by_tpm((data.payload, csr), peer.exporter, &mut requests, &say).await,
            };
            let _ = say.send(answer).await;
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn renew_agent(&self, request: Request<RenewAgentRequest>) -> Result<Response<RenewAgentResponse>, Status> {
        self.authorize(&request)?;
        let csr = request.into_inner().params.unwrap().csr;
        let (svid, serial) = self.issue("/spire/agent/join_token/abc", Csr::parse(&csr).unwrap().spki_der());
        self.known.send_modify(|known| {
            // Another answer to the same node, which got lost, was made after this one.
            let overtaken = std::mem::take(&mut known.overtake);
            known.fresh = Some(if overtaken { "another".into() } else { serial });
            known.renewed += 1;
        });
        Ok(Response::new(RenewAgentResponse { svid: Some(svid) }))
    }

    async fn post_status(&self, request: Request<PostStatusRequest>) -> Result<Response<PostStatusResponse>, Status> {
        self.authorize(&request)?;
        self.known.send_modify(|known| known.statuses += 1);
        Ok(Response::new(PostStatusResponse {}))
    }

    async fn count_agents(&self, _: Request<CountAgentsRequest>) -> Result<Response<CountAgentsResponse>, Status> {
        unimplemented()
    }
    async fn list_agents(&self, _: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        unimplemented()
    }
    async fn get_agent(&self, _: Request<GetAgentRequest>) -> Result<Response<types::Agent>, Status> {
        unimplemented()
    }
    async fn delete_agent(&self, _: Request<DeleteAgentRequest>) -> Result<Response<()>, Status> {
        unimplemented()
    }
    async fn ban_agent(&self, _: Request<BanAgentRequest>) -> Result<Response<()>, Status> {
        unimplemented()
    }
    async fn create_join_token(
        &self,
        _: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        unimplemented()
    }
}

#[tonic::async_trait]
impl Bundle for Service {
    async fn get_bundle(&self, request: Request<GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        if request.extensions().get::<Peer>().is_some_and(|peer| peer.serial.is_some()) {
            // The probe of a call that waits asks for nothing.
            if request.get_ref().output_mask.is_none() {
                self.asked.fetch_add(1, Ordering::SeqCst);
            }
            self.authorize(&request)?;
        }
        let mine = types::X509Certificate { asn1: self.authority.der.clone(), tainted: false };
        Ok(Response::new(types::Bundle {
            trust_domain: DOMAIN.into(),
            x509_authorities: vec![mine],
            sequence_number: self.known.borrow().sequence.max(1),
            ..types::Bundle::default()
        }))
    }

    async fn count_bundles(&self, _: Request<CountBundlesRequest>) -> Result<Response<CountBundlesResponse>, Status> {
        unimplemented()
    }
    async fn append_bundle(&self, _: Request<AppendBundleRequest>) -> Result<Response<types::Bundle>, Status> {
        unimplemented()
    }
    async fn publish_jwt_authority(
        &self,
        _: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        unimplemented()
    }
    async fn publish_wit_authority(
        &self,
        _: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        unimplemented()
    }
    async fn list_federated_bundles(
        &self,
        _: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        unimplemented()
    }
    async fn get_federated_bundle(
        &self,
        _: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        unimplemented()
    }
    async fn batch_create_federated_bundle(
        &self,
        _: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        unimplemented()
    }
    async fn batch_update_federated_bundle(
        &self,
        _: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        unimplemented()
    }
    async fn batch_set_federated_bundle(
        &self,
        _: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        unimplemented()
    }
    async fn batch_delete_federated_bundle(
        &self,
        _: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        unimplemented()
    }
}

/// The ID every join_token node of this CA gets.
pub fn token_node() -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://{DOMAIN}/spire/agent/join_token/abc")).unwrap()
}
