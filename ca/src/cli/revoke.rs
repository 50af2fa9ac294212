//! `revoke`, `class reopen` and `revocation`.

use chancery_proto::chancery::admin::v1::{
    ListRevocationsRequest, ListRevocationsResponse, ReopenClassRequest, RevokeRequest, revoke_request::What,
};
use chancery_sdk::id::SpiffeId;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Answer, Client, Failure, json, pretty, value};

const EXAMPLES: &str = "\
Examples:
  chancery-ca revoke --instance spiffe://example.org/agent/refund/01890a5d-ac96-774b-bcce-b302099a8057 --reason 'key leaked'
  chancery-ca revoke --class finance/refund-agent --reason 'prompt injection, case 7'
  chancery-ca revoke --entry 8f0c2b1e-7f5d-4f6b-9d57-2a1f6d0f3c11 --reason 'service retired'
  chancery-ca revoke --node spiffe://example.org/spire/agent/tpm/3f6c... --all-under --reason 'machine stolen'
  chancery-ca revoke --serial 274919437871213 --reason 'key found in a backup'
  chancery-ca revoke --serial 5d3f...:274919437871213 --reason 'key found in a backup'
  chancery-ca revoke --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --reason 'bad build'

From the answer on no server issues anything new for it. A class that was closed by it begins again after
  chancery-ca class reopen NODE CLASS --reason TEXT";

/// What is revoked, and why.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RevokeArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// With --node: also what entries had issued through it
    #[arg(long)]
    all_under: bool,
    /// Why; stands in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Exactly one of them.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct WhatArgs {
    /// One instance; its class is closed on its node, so that its process cannot begin a child
    #[arg(long, value_parser = value::id, value_name = "ID")]
    instance: Option<SpiffeId>,
    /// Every instance of a class; it is closed on every node
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// An entry, which is deleted, and what was issued through it
    #[arg(long, value_name = "ID")]
    entry: Option<String>,
    /// A node, which is banned, and its instances
    #[arg(long, value_parser = value::id, value_name = "ID")]
    node: Option<SpiffeId>,
    /// One certificate by its decimal serial number, or AUTHORITY:SERIAL; its holder may be given another one
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// Every instance that runs this executable (SHA-256 of its file); nothing of it begins any more
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum RevocationCommand {
    /// List what is revoked and has not ended by itself, and what does not begin
    #[command(after_help = "Example:\n  chancery-ca revocation list --output json")]
    List,
}

pub async fn revoke(client: &Client, args: RevokeArgs) -> Result<Answer, Failure> {
    let RevokeArgs { what: WhatArgs { instance, class, entry, node, serial, sha256 }, all_under, reason } = args;
    if all_under && node.is_none() {
        return Err(Failure::usage("--all-under goes with --node"));
    }
    let what = instance.map(|id| What::Instance(id.to_string()));
    let what = what.or_else(|| class.map(What::ClassName)).or_else(|| entry.map(What::Entry));
    let what = what.or_else(|| serial.map(What::Serial));
    let what = what.or_else(|| node.map(|id| What::Node(id.to_string()))).or_else(|| sha256.map(What::Sha256));
    let done = client.admin().revoke(RevokeRequest { what, all_under, reason }).await?.into_inner();
    Ok(Answer::new(json::revoked(&done), pretty::revoked(&done)))
}

pub async fn reopen(client: &Client, node: String, class_name: String, reason: String) -> Result<Answer, Failure> {
    let request = ReopenClassRequest { node: node.clone(), class_name: class_name.clone(), reason };
    client.admin().reopen_class(request).await?;
    Ok(Answer::new(json!({}), format!("Reopened class: {class_name} on {node}; what was revoked stays revoked")))
}

pub async fn revocation(client: &Client, command: RevocationCommand) -> Result<Answer, Failure> {
    let RevocationCommand::List = command;
    let mut all = ListRevocationsResponse::default();
    loop {
        let page_token = std::mem::take(&mut all.next_page_token);
        let page = client.admin().list_revocations(ListRevocationsRequest { page_size: 0, page_token }).await?;
        let page = page.into_inner();
        all.revocations.extend(page.revocations);
        all.closures.extend(page.closures);
        all.executables.extend(page.executables);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(Answer::new(json::revocations(&all), pretty::revocations(&all)));
        }
    }
}
