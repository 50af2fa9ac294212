//! `ceremony`: makes a root, or a CA that a root signs; needs no running CA.

use chancery_daemon::{clock, hardening};
use clap::Args;

use super::{Common, Failure, write};
use crate::ceremony::{self, Run};

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  chancery-ca ceremony --config root.toml --dry-run\n\nThe file is described in docs/CEREMONY.md"
)]
pub struct CeremonyArgs {
    /// Do everything but write: prints the transcript
    #[arg(long)]
    dry_run: bool,
}

/// Holds the ceremony that `--config` describes and prints its transcript.
///
/// # Errors
/// [`Failure`], one line that says what to do.
pub fn run(common: &Common, args: &CeremonyArgs) -> Result<(), Failure> {
    let path = common.config.as_ref().ok_or_else(|| Failure::usage("--config FILE is missing"))?;
    hardening::make_non_dumpable().map_err(|e| Failure::refused(format!("cannot forbid core dumps: {e}")))?;
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let transcript = ceremony::hold(path, run, clock::now()).map_err(|e| Failure::refused(e.to_string()))?;
    write(transcript.to_json().as_bytes())
}
