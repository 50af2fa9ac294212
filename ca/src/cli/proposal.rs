//! `proposal list|review`.

use chancery_core::detect::Verdict;
use chancery_proto::chancery::admin::v1::{ListProposalsRequest, ReviewProposalRequest};
use clap::Subcommand;
use serde_json::json;

use super::{Answer, Client, Failure, json, pretty, value};

#[derive(Debug, Subcommand)]
pub enum ProposalCommand {
    /// List what detectors propose
    #[command(after_help = "Examples:\n  chancery-ca proposal list --open\n  chancery-ca proposal list --output json")]
    List {
        /// Only what nobody has reviewed
        #[arg(long)]
        open: bool,
    },
    /// Close a proposal: say what it was; holds and revocations have commands of their own
    #[command(after_help = "\
Examples:
  chancery-ca proposal review 4711 --verdict false-alarm --reason 'the node has two uplinks'
  chancery-ca proposal review 4711 --verdict incident --began 2026-01-31T10:00:00Z --reason 'key copied with a backup'

How long an incident went on is counted from --began to the first hold, revocation or end of the instance; else to the review.
So contain first: `chancery-ca hold place`, `chancery-ca revoke --instance`.")]
    Review {
        /// Number of the proposal; EPOCH/NUMBER for one of an earlier epoch
        #[arg(value_name = "NUMBER", value_parser = which)]
        which: (Option<i64>, i64),
        /// incident or false-alarm
        #[arg(long, value_name = "VERDICT")]
        verdict: Verdict,
        /// Why; stands in the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// When it began, where that was before the first evidence
        #[arg(long, value_parser = value::moment, value_name = "TIME")]
        began: Option<i64>,
    },
}

fn which(text: &str) -> Result<(Option<i64>, i64), String> {
    let number = |text: &str| {
        let number = text.parse::<i64>().map_err(|e| format!("'{text}': {e}"))?;
        if number < 0 { Err(format!("'{text}' is below 0")) } else { Ok(number) }
    };
    match text.split_once('/') {
        Some((epoch, rest)) => Ok((Some(number(epoch)?), number(rest)?)),
        None => Ok((None, number(text)?)),
    }
}

pub async fn run(client: &Client, command: ProposalCommand) -> Result<Answer, Failure> {
    match command {
        ProposalCommand::List { open } => list(client, open).await,
        ProposalCommand::Review { which: (epoch, number), verdict, reason, began } => {
            let (verdict, began_at) = (verdict.name().to_owned(), began.unwrap_or_default());
            let text = format!("Reviewed: proposal {number}, {verdict}");
            let request = ReviewProposalRequest { number, epoch, verdict, reason, began_at };
            client.admin().review_proposal(request).await?;
            Ok(Answer::new(json!({}), text))
        }
    }
}

async fn list(client: &Client, open: bool) -> Result<Answer, Failure> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListProposalsRequest { open, page_size: 0, page_token };
        let page = client.admin().list_proposals(request).await?.into_inner();
        all.extend(page.proposals);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Answer::new(json::proposals(&all), pretty::listed(&all, "proposals", pretty::proposal)));
        }
    }
}
