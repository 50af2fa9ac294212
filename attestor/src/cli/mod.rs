//! The command line: `run`, and what an operator on this machine asks.

mod ek;
mod fetch;
mod local;
mod run;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "Examples:
  chancery-attestor run --config /etc/chancery/attestor.toml
  chancery-attestor fetch x509 --write /run/agent/tls
  chancery-attestor fetch jwt --audience spiffe://prod.example.org/ledger --output json
  chancery-attestor explain --pid 4711
  chancery-attestor ek                                   (what `chancery-ca node enrol --ek` takes)
  chancery-attestor key --config /etc/chancery/attestor.toml   (what `chancery-ca node enrol --key` takes)";

/// The Chancery node daemon and its tools.
#[derive(Debug, Parser)]
#[command(name = "chancery-attestor", version, after_help = EXAMPLES)]
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
    /// What a process is to the attestor: its selectors, the nearest entries and classes, and what each lacks
    Explain {
        /// The process
        #[arg(long)]
        pid: i32,
        /// The attestor's admin socket
        #[arg(long, default_value = local::ADMIN_SOCKET)]
        socket: PathBuf,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Fetches SVIDs or bundles from the Workload API, as any process may
    #[command(subcommand)]
    Fetch(fetch::What),
    /// Exit code 0 when the Workload API can answer
    Healthcheck {
        /// Workload API socket; else SPIFFE_ENDPOINT_SOCKET, else /run/chancery/attestor/workload.sock
        #[arg(long)]
        socket: Option<PathBuf>,
    },
    /// Prints the attestation key of the PKCS#11 token: what an operator enrols. Makes it where there is none yet
    Key {
        /// The attestor's configuration
        #[arg(long)]
        config: PathBuf,
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
    /// Prints every update of this process's X509-SVIDs
    Watch {
        /// Workload API socket; else SPIFFE_ENDPOINT_SOCKET, else /run/chancery/attestor/workload.sock
        #[arg(long)]
        socket: Option<PathBuf>,
        /// How to print
        #[arg(long, value_enum, default_value_t)]
        output: Output,
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
            Command::Explain { pid, socket, output } => ask(local::explain(&socket, pid, output)),
            Command::Fetch(what) => ask(fetch::fetch(what)),
            Command::Healthcheck { socket } => ask(local::healthcheck(socket.as_deref())),
            Command::Key { config, output } => ek::key(&config, output),
            Command::Run { config } => run::run(&config),
            Command::Watch { socket, output } => ask(fetch::watch(socket.as_deref(), output)),
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

/// Runs a question to its answer.
fn ask(question: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(question)
}
