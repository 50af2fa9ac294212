use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::Write as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use chancery_sdk::{
    id::TrustDomain,
    peer::Acceptor,
    tls::{Allow, CurrentSvid, H2, PeerVerifier, provider, system_clock},
    x509::{X509Bundle, X509BundleSet, X509Svid},
};
use clap::Args;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UnixListener},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::{DOMAIN, Hello, SERVICE};

/// Where the echo listens.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// A UNIX socket instead of mTLS on a loopback port.
    #[arg(long)]
    socket: Option<PathBuf>,
}

/// Serves until standard input ends: the starter is gone then.
///
/// # Errors
/// It cannot listen.
pub async fn serve(args: ServeArgs) -> Result<(), String> {
    let gone = async {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    };
    match args.socket {
        Some(socket) => on_socket(&socket, gone).await,
        None => on_loopback(gone).await,
    }
}

async fn on_socket(socket: &Path, gone: impl Future<Output = ()>) -> Result<(), String> {
    let listener = UnixListener::bind(socket).map_err(|e| format!("echo: {}: {e}", socket.display()))?;
    let nobody = Hello { address: None, bundle: String::new(), certificate: String::new(), key: String::new() };
    tell(&nobody)?;
    let server = Server::builder().add_service(EchoService);
    let served = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), gone).await;
    served.map_err(|e| format!("echo: {e}"))
}

async fn on_loopback(gone: impl Future<Output = ()>) -> Result<(), String> {
    let say = |e: &dyn std::fmt::Display| format!("echo: {e}");
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| say(&e))?;
    let root = Root::new().map_err(|e| say(&e))?;
    let domain = TrustDomain::new(DOMAIN).map_err(|e| say(&e))?;
    let bundle = X509Bundle::from_pem(domain.clone(), &root.certificate.pem()).map_err(|e| say(&e))?;
    let bundles = Arc::new(ArcSwap::from_pointee(X509BundleSet::from(bundle)));
    let verifier = PeerVerifier::new(provider(), bundles, Allow::trust_domain(&domain), system_clock());
    let (certificate, key) = root.leaf("/spire/server").map_err(|e| say(&e))?;
    let svid = X509Svid::parse(certificate.der(), key.serialized_der()).map_err(|e| say(&e))?;
    let presents = CurrentSvid::empty(provider(), system_clock());
    presents.set(&svid).map_err(|e| say(&e))?;
    let acceptor = Acceptor::new(Arc::new(verifier), Arc::new(presents), &[H2]).map_err(|e| say(&e))?;
    let (caller, caller_key) = root.leaf("/spire/agent/echo/1").map_err(|e| say(&e))?;
    tell(&Hello {
        address: Some(listener.local_addr().map_err(|e| say(&e))?),
        bundle: root.certificate.pem(),
        certificate: caller.pem(),
        key: caller_key.serialize_pem(),
    })?;
    let server = Server::builder().add_service(EchoService);
    let served = server.serve_with_incoming_shutdown(acceptor.incoming(listener), gone).await;
    served.map_err(|e| say(&e))
}

fn tell(hello: &Hello) -> Result<(), String> {
    let line = serde_json::to_string(hello).map_err(|e| e.to_string())?;
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| format!("echo: {e}"))
}

/// An authority that signs two leaves and is gone.
struct Root {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, DOMAIN);
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{DOMAIN}").try_into()?)];
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn leaf(&self, path: &str) -> Result<(Certificate, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{DOMAIN}{path}").try_into()?)];
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }
}

/// Answers as many bytes as the first four of the request say.
#[derive(Clone)]
struct EchoService;

impl NamedService for EchoService {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for EchoService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Vec<u8>, Vec<u8>>::default());
            Ok(grpc.unary(Answer, request).await)
        })
    }
}

/// Longest answer: what gRPC takes by default.
const MOST_BYTES: usize = 4 << 20;

struct Answer;

impl UnaryService<Vec<u8>> for Answer {
    type Response = Vec<u8>;
    type Future = Ready<Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let asked = request.get_ref().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let bytes = usize::try_from(asked).unwrap_or(MOST_BYTES).min(MOST_BYTES);
        ready(Ok(Response::new(vec![b'e'; bytes])))
    }
}
