//! The AttestAgent stream: one attestation, in a task of its own, dead after a minute.
//!
//! Sizes were bounded by the service's message limit before anything was parsed. The open challenge lives
//! in the task only and dies with the stream.

use std::{sync::Arc, time::Duration};

use chancery_core::{evidence::exchange::Exchange, node::Node};
use chancery_proto::spire::api::server::agent::v1::{
    self as pb, attest_agent_request::Step as Asked, attest_agent_response::Step as Told,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    State,
    config::NodeAttestor,
    enroll::{self, Admitted, KeptEvidence, MAX_CSR_BYTES, MAX_TYPE_BYTES, Refused, Suspect, pkcs11, tpm},
    grpc::{evidence, status, wire},
    limits::Slot,
    peer::Peer,
    problem::Problem,
};

/// Time for the whole dialogue: the opening, the challenge's life, and the answer.
const DEADLINE: Duration = Duration::from_secs(90);

type Answers = mpsc::Sender<Result<pb::AttestAgentResponse, Status>>;
type Asks = Streaming<pb::AttestAgentRequest>;

/// Starts one attestation.
///
/// # Errors
/// FAILED_PRECONDITION without a network address (the admin socket), RESOURCE_EXHAUSTED while too many run.
pub(super) fn serve(
    state: &Arc<State>,
    peer: Arc<Peer>,
    asks: Asks,
) -> Result<ReceiverStream<Result<pb::AttestAgentResponse, Status>>, Status> {
    let Some(source) = peer.source else {
        return Err(Status::failed_precondition("nodes attest over the network"));
    };
    let slot: Slot = enroll::slot(state, source).map_err(status::of)?;
    let (answers, stream) = mpsc::channel(2);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let dialogue = tokio::time::timeout(DEADLINE, dialogue(&state, &peer, asks, &answers));
        let outcome = tokio::select! {
            () = state.shutdown.soft.cancelled() => Err(Status::unavailable("the server stops; try again")),
            done = dialogue => done.unwrap_or_else(|_| Err(Status::deadline_exceeded("attestation took too long"))),
        };
        drop(slot);
        // Nobody to tell: the stream is gone.
        let _ = answers.send(outcome).await;
    });
    Ok(ReceiverStream::new(stream))
}

/// Opening, challenge and answer; the last message.
async fn dialogue(
    state: &Arc<State>,
    peer: &Arc<Peer>,
    mut asks: Asks,
    answers: &Answers,
) -> Result<pb::AttestAgentResponse, Status> {
    let opening = opening(asks.message().await?)?;
    let attestor = match enroll::attestor(state, &opening.kind) {
        Ok(attestor) => attestor,
        Err(denied) => {
            enroll::record(state, "unknown", Suspect { source: peer.source, ..Suspect::default() }, &denied).await;
            return Err(Status::failed_precondition("this attestation type is not configured"));
        }
    };
    let result = match attestor {
        NodeAttestor::JoinToken => join_token(state, peer, &opening).await,
        NodeAttestor::Pkcs11 => challenged(state, peer, &opening, pkcs11::TYPE, asks, answers).await,
        NodeAttestor::Tpm => challenged(state, peer, &opening, tpm::TYPE, asks, answers).await,
    };
    match result {
        Ok(admitted) => Ok(answer(&admitted)),
        Err(Refused::Denied(_)) => Err(Status::permission_denied("denied")),
        Err(Refused::Problem(problem)) => Err(status::of(problem)),
    }
}

struct Opening {
    kind: String,
    payload: Vec<u8>,
    csr: Vec<u8>,
}

fn opening(message: Option<pb::AttestAgentRequest>) -> Result<Opening, Status> {
    let missing = |what: &str| Status::invalid_argument(format!("{what} is missing"));
    let Some(Asked::Params(params)) = message.and_then(|m| m.step) else { return Err(missing("params")) };
    let data = params.data.ok_or_else(|| missing("attestation data"))?;
    let csr = params.params.ok_or_else(|| missing("X.509 params"))?.csr;
    if data.r#type.is_empty() || data.payload.is_empty() || csr.is_empty() {
        return Err(missing("type, payload or CSR"));
    }
    if data.r#type.len() > MAX_TYPE_BYTES || csr.len() > MAX_CSR_BYTES {
        return Err(Status::invalid_argument("type or CSR is too long"));
    }
    Ok(Opening { kind: data.r#type, payload: data.payload, csr })
}

/// Commits in a task of its own: a caller that hangs up does not stop it half way.
async fn join_token(state: &Arc<State>, peer: &Arc<Peer>, opening: &Opening) -> Result<Admitted, Refused> {
    let Some(source) = peer.source else { return Err(Refused::Problem(enroll::no_source())) };
    let (work, token, csr) = (Arc::clone(state), opening.payload.clone(), opening.csr.clone());
    let task = tokio::spawn(async move {
        let admitted = enroll::join_token(&work, source, &token, &csr).await;
        if let Err(Refused::Denied(denied)) = &admitted {
            enroll::record(&work, "join_token", Suspect { source: Some(source), ..Suspect::default() }, denied).await;
        }
        admitted
    });
    task.await.unwrap_or_else(|died| Err(Refused::Problem(enroll::died(&died))))
}

/// An applicant that was asked something.
enum Open {
    Pkcs11(pkcs11::Open),
    Tpm(tpm::Open),
}

impl Open {
    fn stored(&self) -> Option<&Node> {
        match self {
            Self::Pkcs11(open) => open.stored(),
            Self::Tpm(open) => open.stored(),
        }
    }
}

/// Payload, challenge, answer: the messages are hashed exactly as received and sent.
async fn challenged(
    state: &Arc<State>,
    peer: &Arc<Peer>,
    opening: &Opening,
    kind: &'static str,
    mut asks: Asks,
    answers: &Answers,
) -> Result<Admitted, Refused> {
    let (open, message) = match begin(state, peer, opening).await {
        Ok(begun) => begun,
        Err(refused) => {
            let suspect = Suspect { source: peer.source, ..Suspect::default() };
            return Err(noted(state, kind, suspect, refused).await);
        }
    };
    let told = pb::AttestAgentResponse { step: Some(Told::Challenge(message.clone())) };
    if answers.send(Ok(told)).await.is_err() {
        return Err(Refused::Problem(gone()));
    }
    let Ok(Some(pb::AttestAgentRequest { step: Some(Asked::ChallengeResponse(bytes)) })) = asks.message().await else {
        return Err(Refused::Problem(gone()));
    };
    let (opening, csr) = (opening.payload.as_slice(), opening.csr.as_slice());
    let said = Exchange { kind, opening, csr, challenge: &message, answer: &bytes };
    let kept = enroll::kept(state, &said, peer.exporters.as_ref());
    let (work, peer) = (Arc::clone(state), Arc::clone(peer));
    // Once evidence is here, judging and committing go on even when the caller hangs up.
    let task = tokio::spawn(async move {
        let stored = open.stored().cloned();
        match finish(&work, &peer, open, (message, &bytes), kept.clone()).await {
            Ok(admitted) => Ok(admitted),
            Err(refused) => {
                let suspect = Suspect { node: stored.as_ref(), source: peer.source, kept: Some(&kept) };
                Err(noted(&work, kind, suspect, refused).await)
            }
        }
    });
    task.await.unwrap_or_else(|died| Err(Refused::Problem(enroll::died(&died))))
}

/// The open challenge and the bytes that are sent of it.
async fn begin(state: &State, peer: &Peer, opening: &Opening) -> Result<(Open, Vec<u8>), Refused> {
    enroll::exporters(peer.exporters)?;
    let (bytes, csr) = (opening.payload.as_slice(), opening.csr.as_slice());
    if opening.kind == pkcs11::TYPE {
        let payload = evidence::token_payload(bytes)?;
        let (open, challenge) = pkcs11::challenge(state, &payload, bytes, csr).await?;
        return Ok((Open::Pkcs11(open), evidence::token_challenge(challenge).encode_to_vec()));
    }
    let (payload, token) = evidence::payload(bytes)?;
    let (open, challenge) = tpm::challenge(state, &payload, token.as_ref(), bytes, csr).await?;
    Ok((Open::Tpm(open), evidence::challenge(&challenge).encode_to_vec()))
}

async fn finish(
    state: &Arc<State>,
    peer: &Peer,
    open: Open,
    (message, bytes): (Vec<u8>, &[u8]),
    kept: KeptEvidence,
) -> Result<Admitted, Refused> {
    let source = peer.source.ok_or_else(enroll::no_source)?;
    let exporters = enroll::exporters(peer.exporters)?;
    match open {
        Open::Pkcs11(open) => {
            let (response, exporter) = (evidence::token_response(bytes)?, exporters.pkcs11);
            pkcs11::answer(state, open, pkcs11::Answer { message, response, exporter, source, kept }).await
        }
        Open::Tpm(open) => {
            let (response, token) = evidence::response(bytes)?;
            tpm::answer(state, open, tpm::Answer { message, response, token, exporters, source, kept }).await
        }
    }
}

/// Writes a denial down before the peer is told `denied`.
async fn noted(state: &State, kind: &str, suspect: Suspect<'_>, refused: Refused) -> Refused {
    if let Refused::Denied(denied) = &refused {
        enroll::record(state, kind, suspect, denied).await;
    }
    refused
}

fn gone() -> Problem {
    Problem::Invalid("the answer to the challenge is missing".into())
}

fn answer(admitted: &Admitted) -> pb::AttestAgentResponse {
    let svid = wire::x509_svid(&admitted.id, &admitted.chain, admitted.expires_at);
    let result = pb::attest_agent_response::Result { svid: Some(svid), reattestable: admitted.reattestable };
    pb::AttestAgentResponse { step: Some(Told::Result(result)) }
}
