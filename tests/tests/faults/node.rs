use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use chancery_attestor::crypto::{MemoryKey, certified, csr};
use chancery_proto::{
    chancery::node::v1::{BeginRequest, EndRequest, ProcessFacts, node_client::NodeClient},
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest,
                agent_client::AgentClient,
                attest_agent_request::{Params, Step},
                attest_agent_response::Step as Answer,
            },
            svid::v1::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
        },
        types::{AttestationData, Selector},
    },
};
use rustls::pki_types::CertificateDer;
use tonic::{Response, Status, transport::Channel};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    dial::channel,
    server::Server,
    stage::{DOMAIN, UID},
};

/// How long a node waits for one answer before it asks another server.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Until every server has heard of a new entry; a wake-up, or its next look at the log.
const HEARD: Duration = Duration::from_secs(20);

/// A node as the servers see it: an SVID got by join token, and calls over mTLS to each of several servers.
pub struct Node {
    /// SPIFFE ID.
    pub id: String,
    /// Its entry.
    pub entry: String,
    /// Its class.
    pub class: String,
    /// One for each server; each dials again when its connection was lost.
    channels: Vec<Channel>,
}

impl Node {
    /// Attests at the first of `servers` and gets an entry and a class of its own there.
    pub async fn join(servers: &[Server], class: &str) -> Self {
        let first = &servers[0];
        let pem = first.cli(&["bundle", "show", "--format", "pem"]).unwrap();
        let token = first.json(&["token", "generate"])["value"].as_str().unwrap().to_owned();
        let key = Arc::new(MemoryKey::generate().unwrap());
        let (id, chain) = attest(channel(first.grpc, &pem, None), &token, csr(key.as_ref()).unwrap()).await.unwrap();
        let presents = || Some(certified(chain.clone(), key.clone()));
        let channels = servers.iter().map(|server| channel(server.grpc, &pem, presents())).collect();
        let selector = format!("unix:uid:{UID}");
        let svid = format!("spiffe://{DOMAIN}/{class}");
        let args = ["entry", "create", "--parent-id", &id, "--spiffe-id", &svid, "--selector", &selector];
        let entry = first.json(&args)["results"][0]["entry"]["id"].as_str().map(str::to_owned);
        let name = format!("faults/{class}");
        let args = ["class", "create", "--parent-id", &id, "--name", &name, "--selector", &selector];
        first.cli(&[&args[..], &["--allow-unproven-nodes"]].concat()).unwrap();
        let this = Self { id, entry: entry.expect("the entry's ID"), class: name, channels };
        for server in 0..servers.len() {
            this.known_to(server).await;
        }
        this
    }

    /// Waits until a server has heard of the node's entry.
    async fn known_to(&self, server: usize) {
        let began = Instant::now();
        while let Err(status) = self.issue(server).await {
            assert!(began.elapsed() < HEARD, "server {server} does not hear of the node: {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Serial number of a new SVID of the entry, from one server.
    pub async fn issue(&self, server: usize) -> Result<String, Status> {
        self.issue_within(server, PATIENCE).await
    }

    /// The same with another patience.
    pub async fn issue_within(&self, server: usize, patience: Duration) -> Result<String, Status> {
        let key = MemoryKey::generate().unwrap();
        let params = NewX509svidParams { entry_id: self.entry.clone(), csr: csr(&key).unwrap() };
        let request = BatchNewX509svidRequest { params: vec![params] };
        let mut client = SvidClient::new(self.channels[server].clone());
        let answer = within(patience, client.batch_new_x509svid(request)).await?;
        let result = answer.results.into_iter().next().ok_or_else(|| Status::internal("no result"))?;
        match (result.svid, result.status) {
            (Some(svid), _) if !svid.cert_chain.is_empty() => Ok(serial(&svid.cert_chain[0])),
            (_, Some(status)) => Err(Status::new(status.code.into(), status.message)),
            (_, None) => Err(Status::internal("neither an SVID nor a status")),
        }
    }

    /// ID of the instance that `process` becomes, from one server, and the serial number of its SVID.
    pub async fn begin(&self, server: usize, process: &Process) -> Result<(String, String), Status> {
        let (r#type, value) = ("unix".into(), format!("uid:{UID}"));
        let request = BeginRequest {
            class_name: self.class.clone(),
            start_token: process.token.to_vec(),
            csr: process.csr.clone(),
            selectors: vec![Selector { r#type, value }],
            process: Some(ProcessFacts { pid: 1, uid: UID, pid_proof: "peer-pidfd".into(), ..ProcessFacts::default() }),
        };
        let answer = within(PATIENCE, NodeClient::new(self.channels[server].clone()).begin(request)).await?;
        let chain = answer.svid.map(|svid| svid.cert_chain).unwrap_or_default();
        Ok((answer.instance_id, serial(chain.first().ok_or_else(|| Status::internal("no SVID"))?)))
    }

    /// The process has ended.
    pub async fn end(&self, server: usize, process: &Process, instance: &str) -> Result<(), Status> {
        let request = EndRequest { instance_id: instance.into(), start_token: process.token.to_vec() };
        within(PATIENCE, NodeClient::new(self.channels[server].clone()).end(request)).await.map(drop)
    }
}

/// A process that becomes an instance: asked again, it brings the same token and key.
pub struct Process {
    pub token: [u8; 32],
    csr: Vec<u8>,
}

impl Process {
    pub fn new() -> Self {
        let key = MemoryKey::generate().unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, key.pkcs8());
        Self { token: digest.as_ref().try_into().unwrap(), csr: csr(&key).unwrap() }
    }
}

async fn within<T>(patience: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    let waited = tokio::time::timeout(patience, call).await;
    waited.map_err(|_| Status::deadline_exceeded("no answer in time"))?.map(Response::into_inner)
}

async fn attest(channel: Channel, token: &str, csr: Vec<u8>) -> Result<(String, Vec<CertificateDer<'static>>), Status> {
    let data = AttestationData { r#type: "join_token".into(), payload: token.as_bytes().to_vec() };
    let params = Params { data: Some(data), params: Some(AgentX509svidParams { csr }) };
    let opening = AttestAgentRequest { step: Some(Step::Params(params)) };
    let mut answers = AgentClient::new(channel).attest_agent(tokio_stream::once(opening)).await?.into_inner();
    let Some(Answer::Result(result)) = answers.message().await?.and_then(|answer| answer.step) else {
        return Err(Status::internal("no result"));
    };
    let svid = result.svid.ok_or_else(|| Status::internal("no SVID"))?;
    let id = svid.id.ok_or_else(|| Status::internal("no ID"))?;
    let chain = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
    Ok((format!("spiffe://{}{}", id.trust_domain, id.path), chain))
}

/// As the record has it: decimal.
fn serial(der: &[u8]) -> String {
    X509Certificate::from_der(der).unwrap().1.tbs_certificate.serial.to_string()
}
