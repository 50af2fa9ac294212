//! The demo: exits 0 only if every act went as told.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::Instant,
};

use chancery_tests::demo::{Spoil, run};
use clap::Parser;

/// Two TPM nodes, four agents that talk all the time, five attacks. Ends by itself.
#[derive(Parser)]
struct Cli {
    /// Spoils the demo itself, never the product, so that a test can see it fail.
    #[arg(long, value_enum, hide = true)]
    spoil: Option<Spoil>,
}

fn main() -> ExitCode {
    let spoil = Cli::parse().spoil;
    // libtss2, which records the attestation that act 2 replays, writes to standard error unless told before it is loaded.
    if std::env::var_os("TSS2_LOG").is_none() {
        return again_without_tss_log();
    }
    let begun = Instant::now();
    let verdict = run(spoil);
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
