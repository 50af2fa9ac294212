//! JWT-SVIDs, one a call.

use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_proto::spire::api::server::svid::v1::{NewJwtsvidRequest, svid_client::SvidClient};
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
    server::word,
    site::Site,
    stats::Outcome,
};

pub const EXAMPLE: &str = "Example:
  loadgen --playground /tmp/pg/playground.json jwt --in-flight 64";

/// Which tokens are asked for, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pace: PaceArgs,
    /// Nodes, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// Entries below each node, asked for in turn.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    entries: u16,
    /// Audience of the tokens.
    #[arg(long, value_name = "NAME", default_value = "loadgen")]
    audience: String,
}

/// Runs the mode.
///
/// # Errors
/// One line: what failed, and what to do.
pub async fn run(args: &Args, common: &Common, site: &Site, reporter: &mut Reporter) -> Result<(), String> {
    let holders = holders(site, args.nodes.into(), args.entries.into()).await?;
    let call = Jwt { holders, audience: args.audience.clone(), request: 0.into(), answer: 0.into() };
    let plan = Plan { pace: args.pace.pace(), transport: Transport::Mtls, connections: args.nodes.into() };
    bout::measure(call, plan, common, reporter, &site.stop, json!({ "entries_per_node": args.entries })).await
}

struct Jwt {
    holders: Vec<Holder>,
    audience: String,
    request: AtomicUsize,
    answer: AtomicUsize,
}

impl Call for Jwt {
    fn name(&self) -> &'static str {
        "jwt"
    }

    async fn call(&self, number: u64) -> Outcome {
        let turns = self.holders.len() as u64;
        let holder = &self.holders[(number % turns) as usize];
        let entry = &holder.entries[(number / turns % holder.entries.len() as u64) as usize];
        let request = NewJwtsvidRequest { entry_id: entry.clone(), audience: vec![self.audience.clone()] };
        self.request.store(request.encoded_len(), Ordering::Relaxed);
        let answer = holder.link.call(|channel| {
            let request = request.clone();
            async move { SvidClient::new(channel).new_jwtsvid(request).await }
        });
        let answer = answer.await.map_err(|status| word(&status))?;
        self.answer.store(answer.encoded_len(), Ordering::Relaxed);
        match answer.svid.is_some_and(|svid| !svid.token.is_empty()) {
            true => Ok(1),
            false => Err("NoToken".into()),
        }
    }
}

impl Measured for Jwt {
    fn sizes(&self) -> (usize, usize) {
        (self.request.load(Ordering::Relaxed), self.answer.load(Ordering::Relaxed))
    }
}
