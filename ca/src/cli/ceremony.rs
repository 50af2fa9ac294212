//! `ceremony`: roots, what they sign, and CRLs; needs no running CA.

use chancery_daemon::{clock, hardening, pkcs11::pin};
use clap::Args;

use super::{Common, Failure, write};
use crate::ceremony::{self, Run};

#[derive(Args, Debug)]
#[command(after_help = "\
Kinds: root, intermediate, cross-sign, crl; keys in files or in PKCS#11 tokens. The file is described in docs/CEREMONY.md.

Examples:
  chancery-ca ceremony --config root.toml --dry-run
  chancery-ca ceremony --config root.toml
  chancery-ca ceremony --config intermediate.toml")]
pub struct CeremonyArgs {
    /// Do everything but write, and print the transcript; a key in a token is made under another label and destroyed
    #[arg(long)]
    dry_run: bool,
}

/// Holds the ceremony that `--config` describes and prints its transcript.
///
/// # Errors
/// [`Failure`], one line that says what to do.
pub fn run(common: &Common, args: &CeremonyArgs) -> Result<(), Failure> {
    let path = common.config.as_ref().ok_or_else(|| Failure::usage("--config FILE is missing"))?;
    let told = |e: ceremony::CeremonyError| Failure::refused(e.to_string());
    let secrets = ceremony::secrets(path).map_err(told)?;
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    pin::leave_environment(&secrets).map_err(|e| Failure::refused(format!("cannot hide the PIN: {e}")))?;
    hardening::make_non_dumpable().map_err(|e| Failure::refused(format!("cannot forbid core dumps: {e}")))?;
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let transcript = ceremony::hold(path, run, clock::now()).map_err(told)?;
    write(transcript.to_json().as_bytes())
}
