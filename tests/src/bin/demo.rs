//! The demos: exit 0 only if every act went as told.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Instant,
};

use chancery_tests::demo::{self, Spoil, ha, hsm};
use clap::{Parser, Subcommand};

/// Two TPM nodes, four agents that talk all the time, six attacks and a revocation. Ends by itself.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    other: Option<Other>,
    /// Spoils the demo itself, never the product, so that a test can see it fail.
    #[arg(long, value_enum, hide = true)]
    spoil: Option<Spoil>,
}

#[derive(Subcommand)]
enum Other {
    /// Three servers on one PostgreSQL, killed in turn while agents talk and instances begin. Ends by itself.
    Ha {
        /// Fewer nodes and agents, the same acts: for tests.
        #[arg(long, hide = true)]
        short: bool,
        /// As above.
        #[arg(long, value_enum, hide = true)]
        spoil: Option<ha::Spoil>,
    },
    /// The CA's keys in an HSM that is killed and comes back, nodes with tokens, a tainted key. Ends by itself.
    Hsm {
        /// As above.
        #[arg(long, value_enum, hide = true)]
        spoil: Option<hsm::Spoil>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // libtss2, which records the attestation that act 2 replays, writes to standard error unless told before it is loaded.
    if std::env::var_os("TSS2_LOG").is_none() {
        return again_without_tss_log();
    }
    let begun = Instant::now();
    let verdict = match cli.other {
        None => demo::run(cli.spoil),
        Some(Other::Ha { short, spoil }) => ha::run(spoil, short),
        Some(Other::Hsm { spoil }) => hsm::run(spoil),
    };
    let secs = begun.elapsed().as_secs();
    match verdict {
        Ok(()) => {
            println!("\nevery act went as told, in {secs} s");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("\nNOT as told, after {secs} s: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by itself with `TSS2_LOG` set; returns only when that fails.
fn again_without_tss_log() -> ExitCode {
    let Ok(exe) = std::env::current_exe() else { return ExitCode::FAILURE };
    let problem = Command::new(exe).args(std::env::args_os().skip(1)).env("TSS2_LOG", "all+none").exec();
    eprintln!("demo: {problem}");
    ExitCode::FAILURE
}
