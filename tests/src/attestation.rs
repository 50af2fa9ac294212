//! Attestations by hand: what an attestor says to the CA, as bytes that tests and attacks can keep, alter and repeat.

use chancery_attestor::{
    ca::{Dialer, Pinned},
    node::{Collector, Opening, TpmCollector},
    tpm::{Bus, Options, Tpm},
};
use chancery_core::transcript::Exporters;
use chancery_proto::spire::api::{
    server::agent::v1::{
        AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, agent_client::AgentClient, attest_agent_request,
        attest_agent_response,
    },
    types::{AttestationData, X509svid},
};
use chancery_sdk::{id::TrustDomain, x509::X509Bundle};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::playground::Authority;

/// One open AttestAgent stream on an anonymous connection of its own.
pub struct Dialogue {
    requests: mpsc::Sender<AttestAgentRequest>,
    answers: Streaming<AttestAgentResponse>,
    /// TLS exporters of the connection.
    pub exporters: Exporters,
}

impl Dialogue {
    /// Connects and sends the first message.
    ///
    /// # Errors
    /// The CA's status, or `Unavailable` where it cannot be reached.
    pub async fn open(authority: &Authority, domain: &str, payload: Vec<u8>, csr: Vec<u8>) -> Result<Self, Status> {
        let dialer = dialer(authority, domain, &authority.grpc.to_string())?;
        let pinned = dialer.pinned().await.map_err(|e| Status::unavailable(e.to_string()))?;
        Self::over(pinned, "tpm", payload, csr).await
    }

    /// Sends the first message, of an attestation of type `kind`, on a connection that is open already.
    ///
    /// # Errors
    /// The CA's status.
    pub async fn over(pinned: Pinned, kind: &str, payload: Vec<u8>, csr: Vec<u8>) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(4);
        let data = AttestationData { r#type: kind.into(), payload };
        let params = attest_agent_request::Params { data: Some(data), params: Some(AgentX509svidParams { csr }) };
        let first = AttestAgentRequest { step: Some(attest_agent_request::Step::Params(params)) };
        requests.send(first).await.map_err(|e| Status::unavailable(e.to_string()))?;
        let answers = AgentClient::new(pinned.channel).attest_agent(ReceiverStream::new(queue)).await?.into_inner();
        Ok(Self { requests, answers, exporters: pinned.exporters })
    }

    /// The CA's next message as a challenge.
    ///
    /// # Errors
    /// The CA's status; `Internal` where something else came.
    pub async fn challenge(&mut self) -> Result<Vec<u8>, Status> {
        match self.next().await? {
            attest_agent_response::Step::Challenge(bytes) => Ok(bytes),
            attest_agent_response::Step::Result(_) => Err(Status::internal("a result came where a challenge should")),
        }
    }

    /// Answers the challenge; `Ok` carries the SPIFFE ID path of the admitted node.
    ///
    /// # Errors
    /// The CA's status.
    pub async fn answer(&mut self, response: Vec<u8>) -> Result<String, Status> {
        let svid = self.admission(response).await?;
        svid.id.map(|id| id.path).ok_or_else(|| Status::internal("a result without an ID"))
    }

    /// Answers the challenge; `Ok` carries the SVID of the admitted node.
    ///
    /// # Errors
    /// The CA's status.
    pub async fn admission(&mut self, response: Vec<u8>) -> Result<X509svid, Status> {
        let step = attest_agent_request::Step::ChallengeResponse(response);
        let _ = self.requests.send(AttestAgentRequest { step: Some(step) }).await;
        match self.next().await? {
            attest_agent_response::Step::Challenge(_) => Err(Status::internal("a second challenge")),
            attest_agent_response::Step::Result(result) => {
                result.svid.ok_or_else(|| Status::internal("a result without an SVID"))
            }
        }
    }

    async fn next(&mut self) -> Result<attest_agent_response::Step, Status> {
        let message = self.answers.message().await?;
        message.and_then(|m| m.step).ok_or_else(|| Status::internal("the stream ended without a word"))
    }
}

/// A dialer that reaches this CA at `address` and trusts its bundle.
///
/// # Errors
/// `Unavailable`: the bundle cannot be read.
pub fn dialer(authority: &Authority, domain: &str, address: &str) -> Result<Dialer, Status> {
    let away = |e: String| Status::unavailable(e);
    let pem = std::fs::read_to_string(&authority.bundle_pem).map_err(|e| away(e.to_string()))?;
    let domain = TrustDomain::new(domain).map_err(|e| away(e.to_string()))?;
    let bundle = X509Bundle::from_pem(domain.clone(), &pem).map_err(|e| away(e.to_string()))?;
    Dialer::new(&domain, vec![address.to_string()], bundle).map_err(|e| away(e.to_string()))
}

/// A collector over the TPM at `tcti`, as an attestor would use it.
///
/// # Errors
/// The TPM cannot be opened.
pub fn collector(tcti: &str, domain: &str) -> Result<Collector, String> {
    let options = Options {
        tcti: tcti.parse().map_err(|e| format!("{e}"))?,
        trust_domain: domain.into(),
        endorsement_auth: Default::default(),
        owner_auth: Default::default(),
        bus: Bus::Internal,
    };
    let tpm = Tpm::open(options).map_err(|e| e.to_string())?;
    let domain = TrustDomain::new(domain).map_err(|e| e.to_string())?;
    Ok(Collector::Tpm(TpmCollector::new(tpm, domain, "/nonexistent".into())))
}

/// Everything one honest attestation said.
pub struct Recording {
    /// Payload, CSR and node key.
    pub opening: Opening,
    /// The challenge it answered.
    pub challenge: Vec<u8>,
    /// The answer that was admitted.
    pub response: Vec<u8>,
}

/// Attests honestly and keeps what was said.
///
/// # Errors
/// The CA's status, or what the TPM said.
pub async fn attest(authority: &Authority, domain: &str, collector: &mut Collector) -> Result<Recording, Status> {
    let say = |e: chancery_attestor::node::CollectError| Status::internal(e.to_string());
    let opening = collector.open().await.map_err(say)?;
    let mut dialogue = Dialogue::open(authority, domain, opening.payload.clone(), opening.csr.clone()).await?;
    let challenge = dialogue.challenge().await?;
    let response = collector.answer(&opening, &challenge, &dialogue.exporters).await.map_err(say)?;
    dialogue.answer(response.clone()).await?;
    Ok(Recording { opening, challenge, response })
}
