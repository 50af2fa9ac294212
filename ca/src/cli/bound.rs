//! `bound`: how long somebody may accept what was revoked.

use chancery_daemon::config::Span;
use clap::Args;
use serde_json::json;

use super::{Answer, Common, Failure, print, serve};
use crate::bound::{self, Bound};

/// As the attestor's configuration has it when nobody says.
const CA_PING_INTERVAL: &str = "60s";

const EXAMPLES: &str = "\
Examples:
  chancery-ca bound --config /etc/chancery/ca.toml
  chancery-ca bound --config /etc/chancery/ca.toml --ca-ping-interval 10s --output json

Each line: the longest time from the answer of `revoke` until nobody of that kind accepts the SVID or token, and the keys of the
configuration that it comes from. Clocks are taken to be right. It reads the file only, and needs no running CA.";

/// What is not in the CA's own configuration.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BoundArgs {
    /// The nodes' `ca_ping_interval`
    #[arg(long, value_name = "TIME", default_value = CA_PING_INTERVAL)]
    ca_ping_interval: Span,
}

/// Prints the bounds.
///
/// # Errors
/// [`Failure`].
pub fn run(common: &Common, args: &BoundArgs) -> Result<(), Failure> {
    let config = serve::config(common)?;
    let bounds = bound::bounds(&config, args.ca_ping_interval.0);
    print(Answer::new(json(&bounds), pretty(&bounds)), common.output)
}

fn json(bounds: &[Bound]) -> serde_json::Value {
    let one = |bound: &Bound| {
        json!({
            "credential": bound.credential.name(),
            "keys": bound.keys,
            "milliseconds": bound.longest.as_millis().to_string(),
            "party": bound.party.name(),
        })
    };
    json!({ "bounds": bounds.iter().map(one).collect::<Vec<_>>() })
}

fn pretty(bounds: &[Bound]) -> String {
    let mut text = String::new();
    let mut last = None;
    for bound in bounds {
        if last.replace(bound.credential) != Some(bound.credential) {
            text.push_str(&format!("{}\n", bound.credential.name()));
        }
        let longest = Span(bound.longest).to_string();
        let keys = if bound.keys.is_empty() { "(fixed)".to_owned() } else { bound.keys.join(", ") };
        text.push_str(&format!("  {longest:>8}  {:<66}  {keys}\n", bound.party.words()));
    }
    text
}
