//! The command line: `run`, and what an operator on this machine asks.

mod ek;
mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

/// The Chancery node daemon and its tools.
#[derive(Debug, Parser)]
#[command(name = "chancery-attestor", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What this machine has, what it lacks, and what that costs
    Doctor {
        /// The attestor's configuration
        #[arg(long)]
        config: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Prints the TPM's endorsement keys: what an operator enrols
    Ek {
        /// The attestor's configuration; without it, the TPM at --tcti
        #[arg(long)]
        config: Option<PathBuf>,
        /// Where the TPM is
        #[arg(long, default_value = "device:/dev/tpmrm0", conflicts_with = "config")]
        tcti: String,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Runs the daemon
    Run {
        /// The attestor's configuration
        #[arg(long)]
        config: PathBuf,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// For programs
    Json,
    /// For people
    #[default]
    Pretty,
}

impl Cli {
    /// Whether the command talks to the TPM.
    pub fn uses_tpm(&self) -> bool {
        matches!(self.command, Command::Doctor { .. } | Command::Ek { .. } | Command::Run { .. })
    }

    /// Does what was asked. Exit code 0 = ok, 1 = refused or failed; clap exits 2 on wrong usage.
    pub fn execute(self) -> ExitCode {
        let done = match self.command {
            Command::Doctor { config, output } => ek::doctor(&config, output),
            Command::Ek { config, tcti, output } => ek::ek(config.as_deref(), &tcti, output),
            Command::Run { config } => run::run(&config),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(line) => {
                eprintln!("chancery-attestor: {line}");
                ExitCode::FAILURE
            }
        }
    }
}
