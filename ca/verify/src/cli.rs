//! The command line: one line that says how it went, or one of JSON.

use std::{io::Write, path::PathBuf, process::ExitCode};

use chancery_core::{log::note::VerifierKey, trace::bundle::Bundle};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::copy::{Copy, bounded};

/// Events between two words of progress.
const STEP: u64 = 100_000;

const EXAMPLES: &str = "\
Examples:
  chancery-verify log /srv/log/0 --key 'prod.example.org/0+9bf17b82+AQcH...' --since /media/usb/checkpoint
  chancery-verify inclusion /srv/log/0 --key ... 1234
  chancery-verify consistency /srv/log/0 --key ... /media/usb/checkpoint
  chancery-verify bundle case.json --key ...";

/// Verifies a copy of a Chancery record's log by itself, offline.
#[derive(Debug, Parser)]
#[command(name = "chancery-verify", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Form of the answer
    #[arg(long, global = true, value_enum, default_value_t = Output::Pretty)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Json,
    Pretty,
}

/// Which log, and whose.
#[derive(Args, Debug)]
struct Source {
    /// Folder of one epoch: with `checkpoint` and `tile`
    dir: PathBuf,
    /// Public key of the log, as `chancery-ca audit key` prints it; several where it was rotated
    #[arg(long = "key", required = true, value_name = "KEY")]
    keys: Vec<VerifierKey>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every tile and event, and the checkpoint
    Log {
        #[command(flatten)]
        source: Source,
        /// An older checkpoint, kept elsewhere, that the log must continue
        #[arg(long, value_name = "CHECKPOINT_FILE")]
        since: Option<PathBuf>,
    },
    /// That one event is in the log: prints it
    Inclusion {
        #[command(flatten)]
        source: Source,
        /// Number of the event
        number: u64,
    },
    /// That the log continues the one of an older checkpoint
    Consistency {
        #[command(flatten)]
        source: Source,
        /// The older checkpoint
        older: PathBuf,
    },
    /// A trace that `chancery-ca trace --bundle` wrote: each event, and the chain from credential to node
    Bundle {
        /// The file
        file: PathBuf,
        /// Public key of the log, as `chancery-ca audit key` prints it; several where several servers sign
        #[arg(long = "key", required = true, value_name = "KEY")]
        keys: Vec<VerifierKey>,
    },
}

/// Parses the arguments, verifies, says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let (text, code) = match run(cli.command) {
        Ok((json, pretty)) => (if cli.output == Output::Json { json.to_string() } else { pretty }, ExitCode::SUCCESS),
        Err(why) => {
            // Nobody reads stderr any more: the exit code still tells.
            let _ = writeln!(std::io::stderr(), "Error: {why}");
            let json = json!({ "verified": false, "why": why }).to_string();
            (if cli.output == Output::Json { json } else { String::new() }, ExitCode::FAILURE)
        }
    };
    if !text.is_empty() {
        // The same of stdout.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
    code
}

fn run(command: Command) -> Result<(Value, String), String> {
    match command {
        Command::Log { source, since } => whole(&Copy::open(&source.dir, source.keys)?, since.as_deref()),
        Command::Bundle { file, keys } => trace(&file, &keys),
        Command::Inclusion { source, number } => inclusion(&Copy::open(&source.dir, source.keys)?, number),
        Command::Consistency { source, older } => {
            let copy = Copy::open(&source.dir, source.keys)?;
            let older = copy.continues(&older)?;
            let head = copy.checkpoint.head;
            let json = json!({ "verified": true, "old": older.head.size.to_string(), "new": head.size.to_string() });
            Ok((json, format!("The log of {} events begins with the one of {}", head.size, older.head.size)))
        }
    }
}

fn whole(copy: &Copy, since: Option<&std::path::Path>) -> Result<(Value, String), String> {
    if let Some(older) = since {
        copy.continues(older)?;
    }
    let mut told = 0;
    copy.verify(|events| {
        if events / STEP > told {
            told = events / STEP;
            // Nobody reads it: fine.
            let _ = writeln!(std::io::stderr(), "{events} events verified");
        }
    })?;
    let (size, root) = (copy.checkpoint.head.size, hex::encode(copy.checkpoint.head.root));
    let json = json!({
        "verified": true,
        "origin": copy.checkpoint.origin,
        "size": size.to_string(),
        "root": root,
        "since": since.is_some(),
    });
    let newest =
        if since.is_some() { "" } else { "; without --since it cannot be seen whether newer ones were dropped" };
    Ok((json, format!("{}: {size} events verified, root {root}{newest}", copy.checkpoint.origin)))
}

fn trace(file: &std::path::Path, keys: &[VerifierKey]) -> Result<(Value, String), String> {
    let told = |why: String| format!("{}: {why}", file.display());
    let bytes = bounded(file, chancery_core::trace::bundle::MAX_BYTES).map_err(|e| told(e.to_string()))?;
    let bundle = Bundle::parse(&bytes).map_err(|e| told(e.to_string()))?;
    let shown = bundle.verify(keys).map_err(|e| told(e.to_string()))?;
    let logs: Vec<_> =
        shown.logs.iter().map(|(log, size)| json!({ "origin": log, "size": size.to_string() })).collect();
    let json = json!({
        "verified": true,
        "asked": bundle.asked,
        "events": shown.events.to_string(),
        "cut": bundle.cut,
        "logs": logs,
    });
    let whole =
        if bundle.cut { "; older ones were left out, so the chain is not whole" } else { ", and the chain is whole" };
    let logs: Vec<_> = shown.logs.iter().map(|(log, size)| format!("{log} of {size} events")).collect();
    let told = format!("{}: {} events are in {}{whole}", bundle.asked, shown.events, logs.join(", "));
    Ok((json, told))
}

fn inclusion(copy: &Copy, number: u64) -> Result<(Value, String), String> {
    let included = copy.include(number)?;
    let event = String::from_utf8_lossy(&included.event).into_owned();
    let head = copy.checkpoint.head;
    let json = json!({
        "verified": true,
        "event": event,
        "number": number.to_string(),
        "size": head.size.to_string(),
        "root": hex::encode(head.root),
        "proof": included.proof.iter().map(hex::encode).collect::<Vec<_>>(),
    });
    Ok((json, format!("{event}\nEvent {number} is in the log of {} events", head.size)))
}
