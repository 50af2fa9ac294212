//! `hold place|release|list`.

use chancery_proto::chancery::admin::v1::{ListHoldsRequest, PlaceHoldRequest, ReleaseHoldRequest};
use chancery_sdk::id::SpiffeId;
use clap::Subcommand;
use serde_json::json;

use super::{Answer, Client, Failure, json, pretty, value};

#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Hold an instance: no new SVID, no token, and peers refuse it until the end; holding again replaces the end
    #[command(after_help = "\
Examples:
  chancery-ca hold place --instance spiffe://example.org/agent/refund/01890a5d-ac96-774b-bcce-b302099a8057 --for 10m --reason 'odd transfers'
  chancery-ca hold place --instance spiffe://example.org/agent/refund/01890a5d-ac96-774b-bcce-b302099a8057 --reason 'still looking'

It ends by itself and is for looking. What is known to be bad is revoked: `chancery-ca revoke --instance ID`; that is for ever.")]
    Place {
        /// SPIFFE ID of the instance
        #[arg(long, value_parser = value::id, value_name = "ID")]
        instance: SpiffeId,
        /// How long: 1s to 15m
        #[arg(long = "for", value_parser = value::ttl, value_name = "TIME", default_value = "15m")]
        span: i32,
        /// Why; stands in the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold before its time
    #[command(after_help = "Example:\n  chancery-ca hold release --instance \
        spiffe://example.org/agent/refund/01890a5d-ac96-774b-bcce-b302099a8057 --reason 'false alarm'")]
    Release {
        /// SPIFFE ID of the instance
        #[arg(long, value_parser = value::id, value_name = "ID")]
        instance: SpiffeId,
        /// Why; stands in the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the holds in force
    #[command(after_help = "Example:\n  chancery-ca hold list --output json")]
    List,
}

pub async fn run(client: &Client, command: HoldCommand) -> Result<Answer, Failure> {
    match command {
        HoldCommand::Place { instance, span, reason } => {
            let request = PlaceHoldRequest { instance: instance.to_string(), seconds: span.into(), reason };
            let until = client.admin().place_hold(request).await?.into_inner().until;
            let text = format!(
                "Held: {instance}\nNothing new is issued for it, and peers that follow the list refuse it, until {}.",
                value::rfc3339(until)
            );
            Ok(Answer::new(json!({ "until": json::long(until) }), text))
        }
        HoldCommand::Release { instance, reason } => {
            client.admin().release_hold(ReleaseHoldRequest { instance: instance.to_string(), reason }).await?;
            Ok(Answer::new(json!({}), format!("Released: {instance}")))
        }
        HoldCommand::List => list(client).await,
    }
}

async fn list(client: &Client) -> Result<Answer, Failure> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = client.admin().list_holds(ListHoldsRequest { page_size: 0, page_token }).await?.into_inner();
        all.extend(page.holds);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Answer::new(json::holds(&all), pretty::listed(&all, "holds", pretty::hold)));
        }
    }
}
