//! The binary `chancery-attestor`.

use std::{os::unix::process::CommandExt, process::ExitCode};

use clap::Parser;

/// The TPM library writes to standard error by itself; its codes reach our log anyway.
const TSS_LOG: (&str, &str) = ("TSS2_LOG", "all+none");

fn main() -> ExitCode {
    let cli = chancery_attestor::cli::Cli::parse();
    if cli.uses_tpm() && std::env::var_os(TSS_LOG.0).is_none() {
        // A process cannot change its own environment safely: it becomes itself once more, under the same pid.
        if let Ok(program) = std::env::current_exe() {
            let failed =
                std::process::Command::new(program).args(std::env::args_os().skip(1)).env(TSS_LOG.0, TSS_LOG.1).exec();
            eprintln!("chancery-attestor: the TPM library stays noisy: {failed}");
        }
    }
    cli.execute()
}
