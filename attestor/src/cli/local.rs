//! Reaching the attestor on this machine.

use std::path::{Path, PathBuf};

use chancery_proto::{
    chancery::attestor::v1::{
        Candidate, ExplainRequest, ExplainResponse, GetStatusRequest, GetStatusResponse,
        attestor_client::AttestorClient,
    },
    spire::api::types::Selector,
};
use chancery_sdk::workload::{Endpoint, EndpointError};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint as Target};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::Output;

/// Where the packages put the Workload API.
const WORKLOAD_SOCKET: &str = "/run/chancery/attestor/workload.sock";
/// Where the packages put the operator's socket.
pub(super) const ADMIN_SOCKET: &str = "/run/chancery/attestor/admin.sock";

/// The Workload API: as given, else SPIFFE_ENDPOINT_SOCKET, else the packages' path.
pub(super) fn endpoint(socket: Option<&Path>) -> Result<Endpoint, String> {
    let found = match socket {
        Some(path) => std::path::absolute(path).map_err(|e| e.to_string()).map(|p| Endpoint::unix(&p)),
        None => Ok(Endpoint::from_env()),
    }?;
    match found {
        Err(EndpointError::NotSet) => Endpoint::unix(Path::new(WORKLOAD_SOCKET)).map_err(|e| e.to_string()),
        other => other.map_err(|e| e.to_string()),
    }
}

/// Fails unless the Workload API can answer.
pub(super) async fn healthcheck(socket: Option<&Path>) -> Result<(), String> {
    let path = match endpoint(socket)? {
        Endpoint::Unix(path) => path,
        other => return Err(format!("only a UNIX socket can be asked, not {other:?}")),
    };
    let answer = HealthClient::new(connect(path).await?).check(HealthCheckRequest::default()).await;
    match answer.map_err(|e| e.message().to_owned())?.into_inner().status() {
        ServingStatus::Serving => {
            println!("serving");
            Ok(())
        }
        _ => Err("not serving: the node has no standing, or the CA has not been heard yet".into()),
    }
}

/// Prints what a process is to the attestor.
pub(super) async fn explain(socket: &Path, pid: i32, output: Output) -> Result<(), String> {
    let mut client = AttestorClient::new(connect(socket.to_owned()).await?);
    let answer = client.explain(ExplainRequest { pid }).await.map_err(|e| e.message().to_owned())?.into_inner();
    match output {
        Output::Json => println!("{}", explain_json(&answer)),
        Output::Pretty => print_explain(pid, &answer),
    }
    Ok(())
}

/// What the attestor says of itself; `None` where none runs.
pub(super) async fn status(socket: &Path) -> Option<GetStatusResponse> {
    let channel = connect(socket.to_owned()).await.ok()?;
    let answer = AttestorClient::new(channel).get_status(GetStatusRequest {}).await;
    Some(answer.ok()?.into_inner())
}

async fn connect(path: PathBuf) -> Result<Channel, String> {
    let told = format!("{}: no attestor answers there", path.display());
    let dial = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Target::from_static("http://attestor").connect_with_connector(dial).await.map_err(|_| told)
}

fn print_explain(pid: i32, answer: &ExplainResponse) {
    println!("Process {pid} gets: {}", answer.verdict);
    if !answer.instance_id.is_empty() {
        println!("Instance : {}", answer.instance_id);
    }
    println!("\nSelectors");
    answer.selectors.iter().for_each(|s| println!("  {}", text(s)));
    for (title, candidates) in [("Classes", &answer.classes), ("Entries", &answer.entries)] {
        println!("\n{title}, nearest first");
        candidates.iter().for_each(print_candidate);
    }
}

fn print_candidate(candidate: &Candidate) {
    println!("  {} {} {}", if candidate.matches { "+" } else { "-" }, candidate.name, candidate.spiffe_id);
    candidate.missing.iter().for_each(|s| println!("      lacks {}", text(s)));
}

fn text(selector: &Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

fn explain_json(answer: &ExplainResponse) -> Value {
    let selectors =
        |list: &[Selector]| list.iter().map(|s| json!({"type": s.r#type, "value": s.value})).collect::<Vec<_>>();
    let candidates = |list: &[Candidate]| {
        let one = |c: &Candidate| json!({"matches": c.matches, "missing": selectors(&c.missing), "name": c.name, "spiffe_id": c.spiffe_id});
        list.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "classes": candidates(&answer.classes),
        "entries": candidates(&answer.entries),
        "instance_id": answer.instance_id,
        "selectors": selectors(&answer.selectors),
        "verdict": answer.verdict,
    })
}
