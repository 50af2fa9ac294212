//! `trace`: from a credential, a process, a node or a request to what the record has of it, without a running CA.

use std::{fmt::Write as _, fs, path::PathBuf};

use chancery_core::trace::{
    self as core, Target,
    bundle::{Bundle, Proved},
};
use clap::Args;
use serde_json::Value;

use super::{Answer, Common, Failure, audit, print, serve, value::rfc3339};
use crate::{store::Store, trace::trace};

/// Fields that are of no use to people.
const SILENT: [&str; 2] = ["public", "start_token"];

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery-ca trace spiffe://example.org/agent/refund/0189... --config /etc/chancery/ca.toml
  chancery-ca trace 4be1...9c --bundle case.json --config /etc/chancery/ca.toml     serial or request id
  chancery-ca trace spiffe://example.org/spire/agent/tpm/3f6c... --pid 4711 --config /etc/chancery/ca.toml
  chancery-ca trace spiffe://example.org/spire/agent/tpm/3f6c... --since-quote --config /etc/chancery/ca.toml
  chancery-verify bundle case.json --key \"$(chancery-ca audit key --config /etc/chancery/ca.toml)\"")]
pub struct TraceArgs {
    /// SPIFFE ID of an instance, an entry's or a node's; a serial (decimal, or hex after 0x), request id, traceparent or its trace id
    id: String,
    /// The process of this pid on the node ID
    #[arg(long, value_name = "PID", conflicts_with = "since_quote")]
    pid: Option<u32>,
    /// Of the node ID only what ran when it proved itself last, and since
    #[arg(long)]
    since_quote: bool,
    /// Write events, proofs and checkpoints there, for `chancery-verify bundle`
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

impl TraceArgs {
    fn target(&self) -> Result<Target, Failure> {
        let id = self.id.clone();
        if id.is_empty() || id.len() > core::MAX_NAME_BYTES {
            return Err(Failure::usage(format!("ID: 1 to {} bytes", core::MAX_NAME_BYTES)));
        }
        let is_node = core::is_node(&id);
        match (self.pid, self.since_quote) {
            (Some(_), _) | (_, true) if !is_node => {
                Err(Failure::usage(format!("--pid and --since-quote go with the ID of a node, which {id} is not")))
            }
            (Some(pid), _) => Ok(Target::Process { node: id, pid: pid.to_string() }),
            (None, since_quote) if is_node => Ok(Target::Node { id, since_quote }),
            _ if id.starts_with("spiffe://") => Ok(Target::Id(id)),
            _ => Ok(Target::Word(decimal(&id).unwrap_or(id))),
        }
    }
}

/// A serial in hex, as openssl prints it, in the record's form.
fn decimal(text: &str) -> Option<String> {
    let digits = match text.strip_prefix("0x") {
        Some(digits) => digits.to_owned(),
        None if text.contains(':') => text.replace(':', ""),
        None => return None,
    };
    u128::from_str_radix(&digits, 16).ok().map(|serial| serial.to_string())
}

/// Reads the record and prints the trace.
///
/// # Errors
/// [`Failure`].
pub fn run(common: &Common, args: &TraceArgs) -> Result<(), Failure> {
    let target = args.target()?;
    let config = serve::config(common)?;
    let found = serve::runtime()?.block_on(async {
        let store = Store::open(&config.database(), audit::READER).await.map_err(|e| e.to_string())?;
        let found = trace(&store, &config, target, &args.id, audit::progress("read")).await;
        store.close().await;
        found.map_err(|e| e.to_string())
    });
    let found = found.map_err(Failure::refused)?;
    let json = serde_json::to_value(&found).map_err(|e| Failure::refused(e.to_string()))?;
    if let Some(path) = &args.bundle {
        let written = fs::write(path, json.to_string());
        written.map_err(|e| Failure::refused(format!("--bundle {}: {e}", path.display())))?;
    }
    print(Answer::new(json, pretty(&found)), common.output)
}

fn pretty(bundle: &Bundle) -> String {
    let mut text = String::new();
    for proved in &bundle.events {
        event(&mut text, proved);
    }
    let unproved = bundle.events.iter().filter(|proved| proved.proof.is_none()).count();
    // Writing to a String does not fail.
    let _ = match unproved {
        0 => writeln!(text, "{} events, each in the log of a checkpoint", bundle.events.len()),
        _ => writeln!(
            text,
            "{} events; {unproved} are after the checkpoint in the log's folder, or it is not there: ask again in a moment",
            bundle.events.len()
        ),
    };
    if bundle.cut {
        text.push_str("There are more: older ones were left out\n");
    }
    text
}

fn event(text: &mut String, proved: &Proved) {
    let Ok(json) = serde_json::from_str::<Value>(&proved.event) else { return };
    let of = |key: &str| json.get(key).cloned().unwrap_or_default();
    let (kind, subject) = (of("kind"), of("subject"));
    let at = rfc3339(of("at").as_i64().unwrap_or_default());
    let proof = if proved.proof.is_some() { "in the log" } else { "NOT IN THE LOG YET" };
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "{}/{} {at} {} {} ({}, {proof})",
        of("epoch"),
        of("number"),
        kind.as_str().unwrap_or_default(),
        subject.as_str().unwrap_or_default(),
        proved.role
    );
    for (name, value) in
        of("fields").as_object().into_iter().flatten().filter(|(name, _)| !SILENT.contains(&name.as_str()))
    {
        let clear = proved.clear.iter().find(|clear| clear.field == *name).map(|clear| clear.value.as_str());
        let erased = value.get("salted_sha256").map(|_| "(erased)");
        match (clear.or(erased), value) {
            (Some(shown), _) => line(text, name, shown),
            (None, Value::String(shown)) => line(text, name, shown),
            (None, Value::Array(all)) if all.iter().all(Value::is_object) => {
                all.iter().for_each(|one| step(text, name, one))
            }
            (None, Value::Array(all)) => all.iter().for_each(|one| line(text, name, one.as_str().unwrap_or_default())),
            (None, other) => line(text, name, &other.to_string()),
        }
    }
}

/// A step of an appraisal.
fn step(text: &mut String, name: &str, step: &Value) {
    let of = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
    match step.get("passed").and_then(Value::as_bool) {
        Some(passed) => {
            let verdict = if passed { "passed" } else { "FAILED" };
            line(text, name, &format!("{verdict} {} {}", of("name"), of("detail")));
        }
        None => line(text, name, &step.to_string()),
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "    {name:<20}: {value}");
}
