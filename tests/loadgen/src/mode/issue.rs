//! X509-SVIDs by CSRs that were made before: the server's work, and as little of ours as can be.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chancery_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient,
};
use clap::value_parser;
use prost::Message;
use serde_json::json;

use super::{
    PaceArgs,
    holders::{Holder, holders},
};
use crate::{
    bout::{self, Measured, Plan, Transport},
    cli::Common,
    pace::Call,
    report::Reporter,
    server::{MAX_ANSWER_BYTES, csr, issued, word},
    site::Site,
    stats::Outcome,
};

pub const EXAMPLE: &str = "Examples:
  loadgen --playground /tmp/pg/playground.json issue --batch 32 --in-flight 8
  loadgen --playground /tmp/pg/playground.json issue --rate 2000 --for 30s";

/// Which SVIDs are asked for, and how.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Args {
    #[command(flatten)]
    pace: PaceArgs,
    /// CSRs in a call; SPIRE's agent sends up to 500.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=500))]
    batch: u16,
    /// Nodes, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// Entries below each node; at least as many as --batch.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    entries: u16,
    /// Keys and CSRs made beforehand and used in turn.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(1..=1_000_000))]
    csrs: u32,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let entries = usize::from(args.entries.max(args.batch));
    let holders = holders(site, args.nodes.into(), entries).await?;
    eprintln!("loadgen: {} keys and CSRs", args.csrs);
    let csrs = tokio::task::spawn_blocking(move || (0..args.csrs).map(|_| csr()).collect::<Result<Vec<_>, _>>());
    let csrs = site.unless_stopped(async { csrs.await.map_err(|e| e.to_string())? }).await?;
    let call = Issue { holders, csrs, batch: args.batch.into(), request: 0.into(), answer: 0.into() };
    let plan = Plan { pace: args.pace.pace(), transport: Transport::Mtls, connections: args.nodes.into() };
    let more = json!({ "batch": args.batch, "entries_per_node": entries, "csrs": args.csrs });
    bout::measure(call, plan, common, reporter, &site.stop, more).await
}

struct Issue {
    holders: Vec<Holder>,
    csrs: Vec<Vec<u8>>,
    batch: usize,
    request: AtomicUsize,
    answer: AtomicUsize,
}

impl Issue {
    /// The nodes take turns; so do a node's entries, and the CSRs.
    fn request(&self, holder: &Holder, number: u64) -> BatchNewX509svidRequest {
        let first = usize::try_from(number).unwrap_or_default().wrapping_mul(self.batch);
        let one = |at: usize| NewX509svidParams {
            entry_id: holder.entries[at % holder.entries.len()].clone(),
            csr: self.csrs[at % self.csrs.len()].clone(),
        };
        BatchNewX509svidRequest { params: (first..first.wrapping_add(self.batch)).map(one).collect() }
    }
}

impl Call for Issue {
    fn name(&self) -> &'static str {
        "issue"
    }

    async fn call(&self, number: u64) -> Outcome {
        let holder = &self.holders[(number % self.holders.len() as u64) as usize];
        let request = Arc::new(self.request(holder, number / self.holders.len() as u64));
        self.request.store(request.encoded_len(), Ordering::Relaxed);
        let answer = holder.link.call(|channel| {
            let request = Arc::clone(&request);
            async move {
                let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
                client.batch_new_x509svid(BatchNewX509svidRequest::clone(&request)).await
            }
        });
        let answer = answer.await.map_err(|status| word(&status))?;
        self.answer.store(answer.encoded_len(), Ordering::Relaxed);
        issued(&answer, self.batch)
    }
}

impl Measured for Issue {
    fn sizes(&self) -> (usize, usize) {
        (self.request.load(Ordering::Relaxed), self.answer.load(Ordering::Relaxed))
    }
}
