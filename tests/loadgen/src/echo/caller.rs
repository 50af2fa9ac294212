use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use chancery_sdk::{
    id::{SpiffeId, TrustDomain},
    x509::X509Bundle,
};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
};
use tonic::{
    Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::{DOMAIN, Hello, NAME, PATH};
use crate::{
    pace::Call,
    server::{Dialer, Link, certified, word},
    stats::Outcome,
};

/// A running echo; it ends with this.
pub struct Echo {
    child: Child,
    hello: Hello,
    /// The folder with its socket, where it serves one.
    folder: Option<tempfile::TempDir>,
}

impl Echo {
    /// Starts one behind mTLS on a loopback port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn over_tls() -> Result<Self, String> {
        Self::start(None).await
    }

    /// Starts one on a UNIX socket.
    ///
    /// # Errors
    /// It does not start.
    pub async fn over_socket() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("loadgen-").tempdir().map_err(|e| format!("echo: {e}"))?;
        Self::start(Some(folder)).await
    }

    async fn start(folder: Option<tempfile::TempDir>) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("echo: own path: {e}"))?;
        let mut command = Command::new(program);
        command.arg("echo").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C goes to the whole group of the terminal; the echo ends when we are done.
        command.process_group(0);
        if let Some(folder) = &folder {
            command.arg("--socket").arg(socket_in(folder.path()));
        }
        let mut child = command.spawn().map_err(|e| format!("echo: {e}"))?;
        let out = child.stdout.take().ok_or("echo: no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).await.map_err(|e| format!("echo: {e}"))?;
        let hello = serde_json::from_str(&line).map_err(|e| format!("echo: it did not come up: {e}"))?;
        Ok(Self { child, hello, folder })
    }

    /// Its process, for the figures.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// So many connections, each of its own.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub async fn links(&self, count: usize) -> Result<Vec<Link>, String> {
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            let channel = match (&self.hello.address, &self.folder) {
                (Some(address), _) => self.over_mtls(*address).await?,
                (None, Some(folder)) => over_unix(socket_in(folder.path())).await?,
                (None, None) => return Err("echo: it listens nowhere".into()),
            };
            links.push(Link::over(channel));
        }
        Ok(links)
    }

    async fn over_mtls(&self, address: std::net::SocketAddr) -> Result<Channel, String> {
        let say = |e: &dyn std::fmt::Display| format!("echo: {e}");
        let domain = TrustDomain::new(DOMAIN).map_err(|e| say(&e))?;
        let server = SpiffeId::from_path(&domain, "/spire/server").map_err(|e| say(&e))?;
        let bundle = X509Bundle::from_pem(domain, &self.hello.bundle).map_err(|e| say(&e))?;
        let leaf = CertificateDer::from_pem_slice(self.hello.certificate.as_bytes()).map_err(|e| say(&e))?;
        let key = KeyPair::from_pem(&self.hello.key).map_err(|e| say(&e))?;
        let key = certified(vec![leaf.to_vec()], &key)?;
        Arc::new(Dialer::new(address, &server, bundle)).channel(Some(key), None).await
    }
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("echo.sock")
}

async fn over_unix(socket: PathBuf) -> Result<Channel, String> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    channel.map_err(|e| format!("echo: {e}"))
}

/// Calls the echo with as many bytes, there and back, as the calls that are measured.
pub struct EchoCall {
    links: Vec<Link>,
    request: Vec<u8>,
}

impl EchoCall {
    /// Over `links` in turn; sizes are those of the encoded messages.
    pub fn new(links: Vec<Link>, request_bytes: usize, answer_bytes: usize) -> Self {
        let mut request = u32::try_from(answer_bytes).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        // Field number and length come on top of the bytes themselves.
        request.resize(request_bytes.saturating_sub(4).max(4), b'e');
        Self { links, request }
    }
}

impl Call for EchoCall {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn call(&self, number: u64) -> Outcome {
        let link = &self.links[(number % self.links.len() as u64) as usize];
        link.call(|channel| echo(channel, self.request.clone())).await.map(|_| 1).map_err(|status| word(&status))
    }
}

async fn echo(channel: Channel, request: Vec<u8>) -> Result<tonic::Response<Vec<u8>>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let codec = ProstCodec::<Vec<u8>, Vec<u8>>::default();
    grpc.unary(Request::new(request), PathAndQuery::from_static(PATH), codec).await
}
