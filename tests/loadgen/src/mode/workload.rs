//! The Workload API: from the call to the first SVID, over a UNIX socket.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chancery_proto::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use chancery_sdk::id::SpiffeId;
use clap::value_parser;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustix::process::geteuid;
use serde_json::json;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::PaceArgs;
use crate::{
    bout::{self, Measured, Plan, Transport},
    cli::Common,
    pace::Call,
    report::Reporter,
    server::{NewEntry, word},
    site::Site,
    stats::Outcome,
    target::{self, Target},
};

pub const EXAMPLE: &str = "Examples:
  loadgen --playground /tmp/pg/playground.json workload --in-flight 8
  loadgen workload --workload-socket /tmp/spire-agent/public/api.sock --pid $(pidof spire-agent)   (an entry for you exists)";

/// How long the first identity may take after its entry was made; SPIRE's agent asks every 5 s.
const FIRST_WITHIN: Duration = Duration::from_secs(45);
/// Between two tries for it.
const LOOK: Duration = Duration::from_millis(100);

/// Which socket, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pace: PaceArgs,
    /// Socket of the Workload API.
    #[arg(long, value_name = "PATH")]
    workload_socket: Option<PathBuf>,
    /// Make an entry for this user below this node (needs --admin-socket); absent: one is there already.
    #[arg(long, value_name = "SPIFFE_ID")]
    node_id: Option<String>,
    /// Connections; calls take them in turn.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=10_000))]
    connections: u16,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, run: &str, stop: &CancellationToken) -> Result<(), String> {
    let machine = target::playground(common)?.and_then(|playground| playground.nodes.into_iter().next());
    let socket = args.workload_socket.clone().or(machine.as_ref().map(|m| m.workload_socket.clone()));
    let socket = socket.ok_or("--workload-socket PATH is missing: give it, or --playground DIR/playground.json")?;
    let mut pids = common.pid.clone();
    if pids.is_empty() {
        pids.extend(machine.as_ref().map(|m| m.pid));
    }
    let mut reporter = Reporter::new(run, "workload", common.output, &pids, stop.clone())?;
    let site = match args.node_id.clone().or(machine.map(|m| m.spiffe_id)) {
        Some(node) => Some(with_entry(&node, common, run, stop).await?),
        None => None,
    };
    let outcome = measure(args, common, &socket, &mut reporter, stop).await;
    if let Some(site) = site {
        site.close().await;
    }
    outcome
}

/// An entry for whoever runs this; it is gone when the site is closed.
async fn with_entry(node: &str, common: &Common, run: &str, stop: &CancellationToken) -> Result<Site, String> {
    let id = SpiffeId::parse(node).map_err(|e| format!("--node-id {node}: {e}"))?;
    let site = Site::open(common, &Target::of(common)?, run, stop.clone()).await?;
    let selector = ("unix".to_owned(), format!("uid:{}", geteuid().as_raw()));
    let entry = NewEntry { parent: id.path().to_owned(), path: site.path("workload"), selector };
    match site.entries_of(&[entry]).await {
        Ok(_) => Ok(site),
        Err(problem) => {
            site.close().await;
            Err(problem)
        }
    }
}

async fn measure(
    args: &Args,
    common: &Common,
    socket: &Path,
    reporter: &mut Reporter,
    stop: &CancellationToken,
) -> Result<(), String> {
    let mut channels = Vec::new();
    for _ in 0..args.connections {
        channels.push(dial(socket).await?);
    }
    let call = Fetch { channels, answer: AtomicUsize::new(0) };
    first(&call, stop).await?;
    let plan = Plan { pace: args.pace.pace(), transport: Transport::Unix, connections: args.connections.into() };
    bout::measure(call, plan, common, reporter, stop, json!({})).await
}

async fn dial(socket: &Path) -> Result<Channel, String> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    channel
        .map_err(|_| format!("--workload-socket {}: nobody answers; is the agent of this node up?", socket.display()))
}

/// Waits for the first identity: the entry may be younger than what the node knows.
async fn first(call: &Fetch, stop: &CancellationToken) -> Result<(), String> {
    let end = tokio::time::Instant::now() + FIRST_WITHIN;
    while let Err(word) = call.call(0).await {
        if tokio::time::Instant::now() > end || stop.is_cancelled() {
            let uid = geteuid().as_raw();
            return Err(format!(
                "no identity ({word}): make an entry with selector unix:uid:{uid} below the node, or give --node-id and --admin-socket"
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

struct Fetch {
    channels: Vec<Channel>,
    answer: AtomicUsize,
}

impl Call for Fetch {
    fn name(&self) -> &'static str {
        "fetch"
    }

    /// Until the first message is there: that is what a process waits for. Then the stream is dropped.
    async fn call(&self, number: u64) -> Outcome {
        let channel = self.channels[(number % self.channels.len() as u64) as usize].clone();
        let mut request = Request::new(X509svidRequest {});
        request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let mut client = SpiffeWorkloadApiClient::new(channel);
        let say = |status: Status| word(&status);
        let message = client.fetch_x509svid(request).await.map_err(say)?.into_inner().message().await.map_err(say)?;
        let message = message.ok_or("NoAnswer")?;
        self.answer.store(message.encoded_len(), Ordering::Relaxed);
        match message.svids.len() {
            0 => Err("NoSvid".into()),
            svids => Ok(svids as u64),
        }
    }
}

impl Measured for Fetch {
    fn sizes(&self) -> (usize, usize) {
        (0, self.answer.load(Ordering::Relaxed))
    }
}
