//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{mode, span};

const ABOUT: &str = "Puts load on a SPIRE-compatible server over its published gRPC, and measures.

Nodes are real: tokens through the admin socket, AttestAgent, mTLS with the SVIDs that come. What a run makes (nodes, \
entries) it removes at its end. One line for each phase goes to standard output, progress to standard error. Figures \
are worth comparing within one run: every run calls an echo service of its own over the same kind of transport.";

const AFTER: &str =
    "Against a playground (cargo run --release -p chancery-tests --bin playground -- --dir /tmp/pg --attest \
join_token):
  loadgen --playground /tmp/pg/playground.json issue --batch 32 --in-flight 8
Against SPIRE (ratelimit { attestation = false signing = false }):
  loadgen --server 10.0.0.7:8081 --admin-socket /tmp/spire-server/private/api.sock --pid $(pidof spire-server) issue
What each figure means: docs/LOAD.md.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about = ABOUT, after_help = AFTER)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub mode: Mode,
}

/// What all modes understand.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server's mTLS address.
    #[arg(long, global = true, value_name = "IP:PORT")]
    pub server: Option<SocketAddr>,
    /// The server's admin socket (SPIRE: private/api.sock).
    #[arg(long, global = true, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// Trust this bundle (PEM) instead of the one the admin socket tells.
    #[arg(long, global = true, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Count processor time and memory of this process; may be given more than once.
    #[arg(long, global = true, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Take what is not given from a playground's playground.json.
    #[arg(long, global = true, value_name = "FILE")]
    pub playground: Option<PathBuf>,
    /// How lines are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Json)]
    pub output: Output,
    /// How long the measured phase lasts.
    #[arg(long = "for", global = true, value_name = "TIME", default_value = "10s", value_parser = span::parse)]
    pub lasting: Duration,
    /// How long the same load runs before it, told as a phase of its own.
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = span::parse)]
    pub warm_up: Duration,
    /// How long the echo runs before and after; 0s: no echo, and no ratios.
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = span::parse)]
    pub echo: Duration,
    /// Tokens, attestations and clean-up calls under way at once.
    #[arg(long, global = true, value_name = "N", default_value_t = 16)]
    pub setup_parallel: usize,
    /// Leave nodes and entries where they are.
    #[arg(long, global = true)]
    pub keep: bool,
}

/// How lines are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    /// One JSON object a line.
    Json,
    /// A table for people.
    Pretty,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Nodes that ask every few seconds, or only hold their connections.
    #[command(after_help = mode::agents::EXAMPLE)]
    Agents(mode::agents::Args),
    /// Part of a fleet in a process of its own; a run starts these itself.
    #[command(hide = true)]
    Crew,
    /// The echo service of a run; it starts this itself.
    #[command(hide = true)]
    Echo(crate::echo::ServeArgs),
    /// X509-SVIDs by pre-made CSRs (BatchNewX509SVID).
    #[command(after_help = mode::issue::EXAMPLE)]
    Issue(mode::issue::Args),
    /// JWT-SVIDs (NewJWTSVID).
    #[command(after_help = mode::jwt::EXAMPLE)]
    Jwt(mode::jwt::Args),
    /// From a new entry to the nodes that know of it.
    #[command(after_help = mode::propagate::EXAMPLE)]
    Propagate(mode::propagate::Args),
    /// Every connection is lost at once.
    #[command(after_help = mode::reconnect::EXAMPLE)]
    Reconnect(mode::reconnect::Args),
    /// Every node renews at once, its own SVID or its workloads'.
    #[command(after_help = mode::storm::EXAMPLE)]
    Storm(mode::storm::Args),
    /// FetchX509SVID at a Workload API socket, to the first answer.
    #[command(after_help = mode::workload::EXAMPLE)]
    Workload(mode::workload::Args),
}

impl Mode {
    /// Its name, for the output.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Agents(_) => "agents",
            Self::Crew => "crew",
            Self::Echo(_) => "echo",
            Self::Issue(_) => "issue",
            Self::Jwt(_) => "jwt",
            Self::Propagate(_) => "propagate",
            Self::Reconnect(_) => "reconnect",
            Self::Storm(_) => "storm",
            Self::Workload(_) => "workload",
        }
    }
}
